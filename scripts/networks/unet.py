# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The peers' U-Net, from MONAI's ``BasicUNet`` parts, with the features and perturbations that the rules ask for."""

from monai.networks.nets import BasicUNet
from torch import Tensor

from scripts.networks.base import SegmentationNetwork


class UNet(SegmentationNetwork):
    """MONAI ``BasicUNet`` of five scales (Falk et al., Nature Methods 2019), as :class:`SegmentationNetwork`.

    With the default channels 16 to 256 it has 1.9 M parameters, the size that most semi-supervised peers use.

    Args:
        in_channels, out_channels: channels of the image, number of classes with background.
        channels: feature channels at strides 1, 2, 4, 8, 16.
        dropout: dropout in every convolution block.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # BasicUNet's sixth number is the width of its last decoder level
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            features=(*channels, channels[0]),
            norm=("batch", {"affine": True}),
            dropout=dropout,
        )
        self.feature_channels = channels[2]

    def encode(self, x: Tensor) -> list[Tensor]:
        x0 = self.unet.conv_0(x)
        x1 = self.unet.down_1(x0)
        x2 = self.unet.down_2(x1)
        x3 = self.unet.down_3(x2)
        return [x0, x1, x2, x3, self.unet.down_4(x3)]

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        x0, x1, x2, x3, x4 = maps
        u4 = self.unet.upcat_4(x4, x3)
        u3 = self.unet.upcat_3(u4, x2)
        u1 = self.unet.upcat_1(self.unet.upcat_2(u3, x1), x0)
        return u1, u3

    def classify(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        return self.unet.final_conv(fused)
