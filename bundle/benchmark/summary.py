# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tables, plots and the page of a suite, and their publishing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bundle.benchmark.lists import Lists
from bundle.benchmark.page import DESCRIPTIONS, page
from bundle.benchmark.plots import draw, read_latencies
from bundle.benchmark.results import PUBLISHED, find, write
from bundle.benchmark.statistics import Result, compared, grouped, summaries
from bundle.benchmark.suite import Run, Suite
from bundle.benchmark.tables import all_tables, markdown, notes
from scripts import pictures
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers.history import rows_to_csv

DIGITS = 4


def write_summary(suite: Suite, results: Sequence[Result], folder: Path, bench: str = "") -> str:
    """Writes ``tables.md``, ``results.csv``, ``results.json``, the plots and the page; returns the tables.

    Args:
        suite: what was compared.
        results: of its runs, as many as there are.
        folder: where to.
        bench: ``bench.json`` of ``python -m bundle bench`` for the plot against latency; empty: none.
    """
    groups = grouped(results)
    rows, pairs = summaries(groups, suite.baseline, suite.peers), compared(groups, suite.comparisons)
    shown = [{k: round(v, DIGITS) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    atomic_write(folder / "results.csv", rows_to_csv(shown).encode())
    atomic_write(folder / "results.json", json.dumps({"rows": shown}, indent=1).encode())
    text = markdown(rows, pairs, suite)
    atomic_write(folder / "tables.md", text.encode())
    latencies = read_latencies(bench) if bench else {}
    plots = {name: folder / name for name in DESCRIPTIONS}
    for path in plots.values():
        path.unlink(missing_ok=True)  # one of before could be of other results
    for name, plot in draw(suite, groups, rows, latencies).items():
        pictures.save(plot.quantize(256), plots[name])
    html = page(suite, groups, all_tables(rows, pairs, suite), notes(rows, suite), plots)
    atomic_write(folder / "index.html", html.encode())
    return text


def check_published(suite: Suite, folder: Path, lists: Callable[[Run], Lists | None]) -> None:
    """The results that a folder publishes are those of this suite: tables made anew would leave the others out.

    Raises:
        InputError: one is of no run of the suite, or was made with other settings or images.
    """
    runs = {folder / PUBLISHED / f"{run.name}.json": run for run in suite.runs}
    for path in sorted((folder / PUBLISHED).rglob("*.json")):
        why: list[str] = []
        if path not in runs:
            why = [f"{path} is of no run of this suite"]
        else:
            find(runs[path], [folder], why.append, lists)
        if why:
            raise InputError(f"{why[0]}. --publish would drop it: name a new folder, or remove it first.")


def publish(suite: Suite, results: Sequence[Result], folder: Path, bench: str = "") -> None:
    """Writes every result as one small file below ``runs``, and their summary beside."""
    fields = ("data", "network", "method", "label_ratio", "seed")
    for result in results:
        write(result, folder / PUBLISHED / f"{Run(**{key: result[key] for key in fields}).name}.json")
    write_summary(suite, results, folder, bench)
