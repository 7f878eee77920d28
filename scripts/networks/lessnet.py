# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""LESS-Net's network: a MobileViT encoder and a thin decoder that fuses several scales at every level.

An implementation that follows the published abstract (Lai et al., *LESS-Net*, Frontiers in Physiology 16:1644589,
2025: MobileViT backbone, multi-scale feature fusion better than plain skip connections) with our own, documented
choices; no official code was found. The encoder is timm's (Mehta and Rastegari, *MobileViT*, ICLR 2022).
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError
from scripts.networks.base import SegmentationNetwork


def conv_bn_act(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, SiLU (the activation of MobileViT); 'same' padding, so stride 2 gives ceil(n/2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.SiLU(inplace=True),
    )


def upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of (B, C, x, y) to the spatial size of ``like``."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class GatedFusion(nn.Module):
    """One decoder level: fuses the deeper decoder output, the encoder map of this scale and its shallower neighbour.

    Each source is brought to ``width`` channels at this scale; a softmax gate, predicted per pixel from all of them,
    weighs the sources; ``depth`` 3x3 convolutions mix the sum. A plain skip connection is the special case in which
    the gate ignores its input and the neighbour.

    Args:
        deeper, lateral, shallower: channels of the three sources; ``shallower`` 0 where there is none.
        width: channels of the level.
        depth: number of 3x3 convolutions after the gate.
        gated: False gives equal weights (the ablation of the gate).
    """

    def __init__(
        self, deeper: int, lateral: int, shallower: int, width: int, depth: int = 2, gated: bool = True
    ) -> None:
        super().__init__()
        self.deeper = conv_bn_act(deeper, width, 1)
        self.lateral = conv_bn_act(lateral, width, 1)
        # a strided depth-wise convolution before the 1x1: learned pooling, and ceil(n/2) like the encoder's own strides
        self.shallower = (
            nn.Sequential(
                nn.Conv2d(shallower, shallower, 3, 2, 1, groups=shallower, bias=False), conv_bn_act(shallower, width, 1)
            )
            if shallower
            else None
        )
        sources = 3 if shallower else 2
        self.gate = nn.Conv2d(sources * width, sources, 1) if gated else None
        self.mix = nn.Sequential(*[conv_bn_act(width, width) for _ in range(depth)])

    def forward(self, deeper: Tensor, lateral: Tensor, shallower: Tensor | None) -> Tensor:
        sources = [upsample_to(self.deeper(deeper), lateral), self.lateral(lateral)]
        if self.shallower is not None and shallower is not None:
            sources.append(self.shallower(shallower))
        stacked = torch.stack(sources, dim=1)  # (B, S, width, x, y)
        if self.gate is None:
            return self.mix(stacked.sum(dim=1))
        weights = torch.softmax(self.gate(torch.cat(sources, dim=1)), dim=1) * len(sources)
        return self.mix((stacked * weights.unsqueeze(2)).sum(dim=1))


class LESSNet(SegmentationNetwork):
    """MobileViT encoder, gated multi-scale fusion decoder, one head.

    Args:
        in_channels: channels of the image (1, 3 or more; timm adapts the stem, also of pretrained weights).
        out_channels: number of classes with background.
        backbone: any timm ``mobilevit*`` (or other ``features_only``) model with strides 2/4/8/16/32.
        widths: channels of the decoder at strides 2, 4, 8, 16.
        detail_channels: channels of the full-resolution branch that the head sees beside the stride-2 map; 0 = none.
        dropout: channel dropout before the head (MONAI Label's epistemic scoring passes this argument).
        pretrained: True loads timm's published weights (needs the network), a path loads them from that file.
        gated: False replaces the learned gates by a plain sum.

    Shapes:
        (B, in_channels, X, Y) float in [0, 1] -> logits (B, out_channels, X, Y).

    Raises:
        InputError: unknown backbone, or a ``pretrained`` file that is missing or of another network.

    Example:
        >>> LESSNet(in_channels=3, out_channels=2)(torch.rand(1, 3, 97, 130)).shape
        torch.Size([1, 2, 97, 130])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        backbone: str = "mobilevit_xxs",
        widths: tuple[int, int, int, int] = (24, 32, 48, 64),
        detail_channels: int = 12,
        dropout: float = 0.0,
        pretrained: bool | str = False,
        gated: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(backbone, in_channels, pretrained)
        channels = self.encoder.feature_info.channels()
        w2, w4, w8, w16 = widths
        self.fuse16 = GatedFusion(channels[4], channels[3], channels[2], w16, depth=1, gated=gated)
        self.fuse8 = GatedFusion(w16, channels[2], channels[1], w8, gated=gated)
        self.fuse4 = GatedFusion(w8, channels[1], channels[0], w4, gated=gated)
        self.fuse2 = GatedFusion(w4, channels[0], detail_channels, w2, gated=gated)
        self.detail = conv_bn_act(in_channels, detail_channels) if detail_channels else None
        self.refine = conv_bn_act(w2 + detail_channels, w2 // 2) if detail_channels else None
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(w2 // 2 if detail_channels else w2, out_channels, 1)
        self.feature_channels = w4

    def encode(self, x: Tensor) -> list[Tensor]:
        maps = self.encoder(x)
        return maps if self.detail is None else [self.detail(x), *maps]

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        detail, maps = (maps[0], maps[1:]) if self.detail is not None else (None, maps)
        e2, e4, e8, e16, e32 = maps
        d16 = self.fuse16(e32, e16, e8)
        d8 = self.fuse8(d16, e8, e4)
        d4 = self.fuse4(d8, e4, e2)
        d2 = self.fuse2(d4, e2, detail)
        if self.refine is None:
            return d2, d4
        return self.refine(torch.cat([upsample_to(d2, detail), detail], dim=1)), d4

    def classify(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        logits = self.head(self.dropout(fused))
        if self.refine is not None:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def build_encoder(backbone: str, in_channels: int, pretrained: bool | str) -> nn.Module:
    """timm feature extractor with five maps, with random, published or local weights; see :class:`LESSNet`."""
    overlay = {}
    if isinstance(pretrained, (str, Path)) and str(pretrained):
        if not Path(pretrained).is_file():
            raise InputError(f"pretrained: {pretrained} is not a file; give the path of timm weights for {backbone}")
        overlay = {"pretrained_cfg_overlay": {"file": str(pretrained)}}
    try:
        encoder = timm.create_model(
            backbone, pretrained=bool(pretrained), features_only=True, in_chans=in_channels, **overlay
        )
    except (RuntimeError, KeyError) as error:
        if not overlay and not timm.is_model(backbone):
            raise InputError(f"backbone: timm has no model {backbone!r}; use one like mobilevit_xxs") from error
        if overlay:
            raise InputError(f"pretrained: {pretrained} does not hold timm weights of {backbone} ({error})") from error
        raise
    if list(encoder.feature_info.reduction()) != [2, 4, 8, 16, 32]:
        raise InputError(f"backbone: {backbone} has strides {encoder.feature_info.reduction()}; 2, 4, 8, 16, 32 needed")
    return encoder
