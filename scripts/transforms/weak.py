# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The weak view: random geometry on a whole batch, the mask carried along exactly."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.losses import IGNORE_INDEX


class WeakView(nn.Module):
    """Random flips, quarter turns, rotation, scaling and shift, one draw per image, in one resampling.

    Images are resampled bilinearly and continued by reflection; masks are resampled at the same points by nearest
    neighbour and hold ``ignore_index`` where the view looks past the frame, so no invented mask is ever trained on; on
    images without a mask the rules also use the reflected margin.
    Runs on the device of its input and draws from torch's global generator of that device (``set_determinism``).

    Args:
        flip: probability of a flip of each axis; also of a quarter turn (square images only).
        rotate: largest rotation in degrees.
        scale: largest zoom factor (drawn log-uniformly in [1/scale, scale]).
        shift: largest shift as a share of the size.
        probability: share of the images that get rotation, scaling and shift; flips are drawn apart.
        ignore_index: mask value past the frame.

    Attributes:
        resolution: size of the views as a share of that of the images, 1 at first; sizes are multiples of 8 pixels, at
            least 32. :class:`scripts.handlers.ProgressiveSize` sets it in the course of a run.
    """

    def __init__(
        self,
        flip: float = 0.5,
        rotate: float = 30.0,
        scale: float = 1.4,
        shift: float = 0.1,
        probability: float = 0.8,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        self.flip, self.rotate, self.scale, self.shift = flip, math.radians(rotate), math.log(scale), shift
        self.probability, self.ignore_index = probability, ignore_index
        self.resolution = 1.0

    @torch.no_grad()
    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(image (B, C, X, Y) in [0, 1], label (B, 1, X, Y) or None) -> both seen through one random geometry."""
        size = self.size(image)
        if not len(image):  # a batch without labelled images: of the views' size, to be joined with those of the others
            empty = image.new_zeros(0, image.shape[1], *size)
            return empty, None if label is None else label.new_zeros(0, label.shape[1], *size)
        with torch.autocast(image.device.type, enabled=False):  # half of the precision is up to a pixel off
            grid = F.affine_grid(self.draw(image), [*image.shape[:2], *size], align_corners=False)
            warped = F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
            if label is None:
                return warped, None
            # shifted by one, so that the zeros past the frame tell themselves from class 0
            moved = F.grid_sample(label.to(grid.dtype) + 1, grid, mode="nearest", align_corners=False).round().long()
        return warped, torch.where(moved == 0, self.ignore_index, moved - 1)

    def size(self, image: Tensor) -> list[int]:
        """Size of the views of ``image``."""
        sides = list(image.shape[-2:])
        if self.resolution == 1:
            return sides
        return [min(side, max(32, 8 * round(side * self.resolution / 8))) for side in sides]

    def draw(self, image: Tensor) -> Tensor:
        """Random affine matrices (B, 2, 3) in the normalised coordinates of ``F.affine_grid``."""
        size, device = image.shape[0], image.device
        x_size, y_size = image.shape[-2:]
        random = torch.rand(size, 8, device=device)
        active = (random[:, 0] < self.probability).float()
        angle = (2 * random[:, 1] - 1) * self.rotate * active
        if x_size == y_size:
            angle = angle + (random[:, 2] < self.flip).float() * (math.pi / 2)
        zoom = torch.exp((2 * random[:, 3] - 1) * self.scale * active)
        flips = 1 - 2 * (random[:, 4:6] < self.flip).float()
        shift = (2 * random[:, 6:8] - 1) * 2 * self.shift * active.unsqueeze(1)
        # affine_grid's first coordinate runs along the last axis; the aspect ratio keeps rotations rigid
        cos, sin, aspect = torch.cos(angle) * zoom, torch.sin(angle) * zoom, x_size / y_size
        rows = [
            torch.stack([cos * flips[:, 0], -sin * aspect * flips[:, 1], shift[:, 0]], dim=1),
            torch.stack([sin / aspect * flips[:, 0], cos * flips[:, 1], shift[:, 1]], dim=1),
        ]
        return torch.stack(rows, dim=1)
