# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Plots of a suite: Dice against labels, minutes of training, parameters and latency."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from bundle.benchmark.statistics import Group, Groups
from bundle.benchmark.suite import Suite
from bundle.benchmark.tables import labels
from scripts import pictures
from scripts.errors import InputError

Row = Mapping[str, Any]

#: after Okabe and Ito, *Color Universal Design*, and more, for a suite may well have sixteen methods
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#8c564b", "#b8a800", "#17becf")
COLOURS += ("#7cb518", "#a4133c", "#f4d03f", "#1b2a8c", "#b388eb", "#0b5d3b", "#ff8fab")
BASELINE = "#444444"
LINES = ("-", "--", ":", "-.", (0, (1, 1)))
LEAST_SPAN = 5.0  # points of Dice that an axis shows at least, or tenths of a point would look like a lot
FALLEN = 15.0  # points of Dice below the median of an axes: a training that fell, named at the foot of the axes
LEGEND_LINE = 0.215  # inches that an entry of the legend takes
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class Style:
    """Colour by method and line and marker by network, the same in every plot of a suite."""

    def __init__(self, suite: Suite) -> None:
        self.baseline, self.scored = suite.baseline, suite.scored
        names = list(dict.fromkeys(run.method for run in suite.runs if run.method != suite.baseline))
        # what is plotted shares no colour, and what the suite is about gets the strong ones
        names.sort(key=lambda name: (bool(suite.plotted) and name not in suite.plotted, name in suite.peers))
        self.colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)} | {suite.baseline: BASELINE}
        self.ours = {name for name in names if name not in suite.peers} if suite.peers else set()
        self.networks = list(dict.fromkeys(run.network for run in suite.runs))

    def line(self, group: Group) -> dict[str, Any]:
        """Of a curve."""
        place = self.networks.index(group.network)
        width = 2.6 if group.method in self.ours else 1.5
        return {"color": self.colours[group.method], "linestyle": LINES[place % len(LINES)], "linewidth": width}

    def marker(self, network: str) -> str:
        """Of a point."""
        return MARKERS[self.networks.index(network) % len(MARKERS)]

    def legend(self, groups: Iterable[Group], networks_by: str) -> list[Line2D]:
        """Entries of the one legend beside the plots: the methods, and the networks where several share an axes.

        Args:
            groups: those that are shown.
            networks_by: ``line`` or ``marker``, what tells networks apart; empty: nothing has to.
        """
        shown = list(groups)
        methods = [name for name in self.colours if any(group.method == name for group in shown)]
        networks = [name for name in self.networks if any(group.network == name for group in shown)]
        handles = [Line2D([], [], color=self.colours[name], linewidth=4, label=name) for name in methods]
        if networks_by and len(networks) > 1:
            handles.append(Line2D([], [], linestyle="none", label=""))
            for name in networks:
                line = {"linestyle": LINES[self.networks.index(name) % len(LINES)]}
                point = {"linestyle": "none", "marker": self.marker(name), "markersize": 8}
                handles.append(Line2D([], [], color="black", label=name, **(line if networks_by == "line" else point)))
        return handles


def draw(suite: Suite, groups: Groups, rows: Sequence[Row], latencies: Mapping[int, float]) -> dict[str, Image.Image]:
    """The plots by file name, of what there is.

    Args:
        suite: says which methods and networks there are, and which methods are shown.
        groups: results by group.
        rows: of the tables.
        latencies: milliseconds by the number of parameters of a network; see :func:`read_latencies`.
    """
    shown = suite.plotted or {group.method for group in groups}
    rows = [row for row in rows if row["method"] in shown]
    groups = {group: found for group, found in groups.items() if group.method in shown}
    if not rows:
        return {}
    style = Style(suite)
    plots = {}
    trained = {group: found for group, found in groups.items() if any(one["validation"]["minutes"] for one in found)}
    if trained:
        plots["dice_by_minutes.png"] = by_minutes(trained, style)
    if sized := compared([row for row in rows if row["parameters"]], "parameters"):
        plots["dice_by_parameters.png"] = by_parameters(sized, style)
    if len({row["label_ratio"] for row in rows}) > 1:
        plots["dice_by_labels.png"] = by_labels(rows, style)
    timed = [{**row, "latency": latencies[row["parameters"]]} for row in rows if row["parameters"] in latencies]
    if timed := compared(timed, "latency"):
        plots["dice_by_latency.png"] = by_latency(timed, style)
    return plots


