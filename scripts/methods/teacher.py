# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The EMA teacher."""

from __future__ import annotations

import copy

import torch
import torch.nn as nn


class EMATeacher(nn.Module):
    """Exponential moving average of a student: ``t <- d t + (1 - d) s`` with ``d = min(1 - 1/n, decay)``.

    n counts the updates from 1: after the first the teacher is the student, whatever it started from, and the average
    is a plain mean until the decay is reached. Floating-point buffers (BatchNorm statistics) are averaged like the
    weights, integer buffers copied. (``torch.optim.swa_utils.AveragedModel`` reads a counter on the device at every
    update, which makes a GPU wait; the count is the caller's here.)

    Args:
        student: network to copy; the copy takes no gradient and stays in eval mode.
        decay: d in [0, 1).
    """

    def __init__(self, student: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False).eval()
        self.decay = decay

    def train(self, mode: bool = True) -> EMATeacher:
        """The teacher always predicts in eval mode, with its averaged BatchNorm statistics."""
        super().train(mode)
        self.module.eval()
        return self

    def forward(self, x: torch.Tensor, **kwargs) -> torch.Tensor:
        return self.module(x, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, count: int) -> None:
        """One step towards ``student``; ``count`` is the number of this update, from 1."""
        weight = 1.0 - min(1.0 - 1.0 / count, self.decay)
        mine, theirs = self.module.state_dict(keep_vars=True), student.state_dict(keep_vars=True)
        floating = [key for key, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[key].data for key in floating], [theirs[key].data for key in floating], weight)
        for key in mine.keys() - set(floating):
            mine[key].copy_(theirs[key])

    @torch.no_grad()
    def sync(self, student: nn.Module) -> None:
        """Become an exact copy of ``student``."""
        self.module.load_state_dict(student.state_dict())
