# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Parts of an image that the patch-wise losses speak about: tiles, boundary bands, class coverage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.losses.segmentation import IGNORE_INDEX


def tile(maps: Tensor, size: int) -> Tensor:
    """Square patches of ``size`` pixels, side by side: (B, C, X, Y) -> (patches, size * size, C).

    What is left over at the far borders belongs to no patch; a smaller image is one patch of its shorter side.
    """
    size = min(size, maps.shape[-2], maps.shape[-1])
    batch, channels, columns, rows = *maps.shape[:2], maps.shape[-2] // size, maps.shape[-1] // size
    maps = maps[..., : columns * size, : rows * size].reshape(batch, channels, columns, size, rows, size)
    return maps.permute(0, 2, 4, 3, 5, 1).reshape(-1, size * size, channels)


def boundary_band(labels: Tensor, radius: int) -> Tensor:
    """Where a pixel of another class lies at most ``radius`` pixels away along both axes; (B, 1, X, Y) -> bool.

    Dilation and erosion by max pooling, for any number of classes; ignored pixels bound nothing and are no band.
    """
    ignored = labels == IGNORE_INDEX
    window = {"kernel_size": 2 * radius + 1, "stride": 1, "padding": radius}
    highest = F.max_pool2d(torch.where(ignored, -1, labels).float(), **window)
    lowest = -F.max_pool2d(torch.where(ignored, -IGNORE_INDEX - 1, -labels.long()).float(), **window)
    return (highest > lowest) & ~ignored


def class_shares(labels: Tensor, num_classes: int) -> Tensor:
    """Share of each patch's pixels that a class covers: (Q, P) -> (Q, num_classes); ignored pixels are of no class."""
    classes = torch.arange(num_classes, device=labels.device)
    return (labels.unsqueeze(-1) == classes).float().mean(dim=1)


def patch_classes(
    labels: Tensor, grid: int, num_classes: int, foreground: float = 0.3, background: float = 0.02
) -> Tensor:
    """The class that a patch stands for, -1 where it is none: (B, 1, X, Y) -> (B, grid * grid).

    A patch is background when the foreground covers less than the share ``background`` of it, and of the widest
    foreground class when that one covers more than ``foreground``; mixed patches, and those with less than half of
    their pixels known, stand for nothing (gating by coverage: an idea of CDCL, Wu et al., CVPR 2022; shares ours).
    """
    classes = torch.arange(num_classes, device=labels.device).view(1, -1, 1, 1)
    share = F.adaptive_avg_pool2d((labels == classes).float(), grid).flatten(2)
    known, (widest, index) = share.sum(dim=1), share[:, 1:].max(dim=1)
    found = torch.where(widest > foreground * known, index + 1, -1)
    found = torch.where(share[:, 1:].sum(dim=1) < background * known, 0, found)
    return torch.where(known >= 0.5, found, -1)
