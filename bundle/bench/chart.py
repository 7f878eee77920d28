# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The plot: accuracy against latency where accuracies are known, else parameters against latency."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from bundle.bench.contenders import ARCHITECTURES, INT8, ONNX, TORCH
from scripts import pictures
from scripts.errors import InputError

STYLES = {TORCH: ("o", pictures.BLUE), ONNX: ("s", pictures.VERMILION), INT8: ("^", (0, 158, 115))}


def accuracies(path: str) -> dict[str, float]:
    """Best mean Dice over the rules by architecture, from ``results.json`` of ``python -m bundle benchmark``.

    Only rows of the first data set and label ratio count, so that all were learnt from the same labels.

    Raises:
        InputError: no such file, or it is something else.
    """
    if not path:
        return {}
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
        first = (rows[0]["data"], rows[0]["label_ratio"])
        rows = [row for row in rows if (row["data"], row["label_ratio"]) == first and row["mean_dice"] is not None]
        found = {}
        for architecture in ARCHITECTURES:
            scores = [row["mean_dice"] for row in rows if architecture.suite and row["network"] == architecture.suite]
            if scores:
                found[architecture.name] = max(scores)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"--results {path} is no results.json of `python -m bundle benchmark`: correct it") from error
    if not found:
        known = ", ".join(one.suite for one in ARCHITECTURES if one.suite)
        raise InputError(f"--results {path} has none of the networks {known}: give another one")
    return found


def plot(about: Mapping[str, Any], dice: Mapping[str, float]) -> Image.Image:
    """Every network at the smallest size, batch 1 and most threads; ``dice`` by architecture, may be empty."""
    rows = chosen(about["inference"])
    facts = {row["name"]: row for row in about["networks"]}
    figure = Figure(figsize=(9, 5.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    width = 1.3 * max(row["ms"][1] for row in rows)  # room for the names
    named: dict[str, list[tuple[float, float]]] = {}
    for backend, (marker, colour) in STYLES.items():
        points = []
        for row in rows:
            fact = facts[row["name"]]
            if fact["backend"] == backend and (not dice or fact["architecture"] in dice):
                height = dice[fact["architecture"]] if dice else fact["parameters"] / 1e6
                points.append((row["ms"][1], height))
                named.setdefault(fact["architecture"], []).append(points[-1])
        if points:
            x, y = zip(*points)
            axes.scatter(x, y, s=90, marker=marker, color=[tuple(part / 255 for part in colour)], label=backend)
    for name, places in named.items():
        for place in last_of_neighbours(places, width / 10):
            axes.annotate(name, place, (7, 5), textcoords="offset points", fontsize=10)
    case = rows[0]
    axes.set_xlabel(
        f"milliseconds for one image of {case['size']}x{case['size']}, threads: {case['threads']}", fontsize=12
    )
    axes.set_ylabel("mean Dice on test images (%)" if dice else "parameters (millions)", fontsize=12)
    axes.margins(y=0.15)
    axes.set_xlim(0, width)
    if not dice:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=11)
    return pictures.rendered(figure)


def last_of_neighbours(places: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Of points of one height, from left to right, those with no other within ``gap`` to their right: one name serves.

    Example:
        >>> last_of_neighbours([(5.0, 1.0), (1.0, 1.0), (1.5, 1.0)], gap=1.0)
        [(1.5, 1.0), (5.0, 1.0)]
    """
    ordered = sorted(places)
    return [place for place, after in zip(ordered, [*ordered[1:], None]) if after is None or after[0] - place[0] > gap]


def chosen(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the case that is plotted."""
    size, threads = min(row["size"] for row in rows), max(row["threads"] for row in rows)
    return [row for row in rows if (row["size"], row["batch"], row["threads"]) == (size, 1, threads)]
