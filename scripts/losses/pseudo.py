# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Hard pseudo-labels: which pixels count, and the loss against them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from scripts.losses.consistency import weighted_cross_entropy, weighted_dice_loss


def gate(probabilities: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor]:
    """Pseudo-labels (B, 1, X, Y) of probabilities (B, K, X, Y), and 1 where their confidence reaches ``threshold``."""
    confidence, labels = probabilities.detach().max(dim=1, keepdim=True)
    return labels, (confidence >= threshold).to(probabilities.dtype)


def pseudo_label_loss(logits: Tensor, labels: Tensor, weight: Tensor, dice: float = 1.0) -> Tensor:
    """Cross-entropy + ``dice`` x soft Dice against hard labels, the form of the supervised loss.

    Args:
        logits: (B, K, X, Y).
        labels: (B, 1, X, Y) classes; any value where the weight is 0.
        weight: (B, 1, X, Y) in [0, 1]; the cross-entropy is a mean over all pixels, counted or not.
        dice: weight of the Dice part; 0 leaves it out.
    """
    classes = logits.shape[1]
    target = F.one_hot(labels[:, 0].long().clamp(0, classes - 1), classes).movedim(-1, 1).to(weight.dtype)
    loss = weighted_cross_entropy(logits, target, weight)
    return loss + dice * weighted_dice_loss(logits, target, weight) if dice else loss
