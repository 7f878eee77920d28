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
        # in their order, not by name: two state_dicts and a copy for each counter cost more than the average itself
        pairs = list(zip(tensors(self.module), tensors(student), strict=True))
        kinds = [pair[0].is_floating_point() for pair in pairs]
        floating, counters = ([pair for pair, kind in zip(pairs, kinds) if kind == want] for want in (True, False))
        torch._foreach_lerp_([mine for mine, _ in floating], [theirs for _, theirs in floating], weight)
        if counters:
            torch._foreach_copy_([mine for mine, _ in counters], [theirs for _, theirs in counters])

    @torch.no_grad()
    def sync(self, student: nn.Module) -> None:
        """Become an exact copy of ``student``."""
        self.module.load_state_dict(student.state_dict())


def tensors(network: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers, in the same order for copies of a network."""
    return [*network.parameters(), *network.buffers()]
