# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A coarse and a refined answer from one pass of any network, after the idea of CRII-Net."""

from typing import Optional, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.networks.base import SegmentationNetwork
from scripts.networks.lessnet import conv_bn_act, expect
from scripts.networks.wrapper import NetworkWrapper, probe

Answer = Union[Tensor, Tuple[Tensor, Tensor], Tuple[Tensor, Tensor, Tensor]]


class CoarseRefined(NetworkWrapper):
    """A coarse head at stride 4 and a refinement at full size around any :class:`SegmentationNetwork`.

    Published of CRII-Net (Du et al., IEEE JBHI 27(8), 2023): a coarse-refined network and a consistency between its
    two outputs. How is our choice:

    * coarse: 1x1 convolution on the decoder's features at stride 4, upsampled;
    * refinement: two 3x3 convolutions on [image, the map that the network classifies, coarse probabilities];
    * refined = the network's own logits + 1x1 convolution of the refinement, which starts at 0. So the wrapped
      network starts as what it is without wrapper, and no part of it lies idle.

    ``network(x)`` gives the refined logits, the ones that are evaluated and exported;
    ``network(x, return_heads=True)`` gives (refined logits, coarse logits, refinement (B, ``refined_channels``, X, Y)).

    Args:
        network: the network to wrap; not copied.
        in_channels, out_channels: channels of the image, number of classes with background, as of ``network``.
        width: channels of the refinement.
        dropout: channel dropout before the last convolution.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        in_channels: int = 3,
        out_channels: int = 2,
        width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(network)
        self.refined_channels = width
        fused_channels, _ = probe(network, in_channels)
        self.coarse = nn.Conv2d(network.feature_channels, out_channels, 1)
        expect(self.coarse, 0.05)
        self.refine = nn.Sequential(
            conv_bn_act(in_channels + fused_channels + out_channels, width), conv_bn_act(width, width)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.correct = nn.Conv2d(width, out_channels, 1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(
        self,
        x: Tensor,
        return_features: bool = False,
        feature_dropout: Optional[Tensor] = None,
        return_heads: bool = False,
    ) -> Answer:
        size = (x.shape[-2], x.shape[-1])
        fused, features = self.decode(self.perturbed(self.encode(x), feature_dropout))
        coarse = F.interpolate(self.coarse(features), size=size, mode="bilinear", align_corners=False)
        full = F.interpolate(fused, size=size, mode="bilinear", align_corners=False)
        refinement = self.refine(torch.cat([x, full, torch.softmax(coarse, dim=1).to(x.dtype)], dim=1))
        refined = self.classify(fused, size) + self.correct(self.dropout(refinement))
        if return_heads:
            return refined, coarse, refinement
        if return_features:
            return refined, features
        return refined
