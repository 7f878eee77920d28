# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Noise on the input, as self-ensembling methods use it."""

from __future__ import annotations

import torch
from torch import Tensor


def noisy(images: Tensor, deviation: float = 0.1) -> Tensor:
    """Images (B, C, X, Y) with Gaussian noise of this standard deviation, clipped at twice of it; 0 adds none."""
    if not deviation:
        return images
    return images + (torch.randn_like(images) * deviation).clamp(-2 * deviation, 2 * deviation)
