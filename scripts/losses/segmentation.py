# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The supervised loss: cross-entropy + Dice that leave ignored pixels alone."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.distributed import summed
from scripts.losses.consistency import weighted_dice_loss
from scripts.switches import as_bool

IGNORE_INDEX = 255


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored; exactly 0, with zero gradient, where there are none.

    Args:
        logits: (B, K, X, Y).
        labels: (B, X, Y) or (B, 1, X, Y), classes 0..K-1 or ``ignore_index``.
    """
    labels = labels.flatten(0, 1) if labels.ndim == logits.ndim else labels
    # torch's mean over no pixel is 0/0
    total = F.cross_entropy(logits.float(), labels.long(), ignore_index=ignore_index, reduction="sum")
    total, count = summed(total, (labels != ignore_index).sum())
    return total / count.clamp(min=1)


def soft_dice_loss(
    logits: Tensor, labels: Tensor, ignore_index: int = IGNORE_INDEX, smooth: float = 1.0, batch: bool = True
) -> Tensor:
    """1 - soft Dice of the foreground classes without the ignored pixels.

    Counted as in :func:`~scripts.losses.consistency.weighted_dice_loss`.

    Args:
        logits: (B, K, X, Y), K >= 2.
        labels: (B, X, Y) or (B, 1, X, Y).
        smooth: added to numerator and denominator.
        batch: whether it is counted over the whole batch, or image by image over those that hold the class.
    """
    labels = labels.flatten(0, 1) if labels.ndim == logits.ndim else labels
    valid = (labels != ignore_index).unsqueeze(1)
    target = F.one_hot(torch.where(valid[:, 0], labels, 0).long(), logits.shape[1]).movedim(-1, 1)
    return weighted_dice_loss(logits, target, valid, smooth, batch)


class SegmentationLoss(nn.Module):
    """``ce_weight`` x cross-entropy + ``dice_weight`` x soft Dice loss over the pixels that are not ignored.

    (MONAI's ``DiceCELoss`` knows ``ignore_index`` for neither of its halves in a way that also keeps the count right.)

    Args:
        batch_dice: True counts the Dice over the whole batch instead of image by image, as it is measured: see
            :func:`~scripts.losses.consistency.weighted_dice_loss`.
    """

    def __init__(
        self,
        ce_weight: float = 1.0,
        dice_weight: float = 1.0,
        ignore_index: int = IGNORE_INDEX,
        batch_dice: bool = False,
    ) -> None:
        super().__init__()
        self.ce_weight, self.dice_weight, self.ignore_index = ce_weight, dice_weight, ignore_index
        self.batch_dice = as_bool(batch_dice, "method#loss#batch_dice")

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, K, X, Y) and labels (B, 1, X, Y)."""
        loss = self.ce_weight * cross_entropy(logits, labels, self.ignore_index)
        dice = soft_dice_loss(logits, labels, self.ignore_index, batch=self.batch_dice)
        return loss + self.dice_weight * dice
