# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The networks that are timed side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from monai.networks.nets import UNet as MonaiUNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scripts.errors import InputError
from scripts.export import to_int8, to_onnx
from scripts.networks import LESSNet, OnnxNetwork, SSL4MISUNet, TimmUNet, UNet

TORCH, ONNX, INT8 = "PyTorch", "ONNX Runtime", "ONNX Runtime, INT8"


@dataclass(frozen=True)
class Architecture:
    """A network by the name it has in tables.

    Attributes:
        name: in tables.
        build: makes it, with random weights, 3 channels in and ``out_channels`` (2 by default) classes out.
        backends: what computes it.
        suite: its name in the suites of ``python -m bundle benchmark``, for accuracies.
        note: what it stands for.
    """

    name: str
    build: Callable[..., nn.Module]
    backends: Sequence[str] = (TORCH,)
    suite: str = ""
    note: str = ""


@dataclass(frozen=True)
class Contender:
    """An architecture with what computes it."""

    architecture: Architecture
    backend: str

    @property
    def name(self) -> str:
        """``LESSNet (ONNX Runtime)``"""
        return f"{self.architecture.name} ({self.backend})"


class SegFormerB0(nn.Module):
    """SegFormer-B0 of the package transformers (Xie et al., NeurIPS 2021), answering at the size of the image.

    Raises:
        InputError: transformers is not installed.
    """

    def __init__(self, out_channels: int = 2) -> None:
        super().__init__()
        try:
            transformers = import_module("transformers")
        except ImportError as error:
            raise InputError("the package transformers is not installed") from error
        self.network = transformers.SegformerForSemanticSegmentation(
            transformers.SegformerConfig(num_labels=out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(pixel_values=x).logits
        return nn.functional.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


def monai_unet(channels: Sequence[int], units: int, out_channels: int = 2) -> nn.Module:
    """MONAI's U-Net with strided convolutions, halving at every level."""
    return MonaiUNet(2, 3, out_channels, channels=channels, strides=(2,) * (len(channels) - 1), num_res_units=units)


ARCHITECTURES = (
    Architecture("LESSNet", LESSNet, (TORCH, ONNX, INT8), "lessnet"),
    Architecture("SSL4MIS U-Net", SSL4MISUNet, (TORCH, ONNX), "unet_ssl4mis", "what SSL4MIS, UniMatch and BCP run"),
    Architecture("MONAI BasicUNet 16-256", UNet, (TORCH,), "unet"),
    Architecture("MONAI UNet 16-256", partial(monai_unet, (16, 32, 64, 128, 256), 2), note="residual units: 2"),
    Architecture("MobileNetV2-0.5 U-Net", TimmUNet, (TORCH,), "timm_unet"),
    Architecture("SegFormer-B0", SegFormerB0, note="of transformers, random weights"),
    Architecture("MONAI UNet 8-64", partial(monai_unet, (8, 16, 24, 32, 64), 0), note="the size class of EGE-UNet"),
)


def contenders(quick: bool = False) -> tuple[list[Contender], dict[str, str]]:
    """What can be timed here, and why something cannot, by name."""
    found, skipped = [], {}
    for architecture in ARCHITECTURES[:2] if quick else ARCHITECTURES:
        try:
            architecture.build()
        except InputError as error:
            skipped[architecture.name] = str(error)
        else:
            found += [Contender(architecture, backend) for backend in architecture.backends]
    return found, skipped


def size_of(network: nn.Module, size: int) -> dict[str, float]:
    """Parameters, and 10^9 multiply-adds for one image of ``size`` x ``size``."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, size, size))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "gmac": counter.get_total_flops() / 2e9}


class Networks:
    """The contenders' networks, built once, and their ONNX files.

    Args:
        images: (1, 3, X, Y) each, that set the ranges of INT8.
        weights: ``state_dict`` of LESSNet; None: random weights.
        device: of what PyTorch computes; ONNX Runtime computes on the CPU.
        num_classes: that every network tells apart, background included.
    """

    def __init__(
        self, images: Sequence[Tensor], weights: dict[str, Any] | None, device: torch.device, num_classes: int = 2
    ) -> None:
        self.images, self.weights, self.device, self.num_classes = images, weights, device, num_classes
        self.built: dict[str, nn.Module] = {}
        self.files: dict[Contender, bytes] = {}

    def module(self, architecture: Architecture) -> nn.Module:
        """The architecture in PyTorch, in evaluation mode; on the CPU until it was :meth:`ready` on the device."""
        if architecture.name not in self.built:
            torch.manual_seed(0)
            network = architecture.build(out_channels=self.num_classes).eval()
            if self.weights is not None and isinstance(network, LESSNet):
                network.load_state_dict(self.weights)
            self.built[architecture.name] = network
        return self.built[architecture.name]

    def file(self, contender: Contender) -> bytes:
        """The ONNX file of a contender."""
        if contender not in self.files:
            network = copy.deepcopy(self.module(contender.architecture)).cpu()  # the module itself stays on the device
            model = to_onnx(network, torch.rand(2, 3, 96, 96))
            self.files[contender] = to_int8(model, self.images) if contender.backend == INT8 else model
        return self.files[contender]

    def ready(self, contender: Contender) -> nn.Module:
        """What is called: the module on the device, or a new session with as many threads as torch has now."""
        if contender.backend == TORCH:
            return self.module(contender.architecture).to(self.device)
        return OnnxNetwork(self.file(contender))
