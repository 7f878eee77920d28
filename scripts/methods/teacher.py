# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The EMA teacher."""

from __future__ import annotations

import copy

import torch
import torch.nn as nn

Lists = tuple[list[torch.Tensor], list[torch.Tensor]]


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
        self._kept: tuple[list[torch.Tensor | None], Lists, Lists] | None = None

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
        (mine, theirs), counters = self.pairs(student)
        torch._foreach_lerp_(mine, theirs, weight)
        if counters[0]:
            torch._foreach_copy_(*counters)

    def pairs(self, student: nn.Module) -> tuple[Lists, Lists]:
        """The tensors (mine, the student's) that are averaged, and those (integers) that are copied.

        Found once and kept as long as both networks hold the same tensors: walking through two networks takes ten times
        as long as the average. A network that is moved or given other memory gets new buffers or parameters.
        """
        first = [tensor for network in (self.module, student) for tensor in leading(network)]
        if self._kept is None or any(old is not new for old, new in zip(self._kept[0], first, strict=True)):
            # in their order, not by name: two state_dicts and a copy for each counter cost more still
            both = list(zip(tensors(self.module), tensors(student), strict=True))
            floating, counters = (
                tuple([pair[side] for pair in both if pair[0].is_floating_point() == kind] for side in (0, 1))
                for kind in (True, False)
            )
            self._kept = (first, floating, counters)
        return self._kept[1], self._kept[2]

    def __getstate__(self) -> dict:
        """What is copied or pickled: without the student's tensors, which are not the teacher's."""
        return self.__dict__ | {"_kept": None}

    @torch.no_grad()
    def sync(self, student: nn.Module) -> None:
        """Become an exact copy of ``student``."""
        self._kept = None
        self.module.load_state_dict(student.state_dict())


def tensors(network: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers, in the same order for copies of a network."""
    return [*network.parameters(), *network.buffers()]


def leading(network: nn.Module) -> list[torch.Tensor | None]:
    """The first parameter and the first buffer, None where there is none."""
    return [next(network.parameters(), None), next(network.buffers(), None)]
