# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The 1.8 M U-Net that the public code of many semi-supervised peers shares, built from MONAI's parts."""

from collections.abc import Sequence
from typing import Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import Tensor

from scripts.networks.base import SegmentationNetwork


class SSL4MISUNet(SegmentationNetwork):
    """Two 3x3 convolutions a scale with dropout between them, 1x1 + bilinear upsampling, concatenation, a 3x3 head.

    Published facts (SSL4MIS, and the medical code of UniMatch and BCP, which took it from there): channels 16 to 256,
    batch norm, leaky ReLU (0.01), dropout 0.05 to 0.5 growing with depth in the encoder and none in the decoder,
    1.81 M parameters with 1x1 convolution and bilinear upsampling with aligned corners, as here. (SSL4MIS also has
    transposed convolutions in some of its versions.) Images of odd size are our addition.

    Args:
        in_channels, out_channels: channels of the image, number of classes with background.
        channels: feature channels at strides 1, 2, 4, 8, 16.
        dropout: dropout of each encoder scale; one number for all of them.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: Union[float, Sequence[float]] = (0.05, 0.1, 0.2, 0.3, 0.5),
    ) -> None:
        super().__init__()
        drops = [float(dropout)] * len(channels) if isinstance(dropout, (int, float)) else list(dropout)
        inputs = (in_channels, *channels[:-1])
        self.down = nn.ModuleList(two_convolutions(*sizes) for sizes in zip(inputs, channels, drops))
        # deepest first
        pairs = list(zip(channels[:0:-1], channels[-2::-1]))
        self.reduce = nn.ModuleList(nn.Conv2d(deep, shallow, 1) for deep, shallow in pairs)
        self.up = nn.ModuleList(two_convolutions(2 * shallow, shallow, 0.0) for _, shallow in pairs)
        self.head = nn.Conv2d(channels[0], out_channels, 3, padding=1)
        self.feature_channels = channels[2]

    def encode(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.max_pool2d(x, 2))
            maps.append(x)
        return maps

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        x = maps[4]
        fused: list[Tensor] = []
        for i, (reduce, up) in enumerate(zip(self.reduce, self.up)):
            skip = maps[3 - i]
            x = F.interpolate(reduce(x), size=skip.shape[-2:], mode="bilinear", align_corners=True)
            x = up(torch.cat([skip, x], dim=1))
            fused.append(x)
        return fused[3], fused[1]

    def classify(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        return self.head(fused)


def two_convolutions(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """3x3 convolution, batch norm, leaky ReLU, dropout, and the same without dropout."""
    common = {"kernel_size": 3, "act": ("leakyrelu", {"negative_slope": 0.01}), "norm": "batch", "adn_ordering": "NAD"}
    return nn.Sequential(
        Convolution(2, in_channels, out_channels, dropout=dropout or None, **common),
        Convolution(2, out_channels, out_channels, **common),
    )
