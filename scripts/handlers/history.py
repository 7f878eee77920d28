# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""One row of numbers an epoch: to ``history.csv``, TensorBoard and ``curves.png``; warns of a collapsing rule."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Evaluator
from torch import Tensor

from scripts import distributed
from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers.curves import draw_curves
from scripts.run.folder import HISTORY

logger = logging.getLogger("less_net")

#: shares that ought to stay inside these bounds; lesions are small, so little foreground is not yet a collapse
SHARES = {
    "accepted": (0.01, 0.999),
    "predicted_foreground": (0.001, 0.999),
}


class History:
    """Means of every named loss and statistic of an epoch, weights, learning rate, speed and validation scores.

    The sums are kept on the device and read once an epoch. Rows go to ``trainer.history``, which the checkpoint
    carries, and the CSV is rewritten whole from there: a resumed run leaves neither gaps nor doubles.
    Columns: ``epoch, iteration, learning_rate, seconds, loss, loss/<name>, weight/<name>, statistic/<name>, val_*``.

    Args:
        output_dir: folder of ``history.csv`` and ``curves.png``.
        validator: its metrics join the rows of the epochs it ran in.
        summary_writer: a TensorBoard ``SummaryWriter``.
        plot_every: epochs between two drawings of the curves, which are also drawn at the end; 0: never.
        shares: statistic -> (lowest, highest) share, beyond which a warning is given.
        patience: epochs that a share has to be beyond before the warning.
    """

    def __init__(
        self,
        output_dir: str,
        validator: Evaluator | None = None,
        summary_writer: Any = None,
        plot_every: int = 10,
        shares: Mapping[str, Sequence[float]] | None = None,
        patience: int = 5,
    ) -> None:
        self.folder, self.validator, self.writer = Path(output_dir), validator, summary_writer
        self.plot_every, self.patience = int(plot_every), int(patience)
        self.shares = dict(SHARES if shares is None else shares)
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.beyond: dict[str, int] = {}
        self.started, self.locked = 0.0, False

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer; after the validation handler, before the checkpoints."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)
        if self.plot_every > 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.plot_every), self.draw)
            engine.add_event_handler(Events.COMPLETED, self.draw)

    def begin(self, engine: SemiSupervisedTrainer) -> None:
        """A new epoch."""
        self.sums, self.counts, self.started = {}, {}, time.perf_counter()

    def add(self, engine: SemiSupervisedTrainer) -> None:
        """Add one iteration to the sums, on the device."""
        output = engine.state.output
        values = {"loss": output["loss"]}
        values |= {f"loss/{name}": value for name, value in output["losses"].items()}
        values |= {f"statistic/{name}": value for name, value in output["statistics"].items()}
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value.float() if name in self.sums else value.float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def write(self, engine: SemiSupervisedTrainer) -> None:
        """Close the epoch: one row."""
        row = self.row(engine)
        engine.history.append(row)
        self.record(engine.history, row)

    @distributed.main_only
    def record(self, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> None:
        """Write the rows to the file, the last one to TensorBoard too, and look at its shares."""
        self.show(HISTORY, lambda path: atomic_write(path, rows_to_csv(rows).encode()))
        if self.writer is not None:
            for name, value in row.items():
                if name not in ("epoch", "iteration"):
                    self.writer.add_scalar(name, value, row["epoch"])
            self.writer.flush()
        self.warn(row)

    def row(self, engine: SemiSupervisedTrainer) -> dict[str, Any]:
        """The row of the epoch that ends; the one moment at which the device is waited for."""
        names = list(self.sums)
        means = torch.stack([self.sums[name] / self.counts[name] for name in names]) if names else torch.zeros(0)
        means = distributed.averaged(means).tolist()
        weights = engine.rule.weights_at(engine.progress)
        row = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "learning_rate": float(engine.optimizer.param_groups[0]["lr"]),
            "seconds": round(time.perf_counter() - self.started, 3),
            **dict(zip(names, means)),
            **{f"weight/{name}": float(weight) for name, weight in weights.items()},
        }
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            row |= {name: float(v) for name, v in self.validator.state.metrics.items() if isinstance(v, (int, float))}
        return row

    def warn(self, row: Mapping[str, Any]) -> None:
        """Warn when a share has just been beyond its bounds for ``patience`` epochs on end."""
        for name, (low, high) in self.shares.items():
            share = row.get(f"statistic/{name}")
            self.beyond[name] = 0 if share is None or low <= share <= high else self.beyond.get(name, 0) + 1
            if self.beyond[name] == self.patience:
                logger.warning(
                    "%s has been outside %g to %g %% for %d epochs (now %.3f %%): the pseudo-labels may have "
                    "collapsed; look at the weights and the confidence of the method",
                    *(name, 100 * low, 100 * high, self.patience, 100 * share),
                )

    @distributed.main_only
    def draw(self, engine: SemiSupervisedTrainer) -> None:
        """Draw the learning curves."""
        if engine.history:
            self.show("curves.png", lambda path: draw_curves(engine.history, path))

    def show(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a file of the rows. One that another program holds, as Excel does on Windows, ends no training: the
        checkpoint has the rows, and the next epoch writes them all again."""
        try:
            write(self.folder / name)
        except InputError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            if not self.locked:
                logger.warning(
                    "cannot write %s (%s): close it where it is open; the training goes on and will try again",
                    *(self.folder / name, error.__cause__.strerror),
                )
            self.locked = True


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV with the union of their columns, in the order of first appearance; missing values are empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
