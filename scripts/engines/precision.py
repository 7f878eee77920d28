# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: switched on, off, or where a short measurement on this machine says that it pays."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import torch
from torch import Tensor, nn

from scripts import distributed
from scripts.switches import as_bool

logger = logging.getLogger("less_net")

GAIN = 1.1  # below it, noise decides, and float32 is the safer one


class Precision:
    """Whether a run computes in mixed precision.

    On a CPU bfloat16 pays on large images and on processors that have instructions for it, and costs time elsewhere.
    "auto" measures at the first batch; the choice is saved with the checkpoint, so that a resumed run keeps it.

    Args:
        amp: True, False or "auto"; on other devices than a CPU "auto" means True.
        device: where the run computes.
    """

    def __init__(self, amp: bool | str, device: torch.device) -> None:
        self.auto = str(amp).strip().lower() == "auto"
        self.chosen: bool | None = (None if device.type == "cpu" else True) if self.auto else as_bool(amp, "amp")

    def decide(self, network: nn.Module, images: Tensor) -> None:
        """Measures with ``network`` on ``images`` (B, C, X, Y), and chooses."""
        gain = distributed.from_main(lambda: bfloat16_gain(network, images))
        self.chosen = gain >= GAIN
        kind = "bfloat16" if self.chosen else "float32"
        logger.info("amp auto: a step in bfloat16 is %.2f times as fast as in float32; training in %s", gain, kind)

    def state_dict(self) -> dict[str, Any]:
        """The choice, for the checkpoint."""
        return {"amp": self.chosen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the choice of the run that is resumed."""
        self.chosen = state["amp"]


class LossScaler(torch.amp.GradScaler):
    """Torch's, which also goes on from a run that needed none: a training on a CPU, resumed on a GPU."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Without a saved scale it begins with its own."""
        if state_dict:
            super().load_state_dict(state_dict)


def bfloat16_gain(network: nn.Module, images: Tensor, rounds: int = 3) -> float:
    """Seconds of a forward and backward pass in float32 / in bfloat16 autocast, both the best of ``rounds`` after one.

    On a copy and with its own random numbers: ``network`` and the generators stay as they are.
    """
    twin = copy.deepcopy(network).train()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with torch.random.fork_rng(devices=[]):
        for _ in range(rounds + 1):
            for amp, times in seconds.items():  # taken in turns, so that a disturbance meets both
                began = time.perf_counter()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                    loss = twin(images).float().square().mean()
                loss.backward()
                times.append(time.perf_counter() - began)
    return min(seconds[False][1:]) / min(seconds[True][1:])
