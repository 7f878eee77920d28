# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the user sees of a run: a bar with rate and time left in a terminal, and one line an epoch everywhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from ignite.engine import Events
from monai.engines import Evaluator
from tqdm import tqdm

from scripts import distributed
from scripts.engines.trainer import SemiSupervisedTrainer

logger = logging.getLogger("less_net")


class Progress:
    """A bar over all iterations of the run, and the last row of the history as a line.

    Args:
        validator: knows the best score so far.
        bar: show the bar; default: when the error stream is a terminal, so log files get the lines alone.
    """

    def __init__(self, validator: Evaluator | None = None, bar: bool | None = None) -> None:
        self.validator = validator
        self.show_bar = (sys.stderr.isatty() if bar is None else bar) and distributed.is_main()
        self.bar: tqdm | None = None

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer; after the history."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.line)
        engine.add_event_handler(Events.COMPLETED, self.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)

    def open(self, engine: SemiSupervisedTrainer) -> None:
        """Make the bar in the first epoch, when a resumed run knows where it stands."""
        epoch = f"epoch {engine.state.epoch}/{engine.state.max_epochs}"
        if self.bar is None:
            self.bar = tqdm(
                desc=epoch,
                total=engine.state.max_epochs * engine.state.epoch_length,
                initial=engine.state.iteration,
                unit="it",
                disable=not self.show_bar,
                dynamic_ncols=True,
            )
        self.bar.set_description(epoch, refresh=False)

    def advance(self, engine: SemiSupervisedTrainer) -> None:
        """One iteration more."""
        if self.bar is not None:
            self.bar.update()

    def line(self, engine: SemiSupervisedTrainer) -> None:
        """The epoch's line, written above the bar."""
        with tqdm.external_write_mode():
            logger.info("%s", self.describe(engine, engine.history[-1] if engine.history else {}))

    def describe(self, engine: SemiSupervisedTrainer, row: Mapping[str, Any]) -> str:
        """Epoch, losses, validation score with the best so far, speed, time left."""
        state = engine.state
        parts = [f"epoch {state.epoch}/{state.max_epochs}"]
        terms = [f"{name[5:]} {value:.4f}" for name, value in row.items() if name.startswith("loss/")]
        if "loss" in row:
            parts.append(f"loss {row['loss']:.4f}" + (f" ({', '.join(terms)})" if len(terms) > 1 else ""))
        parts += self.validation(row)
        recent = [r["seconds"] for r in engine.history[-10:]]
        if recent:
            seconds = sum(recent) / len(recent)
            left = seconds * (state.max_epochs - state.epoch)
            parts.append(f"{state.epoch_length / max(row['seconds'], 1e-9):.1f} it/s")
            parts.append(f"{tqdm.format_interval(left)} left")
        return "  ".join(parts)

    def validation(self, row: Mapping[str, Any]) -> list[str]:
        """The validation score of this epoch, if it has one."""
        name = self.validator.state.key_metric_name if self.validator is not None else None
        if name is None or name not in row:
            return []
        best = self.validator.state  # type: ignore[union-attr]
        return [f"{name} {row[name]:.4f} (best {float(best.best_metric):.4f} in epoch {best.best_metric_epoch})"]

    def close(self, engine: SemiSupervisedTrainer) -> None:
        """The bar's end."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def fail(self, engine: SemiSupervisedTrainer, error: BaseException) -> None:
        """End the bar before the error is printed; the error goes on."""
        self.close(engine)
        raise error
