# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How ragged a clustering is: terms on its edges, with and without a gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: 3x3 Sobel kernels, first along X, then along Y, then the mixed derivative of both
SOBEL = (
    ((-1.0, -2.0, -1.0), (0.0, 0.0, 0.0), (1.0, 2.0, 1.0)),
    ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0)),
    ((1.0, 0.0, -1.0), (0.0, 0.0, 0.0), (-1.0, 0.0, 1.0)),
)


def sobel(maps: Tensor) -> Tensor:
    """Derivatives d/dx, d/dy and d2/dxdy of every channel: (B, C, X, Y) -> (3, B, C, X, Y), borders replicated.

    In float32, also where mixed precision would take half of it; on a GPU the maps are rounded to TF32 (10 bits of
    mantissa) as cuDNN does by default, ``torch.backends.cudnn.allow_tf32``.
    """
    maps = maps.float() if maps.dtype.itemsize < 4 else maps
    # made on a GPU itself they would wait for it
    kernels = torch.tensor(SOBEL, dtype=maps.dtype).unsqueeze(1).to(maps.device, non_blocking=True)
    single = F.pad(maps.flatten(0, 1).unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    with torch.autocast(maps.device.type, enabled=False):
        return F.conv2d(single, kernels).movedim(1, 0).unflatten(1, maps.shape[:2])


def edge_difference(maps: Tensor) -> Tensor:
    """``mean|Gy - Gx| + mean|Gxy - Gx| + mean|Gxy - Gy|`` of the Sobel derivatives, averaged over the channels.

    The three differences of S3-Net's spatial loss (Karimijafarbigloo et al., ICCV workshops 2023); on softmax
    probabilities it has a gradient.

    Args:
        maps: (B, C, X, Y).
    """
    x, y, mixed = sobel(maps)
    return (y - x).abs().mean() + (mixed - x).abs().mean() + (mixed - y).abs().mean()


def drawn_edge_difference(labels: Tensor, clusters: int) -> Tensor:
    """:func:`edge_difference` of the hard labels (B, X, Y), drawn as grey values from a random palette; no gradient.

    This is what S3-Net's released code adds to its loss: it comes from the argmax, so it is a constant that changes
    the printed total, never a weight. It depends on the palette, which is drawn from torch's global generator.
    """
    palette = torch.rand(clusters, device=labels.device)
    return edge_difference(palette[labels].unsqueeze(1) * 255).detach()


def neighbour_difference(maps: Tensor) -> Tensor:
    """Mean absolute difference of neighbours along X, plus that along Y (Kim et al., IEEE TIP 29, 2020, eq. 4).

    Args:
        maps: (B, C, X, Y), for instance the logits of the clusters.
    """
    return maps.diff(dim=2).abs().mean() + maps.diff(dim=3).abs().mean()