def compared(rows: Sequence[Row], cost: str) -> list[Row]:
    """The rows of the data sets and shares of the labels where several costs are to be compared."""
    costs: dict[tuple[str, float], set[float]] = {}
    for row in rows:
        costs.setdefault((row["data"], row["label_ratio"]), set()).add(row[cost])
    return [row for row in rows if len(costs[row["data"], row["label_ratio"]]) > 1]


def panels(
    style: Style, keys: Sequence[Group], across: str, shape: Callable[[Axes, str, Any], None], networks_by: str
) -> Image.Image:
    """One axes for each data set (down) and value of ``across``; ``shape`` draws into it."""
    down, right = list(dict.fromkeys(key.data for key in keys)), sorted({getattr(key, across) for key in keys})
    legend = style.legend(keys, networks_by)
    height = max(0.4 + 3.4 * len(down), 0.3 + LEGEND_LINE * len(legend))
    figure = Figure(figsize=(2.6 + 4.3 * len(right), height), dpi=110, layout="constrained")
    axes = figure.subplots(len(down), len(right), squeeze=False)
    for i, data in enumerate(down):
        for j, value in enumerate(right):
            shape(axes[i, j], data, value)
            name = labels(value) if across == "label_ratio" else value
            axes[i, j].set_title(f"{data}, {name}", fontsize=11)
            axes[i, j].grid(alpha=0.3)
            low, high = axes[i, j].get_ylim()
            wider = max(0.0, LEAST_SPAN - (high - low)) / 2
            axes[i, j].set_ylim(low - wider, high + wider)
            if not axes[i, j].has_data():
                axes[i, j].text(0.5, 0.5, "none yet", transform=axes[i, j].transAxes, ha="center", color="grey")
                axes[i, j].set(xticks=[], yticks=[])
    figure.legend(handles=legend, loc="outside right upper", fontsize=10, frameon=False)
    return pictures.rendered(figure)


def group_of(row: Row) -> Group:
    """The group that a row sums up."""
    return Group(*(row[key] for key in Group._fields))


def label_axis(ratios: Iterable[float]) -> tuple[str, str, dict[float, tuple[float, str]]]:
    """Scale and title of an axis of label ratios, and of each its place and name on it.

    Shares in percent, or numbers of labels; where a suite has both, side by side, for they have no common scale.
    """
    ratios = sorted(ratios)
    if ratios[0] > 1:
        return "log", "labels", {ratio: (ratio, f"{ratio:g}") for ratio in ratios}
    if ratios[-1] <= 1:
        return "log", "labels, %", {ratio: (100 * ratio, f"{100 * ratio:g}") for ratio in ratios}
    names = [f"{100 * ratio:g} %" if ratio <= 1 else f"{ratio:g}" for ratio in ratios]
    return "linear", "labels, not to scale", {ratio: (n, name) for n, (ratio, name) in enumerate(zip(ratios, names))}


def by_labels(rows: Sequence[Row], style: Style) -> Image.Image:
    """Test Dice against the share of the labels, mean and standard deviation over the seeds."""

    def shape(axes: Axes, data: str, network: str) -> None:
        own = [row for row in rows if (row["data"], row["network"]) == (data, network)]
        if not own:
            return
        scale, title, places = label_axis({row["label_ratio"] for row in own})
        points = []
        for method in dict.fromkeys(row["method"] for row in own):
            line = sorted((r for r in own if r["method"] == method), key=lambda r: r["label_ratio"])
            x = [places[r["label_ratio"]][0] for r in line]
            mean = [r["mean_dice"] or 0.0 for r in line]
            sd = [r["mean_dice_sd"] or np.nan for r in line]  # one seed has no bar
            look = style.line(group_of(line[0])) | {"linestyle": "-"}
            axes.errorbar(x, mean, sd, marker="o", markersize=4, capsize=3, elinewidth=1, **look)
            points += zip(x, mean, [look["color"]] * len(x))
        leave_below(axes, points)
        axes.set_xscale(scale)
        axes.set_xticks(*zip(*places.values()))
        axes.minorticks_off()
        axes.set_xlabel(title)
        axes.set_ylabel(f"Dice on the {style.scored}, %")

    return panels(style, [group_of(row) for row in rows], "network", shape, "")


