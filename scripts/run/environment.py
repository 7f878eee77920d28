# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a run runs on: versions of the packages, and the device in words."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = ("torch", "monai", "pytorch-ignite", "timm", "numpy", "pillow", "nibabel")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run."""
    return {"python": platform.python_version()} | {name: installed(name) for name in PACKAGES}


def installed(package: str) -> str:
    """Version of a package, or the words ``not installed``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe_device(device: Any) -> str:
    """The device in words."""
    device = torch.device(device if device is not None else "cpu")
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
