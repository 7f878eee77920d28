# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The networks that are trained on one image to cluster its pixels: S3-Net, and the plain one it descends from.

S3-Net: Karimijafarbigloo et al., *Self-supervised Semantic Segmentation: Consistency over Transformation*, ICCV
workshops 2023 (arXiv 2309.00143). The layers and the order of them are what the authors' public notebook runs; this
is our own writing of it.
"""

import math
from typing import Tuple

import torch
import torch.nn as nn
from torch import Tensor
from torchvision.ops import deform_conv2d


class LargeKernelAttention(nn.Module):
    """I-LKA, the inception large kernel attention: a gate of 3x3, 9x9 and 19x19 reach, multiplied onto its input.

    A depth-wise 5x5 convolution, three depth-wise ones beside each other (3x3, 5x5 dilated by 2, 7x7 dilated by 3),
    concatenated and mixed by a 1x1; no sigmoid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.scales = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=channels)
            for kernel, dilation in ((3, 1), (5, 2), (7, 3))
        )
        self.mix = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = self.first(x)
        return x * self.mix(torch.cat([scale(near) for scale in self.scales], dim=1))


class AttentionBlock(nn.Module):
    """1x1, GELU, I-LKA, 1x1, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            LargeKernelAttention(channels),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class FixedDeformation(nn.Module):
    """Modulated deformable 3x3 convolution as released: offsets and modulation are free parameters of one image size.

    Offsets, modulation and kernel start uniform in [0, 1); nothing is predicted from the image, so this cannot be
    consistent over a transformation of it, and works for a batch of one image of ``size`` alone.
    """

    def __init__(self, channels: int, size: Tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels, channels, 3, 3))
        self.offset = nn.Parameter(torch.rand(1, 18, *size))
        self.modulation = nn.Parameter(torch.rand(1, 9, *size))

    def forward(self, x: Tensor) -> Tensor:
        return deform_conv2d(x, self.offset, self.weight, padding=1, mask=self.modulation)


class PredictedDeformation(nn.Module):
    """Modulated deformable 3x3 convolution whose offsets and modulation are predicted from its input (Zhu et al.,
    *Deformable ConvNets v2*, CVPR 2019); zero at the start, where it is a plain convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.predict = nn.Conv2d(channels, 27, 3, padding=1)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)

    def forward(self, x: Tensor) -> Tensor:
        offset, modulation = self.predict(x).split([18, 9], dim=1)
        return deform_conv2d(x, offset, self.weight, padding=1, mask=2 * torch.sigmoid(modulation))


class S3Net(nn.Module):
    """Pixels of one image to the logits of ``channels`` clusters, and an auxiliary answer of a 1x1 head.

    Args:
        in_channels: channels of the image.
        channels: width everywhere, and the number of clusters to start from.
        blocks: attention blocks.
        size: (X, Y) of the image for the released deformable layer with free offsets; None predicts them.

    Shapes:
        (B, in_channels, X, Y) in [0, 1] -> logits (B, channels, X, Y), auxiliary logits (B, channels, X, Y); B = 1
        where ``size`` is given.
    """

    def __init__(
        self, in_channels: int = 3, channels: int = 64, blocks: int = 2, size: Tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        layers = [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
        for _ in range(blocks):
            layers += [AttentionBlock(channels), nn.BatchNorm2d(channels)]
        self.features = nn.Sequential(*layers)
        self.auxiliary = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.main = nn.Sequential(
            PredictedDeformation(channels) if size is None else FixedDeformation(channels, size),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        features = self.features(x)
        return self.main(features), self.auxiliary(features)


class PlainClusterNet(nn.Module):
    """The network of differentiable feature clustering (Kim, Kanezaki and Tanaka, IEEE TIP 29, 2020).

    ``depth`` + 1 convolutions 3x3 with ReLU and batch norm, then 1x1 and batch norm.

    Args:
        in_channels: channels of the image.
        channels: width everywhere, and the number of clusters to start from.
        depth: further 3x3 convolutions after the first (the authors' code calls it nConv - 1).

    Shapes:
        (B, in_channels, X, Y) in [0, 1] -> logits (B, channels, X, Y).
    """

    def __init__(self, in_channels: int = 3, channels: int = 100, depth: int = 1) -> None:
        super().__init__()
        layers = []
        for before in (in_channels, *(channels,) * depth):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(channels)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
