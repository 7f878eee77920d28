# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Learning curves of a run as one picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.files import atomic_write

Rows = Sequence[Mapping[str, Any]]


def draw_curves(rows: Rows, path: str | Path) -> None:
    """Losses, validation scores, statistics, and learning rate with weights, over the epochs.

    Args:
        rows: one mapping an epoch, as :class:`scripts.handlers.History` makes them.
        path: the PNG to write.
    """
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores, statistics, rates = figure.subplots(2, 2).flat
    plot(losses, rows, ["loss", *columns(rows, "loss/")], "Losses (mean of the epoch)")
    losses.set_yscale("log")
    plot(scores, rows, columns(rows, "val_"), "Validation scores")
    scores.set_ylim(0, 1)
    mark_best(scores, rows)
    plot(statistics, rows, columns(rows, "statistic/"), "Statistics of the rule (mean of the epoch)")
    plot(rates, rows, columns(rows, "weight/"), "Learning rate (dashed) and loss weights")
    twin = rates.twinx()
    twin.plot(*points(rows, "learning_rate"), "k--", linewidth=1.2)
    twin.set_ylabel("learning rate")
    twin.set_ylim(bottom=0)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    atomic_write(path, picture.getvalue())


def columns(rows: Rows, prefix: str) -> list[str]:
    """The columns that begin with ``prefix``, in the order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row if name.startswith(prefix)))


def points(rows: Rows, name: str) -> tuple[list[int], list[float]]:
    """Epochs and values of the rows that have the column."""
    having = [row for row in rows if row.get(name) is not None]
    return [row["epoch"] for row in having], [row[name] for row in having]


def plot(axes: Axes, rows: Rows, names: Iterable[str], title: str) -> None:
    """One curve a column, with a legend; short series get markers, since a single point draws no line."""
    for name in names:
        epochs, values = points(rows, name)
        marker = "o" if len(epochs) < 15 else None
        axes.plot(
            epochs, values, marker=marker, markersize=3, linewidth=1.6, label=name.split("/")[-1].removeprefix("val_")
        )
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if axes.lines:
        axes.legend(fontsize=8)
    else:
        axes.text(0.5, 0.5, "none in this run", transform=axes.transAxes, ha="center", color="grey")


def mark_best(axes: Axes, rows: Rows) -> None:
    """A vertical line at the epoch of the best first validation score, which chose the weights."""
    names = columns(rows, "val_")
    if names:
        epochs, values = points(rows, names[0])
        best, epoch = max(values), epochs[values.index(max(values))]
        axes.axvline(epoch, color="grey", linewidth=1, linestyle=":")
        side = "right" if 2 * epoch > rows[-1]["epoch"] else "left"
        text = f" best {names[0].removeprefix('val_')} {best:.4f} "
        axes.text(epoch, 0.94, text, color="dimgrey", fontsize=8, horizontalalignment=side)
