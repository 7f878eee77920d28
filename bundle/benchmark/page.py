# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""One self-contained page about a suite: tables, plots, and the command of every row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from bundle.benchmark.statistics import Group, Groups, Result
from bundle.benchmark.suite import Suite
from bundle.benchmark.tables import Table, described
from scripts.report import document, folded, picture

#: plots in the order of the page, with what they show
DESCRIPTIONS = {
    "dice_by_labels.png": "Dice on the {scored} by labels; bars: standard deviation over the seeds",
    "dice_by_minutes.png": "Dice on the validation images during training, mean over the seeds",
    "dice_by_parameters.png": "Dice on the {scored} by parameters; bars: standard deviation over the seeds",
    "dice_by_latency.png": "Dice on the {scored} by the time of one answer; bars: standard deviation over the seeds",
}
STYLE = "main { max-width: 1500px; } .wide { overflow-x: auto; } .wide td { white-space: nowrap; font-size: 14px; }"


def page(suite: Suite, groups: Groups, tables: Sequence[Table], note: str, plots: Mapping[str, Path]) -> str:
    """The page as text.

    Args:
        suite: what was compared.
        groups: results by group.
        tables: as :func:`bundle.benchmark.tables.all_tables` makes them.
        note: what the columns of the tables are.
        plots: the pictures by name; those that are not there are left out.
    """
    results = [result for found in groups.values() for result in found]
    body = [
        f"<h1>Benchmark {escape(suite.name)}</h1>",
        f'<p class="faint">{len(results)} of {len(suite.runs)} runs are done. {escape(made_on(results))}</p>',
        *(part for one in tables for part in table(*one)),
        f'<p class="faint">{escape(note)}</p>',
        *(part for name, text in DESCRIPTIONS.items() for part in plot(plots[name], text.format(scored=suite.scored))),
        "<h2>Commands</h2>",
        '<p class="faint">Of the first seed, in the folder of the bundle; the data sets lie below data/.</p>',
        *(part for group, found in groups.items() for part in commands(group, found[0])),
    ]
    return document(f"Benchmark {suite.name}", body, STYLE)


def made_on(results: Sequence[Result]) -> str:
    """Commits, devices and versions of the runs."""
    parts = {
        "commit": {result["commit"] for result in results if result["commit"]},
        "device": {result["device"] for result in results},
        "torch": {result["versions"]["torch"] for result in results},
        "MONAI": {result["versions"]["monai"] for result in results},
    }
    return "; ".join(f"{name} {', '.join(sorted(values))}" for name, values in parts.items() if values)


def table(title: str, headings: Iterable[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """A heading and a table."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    rows = "".join("<tr>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in line) + "</tr>" for line in lines)
    yield f"<h2>{escape(title)}</h2>"
    yield f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def plot(path: Path, text: str) -> Iterator[str]:
    """A picture with what it shows; nothing where there is none."""
    found = picture(path, text)
    if found:
        yield from (f"<h2>{escape(text)}</h2>", *found)


def commands(group: Group, result: Result) -> list[str]:
    """The commands of a row, folded."""
    text = "\n".join(result["commands"].values())
    return folded(f"{escape(group.data)}: {escape(described(group))}", [f"<pre>{escape(text)}</pre>"])
