# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Random boxes for CutMix (Yun et al., ICCV 2019; on segmentation: French et al., BMVC 2020), for whole batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def random_boxes(
    batch: int,
    size: tuple[int, int],
    device: torch.device,
    area: tuple[float, float] = (0.05, 0.5),
    p: float = 1.0,
    aspect: float = 3.0,
) -> Tensor:
    """Boolean masks (B, 1, X, Y): one box per image covering a share of the image drawn in ``area``.

    The aspect ratio against the frame is log-uniform in [1/``aspect``, ``aspect``] (clipped at the frame); with
    probability ``1 - p`` the mask is empty.
    """
    random = torch.rand(5, batch, device=device)
    share = area[0] + (area[1] - area[0]) * random[0]
    ratio = torch.exp((2 * random[1] - 1) * math.log(aspect))
    width, height = (share * ratio).sqrt().clamp(max=1.0), (share / ratio).sqrt().clamp(max=1.0)
    left, top = random[2] * (1 - width), random[3] * (1 - height)
    x = (torch.arange(size[0], device=device) + 0.5) / size[0]
    y = (torch.arange(size[1], device=device) + 0.5) / size[1]
    inside_x = (x >= left.unsqueeze(1)) & (x < (left + width).unsqueeze(1))
    inside_y = (y >= top.unsqueeze(1)) & (y < (top + height).unsqueeze(1))
    boxes = inside_x.unsqueeze(2) & inside_y.unsqueeze(1) & (random[4] < p).view(-1, 1, 1)
    return boxes.unsqueeze(1)


def another(size: int, device: torch.device) -> Tensor:
    """For every image of a batch the index (B,) of another one, the same random step onwards for all."""
    step = torch.randint(1, max(size, 2), (1,), device=device)
    return (torch.arange(size, device=device) + step) % size


def cut_mix(
    tensors: Sequence[Tensor], p: float = 0.5, area: tuple[float, float] = (0.02, 0.4), aspect: float = 3.0
) -> list[Tensor]:
    """Pastes a box of another image into the share ``p`` of the images, the same box in every tensor (B, C, X, Y).

    The default share and area are those that UniMatch (Yang et al., CVPR 2023) published.
    """
    first = tensors[0]
    partner = another(len(first), first.device)
    boxes = random_boxes(len(first), (first.shape[-2], first.shape[-1]), first.device, area, p, aspect)
    return [torch.where(boxes, values[partner], values) for values in tensors]
