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


def weighted_dice_loss(
    logits: Tensor, target: Tensor, weight: Tensor, smooth: float = 1.0, batch: bool = True
) -> Tensor:
    """1 - soft Dice of the foreground classes, every pixel counted ``weight`` times.

    Counted over the whole batch, images without a lesion do not dominate at 1 % foreground: an empty image alone would
    have a Dice that only asks for background. Counted image by image, a small lesion weighs as much as a large one;
    there only the images that hold the class count for it.

    Args:
        logits: (B, K, X, Y), K >= 2.
        target: (B, K, X, Y) probabilities (one-hot for hard labels).
        weight: (B, 1, X, Y) in [0, 1].
        smooth: added to numerator and denominator.
        batch: False: the mean over images and classes, 0 where no image holds any.
    """
    probabilities = torch.softmax(logits.float(), dim=1) * weight
    axes = (0, 2, 3) if batch else (2, 3)
    overlap = (probabilities * target).sum(dim=axes)[..., 1:]
    sizes = (probabilities + target * weight).sum(dim=axes)[..., 1:]
    if batch:
        overlap, sizes = summed(overlap, sizes)
        return 1 - ((2 * overlap + smooth) / (sizes + smooth)).mean()
    losses = 1 - (2 * overlap + smooth) / (sizes + smooth)
    likeliest = target == target.amax(dim=1, keepdim=True)  # soft targets are 0 nowhere
    held = (likeliest * weight).sum(dim=axes)[..., 1:] > 0
    total, count = summed((losses * held).sum(), held.sum())
    return total / count.clamp(min=1)
