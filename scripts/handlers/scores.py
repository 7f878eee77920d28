# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The validation scores as one Ignite metric: confusion tables gathered on the device, read once at the end."""

from collections.abc import Callable, Sequence

import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.handlers import from_engine
from torch import Tensor

from scripts import distributed, metrics


class SegmentationScores(Metric):
    """All overlap scores of :mod:`scripts.metrics` from the evaluator's logits and labels.

    Attached as ``val_mean_dice`` (``<prefix><key>``), it puts the mean Dice there and every other overlap score
    beside it under the same prefix: ``val_mean_dice_lesion``, ``val_worst_decile_dice``, ``val_miou``,
    ``val_mean_recall``. One instance therefore serves as ``key_val_metric``, and no additional metric counts again.
    The tables stay on the device of the logits until the end of the epoch: no host synchronisation in the loop.
    Under distributed evaluation the tables of all ranks are joined.

    Args:
        num_classes: number of classes, background included.
        key: the score that stands for the metric itself, a key of :func:`scripts.metrics.overlap_scores`.
        output_transform: turns the engine's output into (logits (B, C, X, Y), label (B, 1, X, Y)), or into lists of
            the same without batch axis, which may differ in size.

    Example:
        ``{"val_mean_dice": {"_target_": "scripts.handlers.SegmentationScores", "num_classes": "@num_classes"}}``
    """

    def __init__(
        self, num_classes: int, key: str = "mean_dice", output_transform: Callable = from_engine(["pred", "label"])
    ):
        self.num_classes, self.key = num_classes, key
        super().__init__(output_transform, skip_unrolling=True)

    def reset(self) -> None:
        """Forgets the images seen so far."""
        self._tables: list[Tensor] = []

    def update(self, output: Sequence) -> None:
        """Adds a batch, given as tensors or as lists of images."""
        logits, label = output
        pairs = [(logits, label)] if isinstance(logits, Tensor) else [(p[None], t[None]) for p, t in zip(logits, label)]
        for pair in pairs:
            one_logits, one_label = (tensor.detach().as_subclass(Tensor) for tensor in pair)
            predicted = metrics.predicted_labels(one_logits)
            self._tables.append(metrics.confusion_counts(predicted, one_label[:, 0], self.num_classes))

    def confusion(self) -> Tensor:
        """The confusion tables of all images seen, (N, K, K), of all ranks, on the CPU."""
        if not self._tables:
            raise NotComputableError("no image was scored: the evaluator's list of images is empty")
        return torch.cat(distributed.gathered_objects(torch.cat(self._tables).cpu()))

    def compute(self) -> dict[str, float]:
        """Every overlap score by name."""
        return metrics.overlap_scores(self.confusion())

    def completed(self, engine: Engine, name: str) -> None:
        """Writes the scores into ``engine.state.metrics``: the key score under ``name``, the others beside it."""
        scores = self.compute()
        prefix = name[: -len(self.key)] if name.endswith(self.key) else f"{name}_"
        engine.state.metrics.update({prefix + key: value for key, value in scores.items()})
        engine.state.metrics[name] = scores[self.key]
