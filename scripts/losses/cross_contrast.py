# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Contrast between two networks' embeddings of the same images, patch by patch and pixel by pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.losses.contrast import class_info_nce, sample_per_class
from scripts.losses.regions import boundary_band


def pool_patches(embeddings: Tensor, grid: int) -> Tensor:
    """L2-normalised mean embedding of every patch: (B, D, x, y) -> (B * grid * grid, D)."""
    pooled = F.adaptive_avg_pool2d(embeddings, grid).flatten(2).transpose(1, 2).flatten(0, 1)
    return F.normalize(pooled, dim=1)


def patch_contrast(
    anchors: Tensor,
    others: Tensor,
    classes: Tensor,
    memory: Tensor,
    memory_classes: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    """InfoNCE of patches: positive is the same patch in the other network, negatives are patches of other classes.

    Patches of the anchor's own class are neither. See :func:`~scripts.losses.contrast.class_info_nce`.

    Args:
        anchors, others: (N, D), the patches in the one and in the other network.
        classes: (N,), -1 = not used.
        memory, memory_classes: (M, D) and (M,), earlier patches of the other network.
    """
    keys, key_classes = torch.cat([others, memory]), torch.cat([classes, memory_classes])
    own = torch.eye(len(anchors), len(keys), dtype=torch.bool, device=anchors.device)
    neither = (classes.unsqueeze(1) == key_classes.unsqueeze(0)) & ~own
    return class_info_nce(anchors, classes, keys, key_classes, temperature, neither)


def pixel_contrast(
    first: Tensor, second: Tensor, labels: Tensor, num_classes: int, samples: int = 256, temperature: float = 0.1
) -> Tensor:
    """Supervised contrast of pixels between two networks, both ways: same class together, other classes apart.

    Half of the sampled pixels lie beside a boundary of the labels.

    Args:
        first, second: (B, D, x, y), L2-normalised embeddings of the same images.
        labels: (B, 1, X, Y), 255 where a pixel is not used.
        samples: pixels of a class and batch.
    """
    small = F.interpolate(labels.float(), size=first.shape[-2:], mode="nearest").long()
    beside = torch.where(boundary_band(small, 1), small, -1)
    halves = ((beside, samples // 2), (small, samples - samples // 2))
    drawn = [sample_per_class(candidates.flatten(), num_classes, count) for candidates, count in halves]
    index, classes = (torch.cat(parts) for parts in zip(*drawn))
    one, other = (values.movedim(1, -1).flatten(0, 2)[index] for values in (first, second))
    forth = class_info_nce(one, classes, other, classes, temperature)
    return (forth + class_info_nce(other, classes, one, classes, temperature)) / 2
