# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tables, plots and the page of a suite, and their publishing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.benchmark.results import PUBLISHED, write
from bundle.benchmark.statistics import Result, grouped, summaries
from bundle.benchmark.suite import Run, Suite
from bundle.benchmark.tables import markdown
from scripts.files import atomic_write
from scripts.handlers.history import rows_to_csv

DIGITS = 4


def write_summary(suite: Suite, results: Sequence[Result], folder: Path) -> str:
    """Writes ``tables.md`` and ``results.csv`` of the results; returns the first."""
    rows = summaries(grouped(results), suite.baseline, suite.peers)
    shown = [{k: round(v, DIGITS) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    atomic_write(folder / "results.csv", rows_to_csv(shown).encode())
    text = markdown(rows, suite)
    atomic_write(folder / "tables.md", text.encode())
    return text


def publish(suite: Suite, results: Sequence[Result], folder: Path) -> Path:
    """Writes every result as one small file below ``runs``, and their summary beside; returns the folder."""
    fields = ("data", "network", "method", "label_ratio", "seed")
    for result in results:
        write(result, folder / PUBLISHED / f"{Run(**{key: result[key] for key in fields}).name}.json")
    write_summary(suite, results, folder)
    return folder
