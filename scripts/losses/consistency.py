# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Weak-to-strong consistency: cross-entropy against weighted, possibly soft, pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor


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
