# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tensors without content, which know their device alone: mixing two devices, or reading a value, raises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes


def knows_cuda() -> bool:
    """Whether they can lie on CUDA here: torch 2.8 asks for a driver even then."""
    try:
        with FakeTensorMode():
            torch.empty(0).to("cuda")
    except RuntimeError:
        return False
    return True


def drawn_outside(draw: Callable[..., Any]) -> Callable[..., Any]:
    """A generator function whose single numbers, which decide what is done, are real ones."""

    def number(*args: Any, **kwargs: Any) -> Any:
        if args[-1] == () and "device" not in kwargs:
            with _disable_current_modes():
                return draw(*args, **kwargs).item()
        return draw(*args, **kwargs)

    return number


def emptied(mode: FakeTensorMode, device: str, *modules: nn.Module) -> tuple[nn.Module, ...]:
    """Copies on the device, which share what the modules share; ``Module.to`` would ask CUDA whether it is there."""
    with FakeCopyMode(mode):
        copies = copy.deepcopy(modules)
    with mode:
        for module in (part for one in copies for part in one.modules()):
            for key, value in module._parameters.items():
                if value is not None:
                    module._parameters[key] = nn.Parameter(value.detach().to(device), value.requires_grad)
            module._buffers.update({k: v.to(device) for k, v in module._buffers.items() if v is not None})
    return copies
