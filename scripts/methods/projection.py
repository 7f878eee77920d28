# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The embedding head of the contrastive and ranked losses."""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class ProjectionHead(nn.Sequential):
    """1x1 convolution, SiLU, 1x1 convolution, L2 norm; belongs to a rule, so it is trained and never exported.

    (B, channels, x, y) -> (B, dim, x, y), unit vectors in float32.
    """

    def __init__(self, channels: int, dim: int = 64) -> None:
        super().__init__(nn.Conv2d(channels, dim, 1), nn.SiLU(inplace=True), nn.Conv2d(dim, dim, 1))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(super().forward(features).float(), dim=1)

    def rows(self, features: Tensor) -> Tensor:
        """The same for lists of pixels: (Q, N, channels) -> (Q, N, dim)."""
        return self(features.movedim(-1, 1).unsqueeze(-1)).squeeze(-1).movedim(1, -1)
