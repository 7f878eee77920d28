# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""LESS-Net's network: a MobileViT encoder and a thin decoder that fuses several scales at every level.

An implementation that follows the published abstract (Lai et al., *LESS-Net*, Frontiers in Physiology 16:1644589,
2025: MobileViT backbone, multi-scale feature fusion better than plain skip connections) with our own, documented
choices; no official code was found. The encoder is timm's (Mehta and Rastegari, *MobileViT*, ICLR 2022).
"""

import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import timm
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError
from scripts.networks.base import SegmentationNetwork
from scripts.networks.mobilevit import take_any_size
from scripts.switches import as_bool


def conv_bn_act(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; 'same' padding, so stride 2 gives ceil(n/2) like the encoder's own strides."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class DetailBranch(nn.Module):
    """A narrow plain CNN beside the MobileViT: two 3x3 convolutions at each of the strides 1, 2, 4, 8, 16 and 32.

    MobileViT starts at stride 2, with depth-wise convolutions that need many images before they generalise; plain
    channels at full resolution learn the colour and the edge of a small lesion from a handful (measured in
    docs/results_batch_dice.md). A path apart for detail is the idea of BiSeNet (Yu et al., ECCV 2018). Each level
    passes its map down by max pooling, so that every scale reaches the fusion together with its shallower
    neighbour, pooled.

    Args:
        in_channels: channels of the image.
        widths: channels at strides 1, 2, 4, ...

    Shapes:
        (B, in_channels, X, Y) -> maps (B, widths[i], ceil(X / 2^i), ceil(Y / 2^i)).
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = (in_channels, *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(
                # ceil_mode: the sizes of MobileViT's strided convolutions, also for odd images
                nn.MaxPool2d(2, ceil_mode=True) if i else nn.Identity(),
                conv_bn_act(before, width),
                conv_bn_act(width, width),
            )
            for i, (before, width) in enumerate(zip(inputs, widths))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for level in self.levels:
            maps.append(level(maps[-1]))
        return maps[1:]


class GatedFusion(nn.Module):
    """One decoder level: weighs the deeper decoder output, the detail map and MobileViT's map of this scale.

    Each source is brought to ``width`` channels at this scale; a softmax gate, predicted per pixel from all of them,
    weighs the sources; 3x3 convolutions mix the sum. Where MobileViT has no map (strides 1 and 2) the two others are
    summed: there a gate would cost a fifth of a training step.

    Args:
        deeper, lateral: channels of the deeper map and of MobileViT's (0 where it has none); the detail map has
            ``width`` channels already.
        width: channels of the level.
        depth: number of 3x3 convolutions after the gate.
        gated: False gives every source the same weight (the ablation of the gate).
    """

    def __init__(self, deeper: int, lateral: int, width: int, depth: int = 1, gated: bool = True) -> None:
        super().__init__()
        self.deeper = nn.Sequential(nn.Conv2d(deeper, width, 1, bias=False), nn.BatchNorm2d(width))
        self.lateral = nn.Sequential()
        if lateral:
            self.lateral = nn.Sequential(nn.Conv2d(lateral, width, 1, bias=False), nn.BatchNorm2d(width))
        self.gate = nn.Conv2d(3 * width, 3, 1) if gated and lateral else None
        self.mix = nn.Sequential(*[conv_bn_act(width, width) for _ in range(depth)])

    def forward(self, deeper: Tensor, detail: Tensor, lateral: Optional[Tensor] = None) -> Tensor:
        deeper = F.interpolate(self.deeper(deeper), size=detail.shape[-2:], mode="bilinear", align_corners=False)
        if lateral is None:
            return self.mix(deeper + detail)
        lateral = self.lateral(lateral)
        if self.gate is None:
            return self.mix(deeper + detail + lateral)
        # times three: at the start the gate is even and the sum has the scale of the plain one
        weights = 3 * torch.softmax(self.gate(torch.cat([deeper, detail, lateral], dim=1)), dim=1)
        return self.mix(deeper * weights[:, :1] + detail * weights[:, 1:2] + lateral * weights[:, 2:])


class LESSNet(SegmentationNetwork):
    """MobileViT for the context, a narrow plain CNN for the detail, gated multi-scale fusion decoder, one head.

    The MobileViT sees the image at half its size: a quarter of the cost, spent on plain channels at full resolution.
    Its five maps (strides 4 to 64 of the image) meet the detail maps of the strides 4 to 32 in the decoder.

    Args:
        in_channels: channels of the image (1, 3 or more; timm adapts the stem, also of pretrained weights).
        out_channels: number of classes with background.
        backbone: any timm ``mobilevit*`` (or other ``features_only``) model with strides 2/4/8/16/32.
        widths: channels of detail branch and decoder at strides 1, 2, 4, 8, 16, 32.
        depth: 3x3 convolutions of a decoder level.
        dropout: channel dropout before the head (MONAI Label's epistemic scoring passes this argument).
        pretrained: True loads timm's published weights (needs the network), a path loads them from that file.
        gated: False replaces the learned gates by a plain sum.
        foreground: share of foreground pixels that the head expects at the start; an even start would spend the first
            hundreds of iterations on learning that lesions are rare (prior of Lin et al., *Focal Loss*, ICCV 2017).

    Shapes:
        (B, in_channels, X, Y) float in [0, 1] -> logits (B, out_channels, X, Y).

    Raises:
        InputError: unknown backbone, a ``pretrained`` file that is missing or of another network, or no download.

    Example:
        >>> LESSNet(in_channels=3, out_channels=2)(torch.rand(1, 3, 97, 130)).shape
        torch.Size([1, 2, 97, 130])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        backbone: str = "mobilevit_xxs",
        widths: Sequence[int] = (16, 24, 32, 48, 64, 80),
        depth: int = 1,
        dropout: float = 0.0,
        pretrained: bool | str = False,
        gated: bool = True,
        foreground: float = 0.05,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(backbone, in_channels, pretrained)
        self.detail = DetailBranch(in_channels, widths)
        channels = self.encoder.feature_info.channels()
        deeper, laterals = (*widths[1:], channels[4]), (0, 0, *channels[:4])
        self.fusions = nn.ModuleList(
            GatedFusion(deeper[i], laterals[i], widths[i], depth, as_bool(gated, "network_def#gated"))
            for i in range(len(widths))
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[0], out_channels, 1)
        self.feature_channels = widths[2]
        expect(self.head, foreground)

    def encode(self, x: Tensor) -> list[Tensor]:
        # ceil_mode keeps the sizes equal to those of the detail branch, also for odd images
        return self.detail(x) + self.encoder(F.avg_pool2d(x, 2, ceil_mode=True))

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        x = self.fusions[5](maps[10], maps[5], maps[9])
        x = self.fusions[4](x, maps[4], maps[8])
        x = self.fusions[3](x, maps[3], maps[7])
        features = self.fusions[2](x, maps[2], maps[6])
        x = self.fusions[1](features, maps[1], None)
        return self.fusions[0](x, maps[0], None), features

    def classify(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        return self.head(self.dropout(fused))


@torch.no_grad()
def expect(head: nn.Conv2d, foreground: float) -> None:
    """Sets the head's bias so that its prior is ``foreground``, shared by the foreground classes."""
    classes = head.out_channels
    if classes == 1:
        head.bias.fill_(math.log(foreground / (1 - foreground)))
        return
    head.bias.fill_(math.log(foreground / (classes - 1)))
    head.bias[0] = math.log(1 - foreground)


def build_encoder(backbone: str, in_channels: int, pretrained: bool | str) -> nn.Module:
    """timm feature extractor with five maps, with random, published or local weights; see :class:`LESSNet`."""
    if str(pretrained).lower() in ("true", "false"):  # the command line hands the word over
        pretrained = as_bool(pretrained, "network_def#pretrained")
    if not timm.is_model(backbone):
        raise InputError(f"backbone: timm has no model {backbone!r}; use one like mobilevit_xxs")
    overlay = {"pretrained_cfg_overlay": {"file": str(pretrained)}} if isinstance(pretrained, (str, Path)) else {}
    if overlay and not Path(pretrained).is_file():
        raise InputError(f"pretrained: {pretrained} is not a file; give the path of timm weights for {backbone}")
    try:
        encoder = timm.create_model(
            backbone, pretrained=bool(pretrained), features_only=True, in_chans=in_channels, **overlay
        )
    except OSError as error:  # what requests and huggingface_hub raise is one
        if overlay:
            raise
        raise InputError(
            f"pretrained: the weights of {backbone} could not be downloaded ({first_sentence(error)}): give a file by "
            "--network_def#pretrained <file>, or leave it out"
        ) from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        if not overlay:
            raise
        raise InputError(f"pretrained: {pretrained} does not hold timm weights of {backbone}") from error
    if list(encoder.feature_info.reduction()) != [2, 4, 8, 16, 32]:
        raise InputError(f"backbone: {backbone} has strides {encoder.feature_info.reduction()}; 2, 4, 8, 16, 32 needed")
    if overlay:
        check_pretrained(encoder, backbone, str(pretrained))
    return take_any_size(encoder)


def first_sentence(error: Exception) -> str:
    """The begin of an error's text, which may run over many lines of advice; its name where it has none."""
    return " ".join(str(error).split()).split(". ")[0] or type(error).__name__


def check_pretrained(encoder: nn.Module, backbone: str, path: str) -> None:
    """timm loads a feature extractor non-strictly: a file of another network would load nothing, silently."""
    available = {key.replace("stages.", "stages_") for key in timm.models.load_state_dict(path)}
    missing = sorted(set(encoder.state_dict()) - available)
    if missing:
        raise InputError(f"pretrained: {path} does not hold timm weights of {backbone} (no {missing[0]} in it)")
