# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The measurements as Markdown tables, and those tables inside a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.bench.training import PLAIN, SHARES
from scripts.errors import InputError
from scripts.files import atomic_write

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
Row = Mapping[str, Any]


def markdown(about: Mapping[str, Any]) -> str:
    """All tables of a ``bench.json``."""
    parts = [machine(about["machine"])]
    if compared := comparisons(about):
        parts.append("\n".join(f"* {line}" for line in compared))
    if about["networks"]:
        parts.append(networks(about))
    for threads in sorted({row["threads"] for row in about["inference"]}):
        parts.append(inference([row for row in about["inference"] if row["threads"] == threads], threads))
    if about["read_to_mask"]:
        parts.append(read_to_mask(about["read_to_mask"]))
    if about["training"]:
        parts.append(training(about["training"]))
    if about["dice"]:
        parts.append(dice(about["dice"]))
    return "\n\n".join(parts) + "\n"


def machine(found: Row) -> str:
    """One paragraph: what it was measured on."""
    gpu = f", {found['gpu']}" if found["gpu"] else ""
    pinned = "pinned to as many cores" if found["pinned"] else "not pinned"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    quick = " **A quick run, to see that it works: no measurement.**" if found["quick"] else ""
    return (
        f"Measured on {found['started'][:10]}, commit {found['commit'] or 'unknown'}: {found['cpu']}, {found['cores']} "
        f"cores{gpu}; threads {pinned}; {versions}; load of the machine before: {found['load']}.{quick}"
    )


def comparisons(about: Mapping[str, Any]) -> list[str]:
    """What the light network and its rule are for, in one sentence each: medians of the same run, most threads."""
    found = [f"PNG to mask, {line}" for line in quotients(about["read_to_mask"])]
    found += [f"the network alone, {line}" for line in quotients([r for r in about["inference"] if r["batch"] == 1])]
    rates = {row["name"]: row["images_per_second"][1] for row in about["training"]}
    if rates:
        first, second = "less_net on LESSNet", "mean_teacher on SSL4MIS U-Net"
        found.append(
            f"Training: {first} {rates[first] / rates[second]:.2f} times the images/s of {second}, "
            f"{rates[first] / rates[second + PLAIN]:.2f} times those of the same in PyTorch's default memory order, in "
            "which SSL4MIS trains."
        )
    return found


def quotients(rows: Sequence[Row]) -> list[str]:
    """LESSNet by ONNX Runtime beside the U-Net in PyTorch, smallest images, most threads: a line for one at a time, and
    one for several at once where that was measured."""
    ours, eight, theirs = "LESSNet (ONNX Runtime)", "LESSNet (ONNX Runtime, INT8)", "SSL4MIS U-Net (PyTorch)"
    if not rows:
        return []
    size, threads = min(row["size"] for row in rows), max(row["threads"] for row in rows)
    cases: dict[int, dict[str, float]] = {}
    for row in rows:
        if (row["size"], row["threads"]) == (size, threads):
            cases.setdefault(row.get("at_once", 1), {})[row["name"]] = row["images_per_second"][1]
    one, lines = cases[1], []
    for at_once, rates in sorted(cases.items()):
        other = f" and {rates[ours] / one[theirs]:.2f} times the same one at a time" if at_once > 1 else ""
        speed = f"{number(rates[ours])} a second, {rates[ours] / rates[theirs]:.2f} times {theirs}{other}"
        int8 = f"INT8 {rates[eight] / rates[ours]:.2f} times that"
        lines.append(f"{size}x{size}, {abreast(at_once)}, {words(threads)}: {ours} {speed}; {int8}.")
    return lines


def networks(about: Mapping[str, Any]) -> str:
    """What each network weighs."""
    rows = [
        (
            row["name"],
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['gmac']:.2f}",
            "-" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}",
            row["note"],
        )
        for row in about["networks"]
    ]
    size = about["machine"]["gmac_size"]
    head = ("network", "parameters (M)", f"GMAC at {size}x{size}", f"peak memory at {size}x{size} (MB)", "")
    skipped = [f"Left out: {name}, {reason}." for name, reason in about["skipped"].items()]
    return "\n\n".join([table(head, rows), *skipped])


def inference(rows: Sequence[Row], threads: int) -> str:
    """Milliseconds at batch 1, images a second at every batch."""
    cases = list(dict.fromkeys((row["size"], row["batch"]) for row in rows))
    head = ["network"]
    for size, batch in cases:
        head += [f"{size}x{size} ms"] if batch == 1 else []
        head += [f"{size}x{size} images/s, batch {batch}"]
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = {(row["size"], row["batch"]): row for row in rows if row["name"] == name}
        line = [name]
        for case in cases:
            line += [spread(own[case]["ms"])] if case[1] == 1 else []
            line += [number(own[case]["images_per_second"][1])]
        lines.append(line)
    return f"**{words(threads)}**, median (first to third quartile)\n\n{table(head, lines)}"


def read_to_mask(rows: Sequence[Row]) -> str:
    """Frames a second from file to mask."""
    cases = sorted({(row["threads"], row["at_once"]) for row in rows})
    size, lines = rows[0]["size"], []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = {(row["threads"], row["at_once"]): row for row in rows if row["name"] == name}
        lines.append([name, *(spread(own[case]["images_per_second"]) for case in cases)])
    head = ["network", *(f"frames/s, {words(threads)}, {abreast(at_once)}" for threads, at_once in cases)]
    return f"**PNG of {size}x{size} to mask**, read, preprocessing and postprocessing included\n\n" + table(head, lines)


def training(rows: Sequence[Row]) -> str:
    """Images a second, and shares of the time."""
    head = ["rule and network", "images an iteration", "ms an iteration", "images/s", *SHARES]
    lines = [
        [
            row["name"],
            str(row["images"]),
            spread(row["ms"]),
            number(row["images_per_second"][1]),
            *(f"{100 * row['shares'][part]:.0f} %" for part in SHARES),
        ]
        for row in rows
    ]
    title = f"**Training at {rows[0]['size']}x{rows[0]['size']}**, {words(rows[0]['threads'])}"
    return f"{title}\n\n{table(head, lines)}"


def dice(rows: Sequence[Row]) -> str:
    """What 8 bits cost."""
    head = ["network", f"Dice on {rows[0]['images']} validation images at {rows[0]['size']}x{rows[0]['size']} (%)"]
    return table(head, [[row["name"], f"{row['dice']:.2f}"] for row in rows])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def spread(values: Sequence[float]) -> str:
    """``12.3 (12.1 to 12.9)`` from quartiles."""
    low, middle, high = map(number, values)
    return f"{middle} ({low} to {high})"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def words(threads: int) -> str:
    """``1 thread``, ``2 threads``"""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def abreast(at_once: int) -> str:
    """``one at a time``, ``2 at once``"""
    return f"{at_once} at once" if at_once > 1 else "one at a time"


def into_document(text: str, document: Path) -> None:
    """Puts the text between the marks of a document, in place of what was there.

    Raises:
        InputError: the document or its marks are missing.
    """
    content = document.read_text(encoding="utf-8") if document.is_file() else ""
    if content.count(BEGIN) != 1 or content.count(END) != 1 or content.index(BEGIN) > content.index(END):
        raise InputError(f"{document} has no lines {BEGIN} and {END}: put them where the tables belong")
    before, after = content[: content.index(BEGIN)], content[content.index(END) :]
    atomic_write(document, f"{before}{BEGIN}\n\n{text.strip()}\n\n{after}".encode())
