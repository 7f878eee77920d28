# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Which image goes to which list, in which group, and under which name: decided before anything is written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scripts.data.files import Collection, Item
from scripts.data.layouts import found_by
from scripts.data.prepare.duplicates import merge_groups
from scripts.data.prepare.inspection import Facts
from scripts.data.reader import IGNORE_INDEX
from scripts.data.selection import NAME_START, are_strata, check_sides, complete_split, shared_starts
from scripts.data.sources.base import Entry, Problem
from scripts.errors import InputError

LONGEST = 150  # bytes of a file name without its suffix; file systems take 255
LISTS = ("training", "unlabeled", "validation", "test")


@dataclass
class Planned:
    """An item of the data list with what it comes from.

    Attributes:
        item: key, group and facts; the paths are filled in when they are known.
        entry: its image or volume.
        index: of its slice; None for an image that is no volume.
        classes: held by its mask, by part: ``label``, ``scribble``.
    """

    item: Item
    entry: Entry
    index: int | None = None
    classes: dict[str, set[int]] = field(default_factory=dict)


def groups_of(entries: Sequence[Entry], group_by: str) -> dict[str, str]:
    """The group of each entry by its key: as ``--group-by`` says, else as the source names it, else its own.

    Args:
        entries: all entries.
        group_by: ``folder``, ``column:NAME``, ``pattern:REGEX`` or empty.

    Raises:
        InputError: it is none of them, an entry has no such folder or column, or the pattern finds nothing.
    """
    kind, _, name = group_by.partition(":")
    if kind == "folder" and not name:
        found = {entry.key: entry.folder for entry in entries}
        what = "lies in no sub-folder of its own"
    elif kind == "column" and name:
        found = {entry.key: entry.columns.get(name, "") for entry in entries}
        what = f"has nothing in the column '{name}'"
    elif kind == "pattern" and name:
        keys = [entry.key for entry in entries]
        return {key: key for key in keys} | found_by(name, keys, "the pattern of --group-by")
    elif not group_by:
        return {entry.key: entry.facts.get("group") or entry.facts.get("volume") or entry.key for entry in entries}
    else:
        raise InputError(f"--group-by is '{group_by}': give folder, column:NAME or pattern:REGEX.")
    lost = next((entry for entry in entries if not found[entry.key]), None)
    if lost is not None:
        raise InputError(f"{lost.name} {what}: --group-by {group_by} needs that of every image.")
    return found


def group_hint(entries: Sequence[Entry], group_by: str) -> str:
    """Says what looks like several images a patient where nothing tells the groups; empty where nothing does."""
    if group_by or any(entry.side or entry.facts.get("group") for entry in entries):
        return ""
    folders = {entry.folder for entry in entries}
    folders = sorted(folders) if "" not in folders and 1 < len(folders) < len(entries) else []
    starts = shared_starts([entry.key for entry in entries])
    for found, what, option in (
        (folders, "lie in {} folders", "folder"),
        (starts, "have names that begin in {} ways", f"'pattern:{NAME_START.pattern}'"),
    ):
        if found:
            shown = ", ".join([*found[:3], *(["..."] if len(found) > 3 else [])])
            return (
                f"The {len(entries)} images {what.format(len(found))} ({shown}), but each of them is split on its own: "
                f"if that is one patient or video, add --group-by {option}, or test scores will be too good."
            )
    return ""


def items_of(entry: Entry, facts: Facts, group: str, tables: Mapping[str, dict[int, int]]) -> list[Planned]:
    """The items of an entry: one, or one a slice. ``label`` and ``scribble`` are there, still without their paths.

    Args:
        entry: the image or volume.
        facts: what was found in it.
        group: its group.
        tables: class by value of its mask and of its scribble.
    """
    known = {name: value for name, value in entry.facts.items() if name in ("volume", "slice")}
    known |= {"spacing": facts.spacing} if facts.spacing else {}
    item = {"key": entry.key, "image": entry.name, "group": group} | known
    planned = []
    for index in range(facts.slices or 1):
        one = Planned(dict(item), entry, index if facts.slices else None)
        if facts.slices:
            one.item |= {"key": f"{entry.key}_slice_{index:03d}", "volume": entry.key, "slice": str(index)}
        for part, table in tables.items():
            classes = {table[code] for code in getattr(facts, part)[index]}
            if classes != {IGNORE_INDEX}:
                one.classes[part] = classes
                one.item[part] = ""
        planned.append(one)
    return planned


@dataclass
class Split:
    """The four lists, and what is in none of them for which reason."""

    lists: dict[str, list[Planned]]
    left_out: list[Problem]


def split_items(planned: Sequence[Planned], shares: tuple[float, float], seed: int, source: str) -> Split:
    """Puts every item into a list: on the side that the source pins, else by whole groups.

    An image without mask that the source holds out becomes an unlabelled one, unless its group is held out.

    Args:
        planned: the items; their entries tell the side.
        shares: of the masks, for validation and test.
        seed: of the order in which groups are taken.
        source: what pins the split, for messages.

    Raises:
        InputError: too few masks or groups, or a group is on two sides.
    """
    by_key = {one.item["key"]: one for one in planned}
    pinned: dict[str, list[str]] = {}
    if any(one.entry.side for one in planned):
        for one in planned:
            side = one.entry.side if "label" in one.item else None
            pinned.setdefault(side or "train", []).append(one.item["key"])
    collection = Collection({key: one.item for key, one in by_key.items()}, pinned, source=source)
    classes = {key: one.classes.get("label", set()) - {0, IGNORE_INDEX} for key, one in by_key.items()}
    sides = complete_split(collection, *shares, seed, classes)
    held_out = {item["group"] for side in ("val", "test") for item in sides[side]}
    train = [item for item in sides["train"] if "label" in item or item["group"] not in held_out]
    check_sides({**sides, "train": train}, source)
    lists = {
        "training": [item for item in train if "label" in item or "scribble" in item],
        "unlabeled": [item for item in train if "label" not in item and "scribble" not in item],
        "validation": sides["val"],
        "test": sides["test"],
    }
    made = {name: [by_key[item["key"]] for item in items] for name, items in lists.items()}
    used = {one.item["key"] for items in made.values() for one in items}
    reason = "it has no mask, and others of its group are held out"
    left = {one.entry.name: reason for one in planned if one.item["key"] not in used}
    return Split(made, list(left.items()))


def settle_groups(entries: Sequence[Entry], groups: dict[str, str], twins: Sequence[list[Entry]]) -> int:
    """Makes equal images of one side one group, in place; returns how many groups were merged.

    Groups that are kinds of images rather than patients (see :func:`scripts.data.selection.are_strata`) are given up.
    """
    sides: dict[str, list[Item]] = {}
    for entry in entries:
        sides.setdefault(entry.side or "train", []).append({"key": entry.key, "group": groups[entry.key]})
    if len(sides) == 3 and are_strata(sides):
        groups.update({entry.key: entry.key for entry in entries})
    return merge_groups(groups, twins)


def file_names(keys: Sequence[str]) -> dict[str, str]:
    """A file name (without suffix) for each key: the key without what file systems refuse, shortened if too long."""
    names: dict[str, str] = {}
    used: set[str] = set()
    for key in keys:
        name = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", key).strip(". ") or "image"
        if len(name.encode()) > LONGEST or name.lower() in used:
            mark = hashlib.sha256(key.encode()).hexdigest()[:10]
            name = f"{name.encode()[:LONGEST].decode('utf-8', 'ignore')}-{mark}"
        used.add(name.lower())
        names[key] = name
    return names
