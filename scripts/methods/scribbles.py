# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the rules for scribbles share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn as nn
from torch import Tensor

from scripts.errors import InputError
from scripts.losses import IGNORE_INDEX, PartialCrossEntropy
from scripts.methods.base import LearningRule
from scripts.networks.multi_scale import SeveralAnswers


class ScribbleRule(LearningRule):
    """Base of the rules that learn from scribbles: the supervised loss is the partial cross-entropy.

    A label holds 255 wherever nobody drew; background is drawn like any class. Images without any label (the
    unlabelled stream, where a run has one) join as images without a stroke.
    """

    default_loss = PartialCrossEntropy


class SeveralHeadsRule(ScribbleRule):
    """Base of the scribble rules whose network gives several answers while it trains.

    Args:
        network: a :class:`scripts.networks.MultiScale` or :class:`scripts.networks.TwoDecoders` around the network
            that is deployed; its training-only parts are followed by the teacher and saved with the run's checkpoint,
            but never deployed.

    Raises:
        InputError: a network without several heads.
    """

    def __init__(self, network: nn.Module, **common) -> None:
        if not isinstance(network, SeveralAnswers):
            raise InputError(
                f"method#network: {type(self).__name__} needs a network with several heads, such as "
                "scripts.networks.MultiScale around yours: use the student of its overlay"
            )
        super().__init__(network, **common)

    @property
    def deployed(self) -> nn.Module:
        """The averaged network without its wrapper: what every other rule deploys."""
        return self.teacher.module.network


def annotated(batch: Mapping[str, Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """All images (B + U, C, X, Y) of a batch and their labels (B + U, 1, X, Y), 255 all over the unlabelled ones."""
    images, labels = batch["labelled"]["image"], batch["labelled"]["label"]
    more = batch.get("unlabelled", {}).get("image")
    if more is None:
        return images, labels
    nothing = torch.full((len(more), *labels.shape[1:]), IGNORE_INDEX, dtype=labels.dtype, device=labels.device)
    return torch.cat([images, more]), torch.cat([labels, nothing])
