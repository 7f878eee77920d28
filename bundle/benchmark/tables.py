# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of a suite: mean and standard deviation over seeds, and paired intervals against the baseline."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.benchmark.runner import RESULT
from bundle.benchmark.suite import Run
from scripts.files import atomic_write
from scripts.handlers.history import rows_to_csv

#: score -> (heading, factor)
COLUMNS = {
    "mean_dice": ("Dice", 100),
    "mean_dice_lesion": ("Dice with lesion", 100),
    "worst_decile_dice": ("Dice worst 10 %", 100),
    "miou": ("mIoU", 100),
    "mean_recall": ("recall", 100),
    "hd95": ("HD95", 1),
}
RESAMPLES = 10_000

Group = tuple[str, float, str, str]  # data, label ratio, network, method


def write_tables(runs: Sequence[Run], output: Path) -> str:
    """Writes ``results.json``, ``results.csv`` and ``tables.md`` from the runs that are done; returns the last one."""
    results = [read_result(run, output) for run in runs]
    groups: dict[Group, list[dict[str, Any]]] = defaultdict(list)
    for run, result in zip(runs, results):
        if result:
            groups[run.data, run.label_ratio, run.network, run.method].append(result)
    baseline = runs[0].baseline
    rows = [summary(group, found, groups, baseline) for group, found in groups.items()]
    done = [{key: value for key, value in result.items() if key != "cases"} for result in results if result]
    atomic_write(output / "results.json", json.dumps({"rows": rows, "runs": done}, indent=1).encode())
    atomic_write(output / "results.csv", rows_to_csv(rows).encode())
    text = markdown(rows, baseline)
    atomic_write(output / "tables.md", text.encode())
    return text


def read_result(run: Run, output: Path) -> dict[str, Any] | None:
    """The result of a run with the Dice of its ``cases`` (volumes or images) by key; None if it is not done."""
    path = output / run.name / RESULT
    if not path.is_file():
        return None
    folder = path.parent / "evaluation"
    table = next(name for name in ("per_volume.csv", "per_image.csv") if (folder / name).is_file())
    with (folder / table).open(newline="") as stream:
        cases = {row.get("key") or row["volume"]: float(row["dice"]) for row in csv.DictReader(stream)}
    return {**json.loads(path.read_text()), "cases": cases}


def summary(
    group: Group, found: Sequence[Mapping[str, Any]], groups: Mapping[Group, Sequence[Mapping[str, Any]]], baseline: str
) -> dict[str, Any]:
    """One row: mean and sd over the seeds of every score, minutes, and the paired difference to the baseline."""
    row: dict[str, Any] = dict(zip(("data", "label_ratio", "network", "method"), group))
    row["seeds"] = len(found)
    for name, (_, factor) in COLUMNS.items():
        row[name], row[f"{name}_sd"] = mean_sd(
            factor * r["scores"][name] for r in found if r["scores"][name] is not None
        )
    row["minutes"] = mean_sd(r["train_minutes"] for r in found)[0]
    row["parameters"] = found[0]["network_parameters"]
    other = groups.get((*group[:3], baseline), ())
    if other and group[3] != baseline:
        row |= dict(zip(("difference", "low", "high"), paired(found, other)))
    return row


def mean_sd(values: Iterable[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation of the sample; None where there are too few values."""
    values = list(values)
    mean = math.fsum(values) / len(values) if values else None
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return mean, spread


def paired(
    found: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], resamples: int = RESAMPLES
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Mean difference of the Dice over the cases that both scored, with its 95 % bootstrap interval, in points.

    Each case is first averaged over the seeds that both have; the cases are then drawn with replacement (percentile
    interval, Efron and Tibshirani 1993, chapter 13). It says how sure the difference is on other images, for these
    trained networks; the spread over seeds stands beside it.
    """
    seeds = {r["seed"] for r in found} & {r["seed"] for r in other}
    if not seeds:
        return None, None, None
    ours, theirs = (case_means([r["cases"] for r in side if r["seed"] in seeds]) for side in (found, other))
    differences = np.array([100 * (ours[key] - theirs[key]) for key in sorted(ours.keys() & theirs.keys())])
    draws = np.random.default_rng(0).integers(0, len(differences), (resamples, len(differences)))
    means = differences[draws].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(differences.mean()), float(low), float(high)


def case_means(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean by key over tables of the same keys."""
    return {key: math.fsum(table[key] for table in tables) / len(tables) for key in tables[0]}


def markdown(rows: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """One table for each data set and label ratio, best Dice first."""
    lines = []
    for data, ratio in dict.fromkeys((row["data"], row["label_ratio"]) for row in rows):
        part = [row for row in rows if (row["data"], row["label_ratio"]) == (data, ratio)]
        part.sort(key=lambda row: -(row["mean_dice"] or 0))
        labels = f"{100 * ratio:g} % of the labels" if ratio <= 1 else f"{ratio:g} labels"
        headings = [heading for heading, _ in COLUMNS.values()]
        lines += [f"\n**{data}, {labels}**\n"]
        lines += ["| " + " | ".join(["method", "network", "seeds", *headings, "minutes", f"Dice - {baseline}"]) + " |"]
        lines += ["|---" * (len(headings) + 5) + "|"]
        lines += [_line(row) for row in part]
    return "\n".join(lines).strip() + "\n"


def _line(row: Mapping[str, Any]) -> str:
    scores = [_spread(row[name], row[f"{name}_sd"]) for name in COLUMNS]
    difference = row.get("difference")
    gain = f"{difference:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})" if difference is not None else ""
    cells = [row["method"], row["network"], str(row["seeds"]), *scores, f"{row['minutes']:.1f}", gain]
    return "| " + " | ".join(cells) + " |"


def _spread(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.1f}" if spread is None else f"{mean:.1f} ± {spread:.1f}"
