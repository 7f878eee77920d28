# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Losses against weighted, possibly soft targets: what consistency with pseudo-labels needs."""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.distributed import summed


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over all pixels of ``weight * CE(logits, target)``.

    The mean is over all pixels, not over the accepted ones: as long as the teacher is unsure, few pixels count and
    the term stays small by itself (FixMatch, Sohn et al., NeurIPS 2020, eq. 4).

    Args:
        logits: (B, K, X, Y).
        target: (B, K, X, Y) probabilities (one-hot for hard pseudo-labels).
        weight: (B, 1, X, Y) in [0, 1].
    """
    per_pixel = -(target * torch.log_softmax(logits.float(), dim=1)).sum(dim=1, keepdim=True)
    return (per_pixel * weight).mean()


def weighted_dice_loss(logits: Tensor, target: Tensor, weight: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice of the foreground classes, every pixel counted ``weight`` times, counted over the whole batch.

    Batch-wise counting keeps images without a lesion from dominating at 1 % foreground: an empty image alone would
    have a Dice that only asks for background.

    Args:
        logits: (B, K, X, Y), K >= 2.
        target: (B, K, X, Y) probabilities (one-hot for hard labels).
        weight: (B, 1, X, Y) in [0, 1].
        smooth: added to numerator and denominator.
    """
    probabilities = torch.softmax(logits.float(), dim=1) * weight
    overlap = (probabilities * target).sum(dim=(0, 2, 3))[1:]
    sizes = (probabilities + target * weight).sum(dim=(0, 2, 3))[1:]
    overlap, sizes = summed(overlap, sizes)
    return 1 - ((2 * overlap + smooth) / (sizes + smooth)).mean()
