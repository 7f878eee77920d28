# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The rows of a suite as Markdown, one table for each data set and share of the labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bundle.benchmark.statistics import POOLED, SCORES, Group
from bundle.benchmark.suite import Suite
from scripts.run.record import parameter_count

Row = Mapping[str, Any]
Table = tuple[str, list[str], list[list[str]]]  # title, headings, lines of cells


def tables(rows: Sequence[Row], suite: Suite) -> Iterator[Table]:
    """Title, headings and cells of every table, best Dice first."""
    columns = differences(rows, suite)
    for data, ratio in sorted({(row["data"], row["label_ratio"]) for row in rows}):
        part = [row for row in rows if (row["data"], row["label_ratio"]) == (data, ratio)]
        part.sort(key=lambda row: -(row["mean_dice"] or 0))
        units = {"hd95": f" {part[0]['hd95_unit']}"}
        scores = {name: heading for name, (heading, _) in SCORES.items() if any(name in row for row in part)}
        shown = [heading + units.get(name, "") for name, heading in scores.items()]
        headings = ["method", "network", "parameters", "seeds", *shown, "minutes", *columns.values()]
        yield f"{data}, {labels(ratio)}", headings, [cells(row, scores, columns) for row in part]


def all_tables(rows: Sequence[Row], compared: Sequence[Row], suite: Suite) -> list[Table]:
    """The tables of the groups, and those of the pooled scores and the comparisons where there are any."""
    pooled = pooled_table(rows, suite)
    return [*tables(rows, suite), *([pooled] if pooled else []), *([comparison_table(compared)] if compared else [])]


def pooled_table(rows: Sequence[Row], suite: Suite) -> Table | None:
    """The differences in the pooled scores, of the rows that have one."""
    columns = {
        f"{prefix}{score}_": heading.replace("Dice", SCORES[score][0], 1)
        for prefix, heading in differences(rows, suite).items()
        for score in POOLED
    }
    lines = [
        [row["data"], labels(row["label_ratio"]), row["method"], row["network"], *(gain(row, key) for key in columns)]
        for row in sorted(rows, key=lambda row: (row["data"], row["label_ratio"], -(row.get("miou") or 0)))
        if any(f"{key}difference" in row for key in columns)
    ]
    if not lines:
        return None
    return "Differences in pooled scores", ["data", "labels", "method", "network", *columns.values()], lines


def comparison_table(compared: Sequence[Row]) -> Table:
    """The pairs that the suite asks to compare."""
    scores = [score for score in POOLED if any(f"{score}_difference" in row for row in compared)]
    names = ["Dice", *(SCORES[score][0] for score in scores)]
    headings = ["data", "ours", "theirs", *(f"{name}, ours - theirs" for name in names)]
    lines = [
        [
            *(row["ours"].data, described(row["ours"]), described(row["theirs"]), gain(row, "") or "no seed in common"),
            *(gain(row, f"{score}_") for score in scores),
        ]
        for row in compared
    ]
    return "Comparisons", headings, lines


def described(group: Group) -> str:
    """``less_net on lessnet, 5 % of the labels``."""
    return f"{group.method} on {group.network}, {labels(group.label_ratio)}"


def labels(ratio: float) -> str:
    """The share or number of labels in words."""
    if not ratio:
        return "no labels"
    return f"{100 * ratio:g} % of the labels" if ratio <= 1 else f"{ratio:g} labels"


def differences(rows: Sequence[Row], suite: Suite) -> dict[str, str]:
    """Prefix and heading of the columns of differences that the suite has."""
    several = len({row["network"] for row in rows}) > 1
    columns = {"": f"Dice - {suite.baseline}"} if suite.baseline else {}
    if suite.peers:
        columns["peer_"] = "Dice - best peer" + (" on this network" if several else "")
    if suite.peers and several:
        columns["any_"] = "Dice - best peer on any network"
    return columns


def cells(row: Row, scores: Iterable[str], columns: Mapping[str, str]) -> list[str]:
    """The texts of one line."""
    values = [spread(row.get(name), row.get(f"{name}_sd")) for name in scores]
    size = parameter_count(row["parameters"]) if row["parameters"] else "-"
    gains = [gain(row, prefix) for prefix in columns]
    minutes = spread(row["minutes"], row["minutes_sd"])
    seeds = f"{row['seeds']}{'*' if row['mixed'] else ''}"
    return [row["method"], row["network"], size, seeds, *values, minutes, *gains]


def spread(mean: float | None, sd: float | None) -> str:
    """``64.2 ± 1.1``."""
    if mean is None:
        return "-"
    return f"{mean:.1f}" if sd is None else f"{mean:.1f} ± {sd:.1f}"


def gain(row: Row, prefix: str) -> str:
    """``+3.7 (+1.2 to +6.1), cps``: difference, interval, its seeds if the row tells, and the name of the peer."""
    if row.get(f"{prefix}difference") is None:
        return ""
    text = f"{row[f'{prefix}difference']:+.1f} ({row[f'{prefix}low']:+.1f} to {row[f'{prefix}high']:+.1f})"
    if seeds := row.get(f"{prefix}paired_seeds"):
        text += f", {seeds} seed{'s' * (seeds > 1)}"
    side = next((side for side in ("peer_", "any_") if prefix.startswith(side)), "")
    name = row.get(f"{side}name", "") if side else ""
    name = name if side == "any_" else name.split(" on ")[0]
    return text + (f", {name}" if name else "")


NOTES = (
    "Scores in percent, mean ± standard deviation over the seeds; minutes of training with validation. Differences in "
    "points of Dice over the same test cases, each averaged over the seeds that both have, with the 95 % interval of a "
    "paired bootstrap over the cases. The best peer is the one of the highest Dice on the validation images, on the "
    "seeds that all peers have. A star: the configs or the test images changed between these seeds. mIoU and mean "
    "recall are of the pixels of all cases together; their differences are of the seeds whose pixels both sides kept.",
    "Clusterings learn from no mask. Their Dice is of the cluster that is chosen without the reference; the two "
    "columns in which the reference chooses it, and cuts it out besides, are over the images with a lesion, and know "
    "the answer.",
)


def notes(rows: Sequence[Row], suite: Suite) -> str:
    """What the columns are."""
    other = () if suite.scored == "test images" else (f"Scored on the {suite.scored}.",)
    columns = " ".join(NOTES if any("oracle_cluster_dice" in row for row in rows) else NOTES[:1])
    return " ".join((*other, columns.replace("test images", suite.scored)))


def markdown(rows: Sequence[Row], compared: Sequence[Row], suite: Suite) -> str:
    """All tables, with a note on what the columns are."""
    parts = []
    for title, headings, lines in all_tables(rows, compared, suite):
        table = [headings, ["---"] * len(headings), *lines]
        parts.append(f"**{title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in table))
    return "\n\n".join([*parts, notes(rows, suite)]) + "\n"
