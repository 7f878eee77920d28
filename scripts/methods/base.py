# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What every learning rule is: a small object that turns a batch into named losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
import torch.nn as nn
from torch import Tensor

from scripts.errors import InputError
from scripts.losses import SegmentationLoss
from scripts.methods.teacher import EMATeacher
from scripts.networks.base import check_features

Weight = float | Callable[[float], float]


class LearningRule(nn.Module, ABC):
    """Base of the learning rules. A rule is one file that implements :meth:`forward`.

    The trainer calls ``rule(network, batch, progress)``, sums the named losses with their weights, steps, and calls
    :meth:`update`. Whatever only training needs (teacher, projection head, memories, a second network) is a submodule
    or buffer of the rule: it is saved with the checkpoint, moved with ``.to(device)``, and its parameters are trained.

    Every rule owns the EMA of the student, because averaged weights are what is evaluated and exported, whichever the
    rule; rules with a teacher use the same average as their teacher.

    A rule without settings of its own needs no constructor; one with declares those by keyword and hands the rest on
    as ``**common``: the arguments of LearningRule, which the overrides of the command line know all the same.

    Args:
        network: the student, for the teacher's copy.
        weights: loss name -> weight or ramp of the progress; names not given weigh 1.
        loss: supervised loss of (logits, labels); None = the rule's :attr:`default_loss`.
        strong_view: photometric view of the labelled images (and of what the rule wants); None = none.
        decay: EMA decay of the teacher.

    Raises:
        InputError: a weight of a loss that the rule does not have, or a network that cannot do what the rule asks for.
    """

    #: names of the losses that the rule may return, for the check of ``weights``
    losses: tuple[str, ...] = ("supervised",)
    #: class of the supervised loss where ``loss`` is not given
    default_loss: type[nn.Module] = SegmentationLoss
    #: whether the rule asks the network for more than logits: for its features, or for perturbed ones
    needs_features: bool = False

    def __init__(
        self,
        network: nn.Module,
        weights: Mapping[str, Weight] | None = None,
        loss: nn.Module | None = None,
        strong_view: nn.Module | None = None,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        unknown = sorted(set(weights or {}) - set(self.losses))
        if unknown:
            raise InputError(
                f"method#weights: {type(self).__name__} has no loss {', '.join(unknown)}; its losses are "
                f"{', '.join(self.losses)}"
            )
        if self.needs_features:
            check_features(network, type(self).__name__)
        self.weights = dict(weights or {})
        self.loss = loss if loss is not None else self.default_loss()
        self.strong_view = strong_view if strong_view is not None else nn.Identity()
        self.teacher = EMATeacher(network, decay)
        self.statistics: dict[str, Tensor] = {}

    @abstractmethod
    def forward(self, network: nn.Module, batch: Mapping[str, Mapping[str, Tensor]], progress: float) -> dict:
        """Named losses (scalars with gradient) of one batch.

        Args:
            network: the student (possibly wrapped by DDP or compiled), in training mode.
            batch: ``{"labelled": {"image": (B, C, X, Y) in [0, 1], "label": (B, 1, X, Y) long}, "unlabelled":
                {"image": (U, C, X, Y)}}`` on the device, already through the weak view; labels hold 255 where ignored.
                B is 0 at a federated site without masks.
            progress: share of the run done, in [0, 1).
        """

    def labelled(self, batch: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """The labelled part of a batch, for rules that teach nothing without it.

        The others read ``batch["labelled"]``, which may hold no image: their supervised loss is then 0, and the
        teacher, which is the network that was received, teaches alone.

        Raises:
            InputError: no image is labelled.
        """
        if not len(batch["labelled"]["image"]):
            raise InputError(
                f"no image here is labelled, and {type(self).__name__} learns nothing without: use a rule whose "
                "teacher is the network that was received, such as configs/methods/less_net.yaml"
            )
        return batch["labelled"]

    def unlabelled(self, batch: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The unlabelled images (U, C, X, Y) of a batch.

        Raises:
            InputError: the run was started without.
        """
        if "unlabelled" not in batch:
            raise InputError(
                f"unlabelled_batch_size is 0, but {type(self).__name__} learns from unlabelled images: give 1 or more"
            )
        return batch["unlabelled"]["image"]

    def weights_at(self, progress: float) -> dict[str, float]:
        """Weight of every loss at ``progress``."""
        weights = {name: self.weights.get(name, 1.0) for name in self.losses}
        return {name: float(w(progress)) if callable(w) else float(w) for name, w in weights.items()}

    def total(self, losses: Mapping[str, Tensor], progress: float) -> Tensor:
        """Weighted sum of the named losses."""
        weights = self.weights_at(progress)
        return torch.stack([weights[name] * value for name, value in losses.items()]).sum()

    def update(self, network: nn.Module, iteration: int) -> None:
        """Follow the student after the optimiser's step number ``iteration`` (from 1)."""
        self.teacher.update(network, iteration)

    def sync(self, network: nn.Module) -> None:
        """Start of a run: the teacher becomes the student, which may just have loaded a checkpoint."""
        self.teacher.sync(network)

    @property
    def deployed(self) -> nn.Module:
        """The network that is evaluated and exported."""
        return self.teacher.module
