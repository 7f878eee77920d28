# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Stops a run whose loss or gradient is no longer a number, and names the files of the batch."""

from __future__ import annotations

from collections import deque

import torch
from ignite.engine import Events

from scripts import distributed
from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.errors import InputError

#: a loss scale that is reached by 24 halvings of the first one only, so without a finite gradient in between
SMALLEST_SCALE = 2.0**-8


class StopOnNonFinite:
    """Raises when the total loss, or the norm of its gradient, became NaN or infinite.

    With a loss scaler (float16) a gradient may overflow now and then, and that step is left out; when all of them do,
    nothing is learnt, which the shrinking scale tells.

    The number of the first bad iteration is kept on the device and read every ``every`` iterations and at the end of
    each epoch, so the loop does not wait for the device; stands before the handlers that write checkpoints, so none
    is ever written from a broken state.

    Args:
        every: iterations between two readings.
    """

    def __init__(self, every: int = 20) -> None:
        self.every = max(int(every), 1)
        self.keys: deque[tuple[int, list[str]]] = deque(maxlen=self.every)
        self.first_bad: torch.Tensor | None = None

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.watch)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self.check)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.check)

    def watch(self, engine: SemiSupervisedTrainer) -> None:
        """Note, on the device, the first iteration whose loss or gradient is not finite."""
        output, iteration = engine.state.output, engine.state.iteration
        loss = output["loss"]
        if self.first_bad is None:
            self.first_bad = torch.zeros((), dtype=torch.long, device=loss.device)
        finite = torch.isfinite(loss) & torch.isfinite(output.get("gradient_norm", loss))
        bad = (self.first_bad == 0) & ~finite
        self.first_bad = torch.where(bad, iteration, self.first_bad)
        self.keys.append((iteration, output["keys"]))

    def check(self, engine: SemiSupervisedTrainer) -> None:
        """Read the note.

        Raises:
            InputError: a loss or its gradient was not finite.
        """
        scaler = engine.scaler
        if scaler is not None and scaler.is_enabled() and scaler.get_scale() < SMALLEST_SCALE:
            raise InputError(
                f"no gradient was finite in float16 for many iterations, up to {engine.state.iteration}, so nothing is "
                "learnt: pass --amp false, or lower learning_rate"
            )
        if self.first_bad is None:
            return
        # a bad batch of one process spoils the weights of all: what counts is where it came first
        found = [iteration for iteration in distributed.gathered(self.first_bad.view(1)).tolist() if iteration]
        if found:
            first = min(found)
            mine = dict(self.keys).get(first, []) if int(self.first_bad) == first else []
            keys = [key for keys in distributed.gathered_objects(mine) for key in keys]
            raise InputError(
                f"the loss or its gradient became NaN or infinite at iteration {first}, whose batch held "
                f"{', '.join(keys)}: check these images, or lower learning_rate{', or pass --amp false' * engine.amp}"
            )
