# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What is asked of a preparation, what is known on its way, and what it tells in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.data.prepare.inspection import Facts
from scripts.data.prepare.values import ValueRule
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources import Problem, Source
from scripts.errors import InputError

SHOWN = 20  # problems in a message


@dataclass
class Options:
    """What the command line sets; see ``bundle/prepare.py``."""

    layout: str = ""
    columns: str = ""
    images: str = ""
    masks: str = ""
    scribbles: str = ""
    unannotated: str = ""
    values: str = ""
    scribble_values: str = ""
    nearest: bool = False
    group_by: str = ""
    val_share: float = 0.1
    test_share: float = 0.2
    seed: int = 0
    plane: str = "auto"
    copy: bool = False
    skip_broken: bool = False


@dataclass
class Report:
    """What was prepared.

    Attributes:
        output: the dataset folder.
        layout: its name.
        recognised: the same for people.
        images: by list.
        classes: for each class, by list, the images whose mask holds it.
        class_names: by class.
        num_classes: background included.
        in_channels: of the network.
        ignore_value: what masks hold beside 255 where a pixel has no label; 255 if nothing else.
        annotation: what training images are labelled with.
        planes: that volumes were cut in.
        left_out: number of files.
    """

    output: str
    layout: str
    recognised: str
    images: dict[str, int]
    classes: dict[int, dict[str, int]]
    class_names: dict[int, str]
    num_classes: int
    in_channels: int
    ignore_value: int
    annotation: str
    planes: list[str]
    left_out: int


@dataclass
class Progress:
    """What is known on the way."""

    source: Source
    facts: dict[str, Facts]
    left_out: list[Problem]
    rules: dict[str, ValueRule] = field(default_factory=dict)
    tables: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)
    channels: int = 3
    marked: bool = False  # scribbles hold the number after the last class where there is no label
    ignore_value: int = IGNORE_INDEX


def drop(data: Progress, names: set[str]) -> None:
    """Leaves out the entries that have a file among ``names``, or could not be opened."""
    kept = []
    for entry in data.source.entries:
        if entry.key in data.facts and entry.name not in names:
            kept.append(entry)
        elif entry.name not in names:
            data.left_out.append((entry.name, "its mask or scribble cannot be used"))
    data.source.entries = kept


def refuse(problems: Sequence[Problem], skip: bool) -> None:
    """Ends the preparation where files are broken, unless they are to be skipped.

    Raises:
        InputError: with up to 20 of them.
    """
    if not problems or skip:
        return
    lines = [reason if name in reason else f"{name}: {reason}" for name, reason in problems]
    more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    shown = "".join(f"\n  {line}" for line in lines[:SHOWN])
    count, them = ("1 file", "it") if len(lines) == 1 else (f"{len(lines)} files", "them")
    raise InputError(f"{count} cannot be used; mend {them}, or leave {them} out with --skip-broken:{shown}{more}")