def leave_below(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Ends the axis above trainings that fell, or one of them would press all others into a line; an arrow names each.

    Args:
        axes: where all is drawn already.
        points: place, Dice in percent and colour of each.
    """
    dice = np.array([one[1] for one in points])
    if not points or not (fell := dice < np.median(dice) - FALLEN).any():
        return
    axes.set_ylim(bottom=dice[~fell].min() - LEAST_SPAN)
    for step, (place, value, colour) in enumerate(sorted(one for one, low in zip(points, fell) if low)):
        look = {"color": colour, "arrowprops": {"arrowstyle": "->", "color": colour}, "ha": "center", "fontsize": 9}
        above = (0, 18 + 12 * (step % 3))  # points, staggered so that those of one place can be read
        axes.annotate(f"{value:.1f}", (place, 0), above, ("data", "axes fraction"), "offset points", **look)


def by_minutes(groups: Groups, style: Style) -> Image.Image:
    """Validation Dice during training, mean over the seeds at equal iterations."""

    def shape(axes: Axes, data: str, ratio: float) -> None:
        for group, found in groups.items():
            if (group.data, group.label_ratio) == (data, ratio):
                minutes, dice = mean_curve([result["validation"] for result in found])
                axes.plot(minutes, dice, marker="o", markersize=2.5, **style.line(group))
        axes.set_xlabel("minutes of training, validation included")
        axes.set_ylabel("Dice on the validation images, %")
        axes.set_xlim(left=0)

    return panels(style, list(groups), "label_ratio", shape, "line")


def mean_curve(curves: Sequence[Mapping[str, Sequence[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Minutes and Dice in percent, averaged over curves up to the end of the shortest."""
    length = min(len(curve["minutes"]) for curve in curves)
    minutes, dice = (np.array([c[k][:length] for c in curves]).mean(axis=0) for k in ("minutes", "val_mean_dice"))
    return minutes, 100 * dice


def by_parameters(rows: Sequence[Row], style: Style) -> Image.Image:
    """Test Dice against the size of the network."""
    return by_cost(rows, style, lambda row: row["parameters"] / 1e6, "parameters, millions")


def by_latency(rows: Sequence[Row], style: Style) -> Image.Image:
    """Test Dice against the time of one answer."""
    return by_cost(rows, style, lambda row: row["latency"], "milliseconds for one image")


def by_cost(rows: Sequence[Row], style: Style, cost: Callable[[Row], float], name: str) -> Image.Image:
    """Test Dice against a cost: a point for each method on each network, with its standard deviation."""
    widest, methods = max(cost(row) for row in rows), list(dict.fromkeys(row["method"] for row in rows))
    aside = dict(zip(methods, 0.018 * (np.arange(len(methods)) - (len(methods) - 1) / 2)))

    def shape(axes: Axes, data: str, ratio: float) -> None:
        points = []
        for row in (row for row in rows if (row["data"], row["label_ratio"]) == (data, ratio)):
            look = {"color": style.colours[row["method"]], "marker": style.marker(row["network"]), "capsize": 3}
            size = 9 if row["method"] in style.ours else 6
            place = cost(row) + aside[row["method"]] * widest  # side by side, or they would hide each other
            dice = row["mean_dice"] or 0.0
            axes.errorbar(place, dice, yerr=row["mean_dice_sd"], markersize=size, alpha=0.85, **look)
            points.append((place, dice, look["color"]))
        leave_below(axes, points)
        axes.set_xlim(0, 1.15 * widest)
        axes.set_xlabel(f"{name} (methods side by side)")
        axes.set_ylabel(f"Dice on the {style.scored}, %")

    return panels(style, [group_of(row) for row in rows], "label_ratio", shape, "marker")


def read_latencies(path: str) -> dict[int, float]:
    """Median milliseconds by number of parameters, from ``bench.json`` of ``python -m bundle bench``.

    Of PyTorch, one image at a time, of the smallest size and with the most threads that were timed. A network is known
    by the number of its parameters, which no two of the bench share.

    Raises:
        InputError: no such file, or it is something else.
    """
    try:
        about = json.loads(Path(path).read_text(encoding="utf-8"))
        sizes = {fact["name"]: fact["parameters"] for fact in about["networks"] if fact["backend"] == "PyTorch"}
        timed = [row for row in about["inference"] if row["name"] in sizes and row["batch"] == 1]
        size, threads = min(row["size"] for row in timed), max(row["threads"] for row in timed)
        chosen = [row for row in timed if (row["size"], row["threads"]) == (size, threads)]
        return {sizes[row["name"]]: float(row["ms"][1]) for row in chosen}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"--bench {path} is no bench.json of `python -m bundle bench`: correct it") from error
