# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Table and picture of label-loop: Dice on the test images by the number of labelled ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.files import atomic_write

COLOURS = {"random": "#0072b2", "uncertainty": "#d55e00", "epistemic": "#009e73", "first": "#cc79a7"}


@dataclass
class Row:
    """A round that is done: which replay, how many labels, the mean Dice, seconds, and the images labelled in it."""

    order: str
    seed: int
    round: int
    labelled: int
    dice: float
    choose_seconds: float
    train_seconds: float
    infer_seconds: float
    images: str

    def text(self) -> str:
        """One line for the terminal."""
        return f"{self.order} {self.seed}: {self.labelled} labelled, Dice {100 * self.dice:.1f} %"


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes the table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) | {"dice": f"{row.dice:.4f}"} for row in rows)
    atomic_write(path, text.getvalue().encode())


def means(rows: Sequence[Row], order: str) -> tuple[list[int], list[float]]:
    """Numbers of labelled images and mean Dice in percent over the seeds that have come as far."""
    counts = sorted({row.labelled for row in rows if row.order == order})
    taken = [[row.dice for row in rows if row.order == order and row.labelled == count] for count in counts]
    return counts, [100 * mean(values) for values in taken]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws one line an order, the mean over its seeds, and a thin one for every seed."""
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for order in dict.fromkeys(row.order for row in rows):
        colour = COLOURS[order]
        seeds = sorted({row.seed for row in rows if row.order == order})
        for seed in seeds if len(seeds) > 1 else []:
            own = [row for row in rows if (row.order, row.seed) == (order, seed)]
            axes.plot([r.labelled for r in own], [100 * r.dice for r in own], color=colour, alpha=0.3, linewidth=1)
        label = f"{order} order" + (f" (mean of {len(seeds)} seeds)" if len(seeds) > 1 else "")
        axes.plot(*means(rows, order), "o-", color=colour, linewidth=2, label=label)
    axes.set_xlabel("labelled images")
    axes.set_ylabel("Dice on the test images, %")
    axes.set_xticks(sorted({row.labelled for row in rows}))
    # from 0: a few points of Dice between small trainings are noise, and should look it
    axes.set_ylim(0, max([100 * row.dice for row in rows], default=80) * 1.25)
    axes.grid(alpha=0.3)
    if rows:
        axes.legend(loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    atomic_write(path, picture.getvalue())
