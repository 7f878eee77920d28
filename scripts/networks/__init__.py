# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Segmentation networks."""

from scripts.networks.base import SegmentationNetwork
from scripts.networks.coarse_refined import CoarseRefined
from scripts.networks.lessnet import LESSNet
from scripts.networks.multi_scale import MultiScale, TwoDecoders
from scripts.networks.onnx import OnnxNetwork, on_backend
from scripts.networks.timm_unet import TimmUNet
from scripts.networks.unet import UNet
from scripts.networks.unet_ssl4mis import SSL4MISUNet

__all__ = [
    "CoarseRefined",
    "LESSNet",
    "MultiScale",
    "OnnxNetwork",
    "SSL4MISUNet",
    "SegmentationNetwork",
    "TimmUNet",
    "TwoDecoders",
    "UNet",
    "on_backend",
]
