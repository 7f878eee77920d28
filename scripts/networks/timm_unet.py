# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A U-Net on any convolutional encoder of timm, the way segmentation_models builds them."""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.networks.base import SegmentationNetwork
from scripts.networks.lessnet import build_encoder, conv_bn_act


class TimmUNet(SegmentationNetwork):
    """Encoder of timm with strides 2 to 32, plain decoder: nearest upsampling, concatenated skip, two 3x3 convolutions.

    The decoder's form is that of segmentation_models' U-Net (Iakubovskii, 2019): five levels, of which the last, at
    full resolution, has no skip; its widths (256 to 16 there) are halved here to suit an encoder of half a million
    parameters.

    Args:
        in_channels, out_channels: channels of the image, number of classes with background.
        backbone: any timm model with ``features_only`` and strides 2, 4, 8, 16, 32.
        widths: channels of the decoder at strides 16, 8, 4, 2, 1.
        dropout: channel dropout before the head.
        pretrained: True loads timm's published weights (needs the network), a path loads them from that file.

    Raises:
        InputError: unknown backbone, a ``pretrained`` file that is missing or of another network, or no download.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        backbone: str = "mobilenetv2_050",
        widths: Sequence[int] = (128, 64, 32, 16, 16),
        dropout: float = 0.0,
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(backbone, in_channels, pretrained)
        maps = self.encoder.feature_info.channels()
        skips, deeper = (*maps[3::-1], 0), (maps[4], *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(conv_bn_act(below + skip, width), conv_bn_act(width, width))
            for below, skip, width in zip(deeper, skips, widths)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], out_channels, 3, padding=1)
        self.feature_channels = widths[2]

    def encode(self, x: Tensor) -> list[Tensor]:
        return self.encoder(x)

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        x = maps[4]
        fused: list[Tensor] = []
        for i, level in enumerate(self.levels):
            if i < 4:
                skip = maps[3 - i]
                x = level(torch.cat([F.interpolate(x, size=skip.shape[-2:], mode="nearest"), skip], dim=1))
                fused.append(x)
        return x, fused[2]

    def classify(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        # the last level knows no skip, so the image's size comes from the caller
        x = F.interpolate(fused, size=size, mode="nearest")
        return self.head(self.dropout(self.levels[4](x)))
