# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tables (CSV) of any make that name an image, and mostly a mask, in each row."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from scripts.data.files import is_image, stem
from scripts.data.listings import FACTS, GROUP_COLUMNS, column_word, read_rows
from scripts.data.sides import column_sides, side_of
from scripts.data.sources.base import Entry, Problem, Source, folder_below
from scripts.data.sources.tree import Finder, Tree
from scripts.errors import InputError

ROLES = ("key", "image", "label", "scribble", "split", *FACTS)
NAMES = {
    "key": "key id image_id case_id",
    "image": "image images img image_path img_path image_file image_name imagepath filename file_name file path",
    "label": "mask masks mask_path mask_file mask_name maskpath label label_path labels segmentation seg seg_path gt "
    "ground_truth annotation target",
    "scribble": "scribble scribbles scribble_path",
    "group": " ".join(GROUP_COLUMNS),
    "split": "split set subset side partition",
    "volume": "volume volume_id",
    "slice": "slice slice_index",
    "spacing": "spacing",
}
WORDS = {word: role for role, words in NAMES.items() for word in words.split()}
PATHS = ("image", "label", "scribble")

logger = logging.getLogger("less_net")


def parse_columns(text: str) -> dict[str, str]:
    """``image=photo,mask=truth`` as the column of each role.

    Raises:
        InputError: a part is not of that form, or there is no such role.
    """
    columns = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        role = "label" if role == "mask" else role
        if not equals or not column or role not in ROLES:
            raise InputError(f"--columns has '{part}': write image=COLUMN,mask=COLUMN,group=COLUMN.")
        columns[role] = column
    return columns


def columns_of(rows: list[dict[str, str]], given: dict[str, str]) -> dict[str, str]:
    """The column of each role: given, else the first one with a known name; paths only if they look like paths."""
    columns = {role: given[role] for role in given}
    for column in rows[0] if rows else ():
        role = WORDS.get(column_word(column))
        if role is None or role in columns or column in columns.values():
            continue
        if role not in PATHS or any(is_image(row.get(column, "")) for row in rows[:50]):
            columns[role] = column
    return columns


def find_tables(tree: Tree, columns: dict[str, str]) -> list[str]:
    """The CSV files, in the folder itself, that name images and masks; with their columns given, images are enough."""
    found = []
    for name in tree.listings:
        if not name.lower().endswith(".csv") or "/" in name:
            continue
        try:
            rows = read_rows(tree.path(name))
        except InputError as error:
            logger.warning("Passed over: %s", error)
            continue
        names = columns_of(rows, {role: column for role, column in columns.items() if rows and column in rows[0]})
        if "image" in names and ("label" in names or "scribble" in names or "image" in columns):
            found.append(name)
        elif pictures := names_images(rows):
            logger.warning(
                "%s is not used: no column is called image or mask. If it lists them, say which by --columns image=%s.",
                tree.path(name),
                ",mask=".join(pictures[:2]),
            )
    return found


def names_images(rows: list[dict[str, str]]) -> list[str]:
    """The columns whose cells name image files."""
    return [column for column in rows[0] if any(is_image(row.get(column, "")) for row in rows[:50])] if rows else []


def read_tables(tree: Tree, tables: list[str], given: dict[str, str]) -> Source:
    """Reads one table, or several whose names tell the side (``train.csv``, ``test.csv``).

    Paths are relative to the folder; where there is no such file, the only file of that name or stem below it counts.
    An image in several rows is a problem: which of them counts is left to people.

    Raises:
        InputError: a given column is missing, or some rows alone name a side.
    """
    entries, problems, places = [], [], []
    find = Finder(tree)
    several = len(tables) > 1
    for name in tables:
        rows = read_rows(tree.path(name))
        for role, column in given.items():
            if not rows or column not in rows[0]:
                has = ", ".join(rows[0]) if rows else "none"
                raise InputError(f"{tree.path(name)} has no column '{column}' (for {role}); its columns: {has}.")
        columns = columns_of(rows, given)
        made, more = _entries(tree, name, rows, columns, find)
        if several:
            for entry in made.values():
                entry.side = side_of(Path(name).stem)
        entries += made.values()
        places += [(entry.name, f"row {number} of {name}") for number, entry in made.items()]
        problems += more
    problems += repeated(places)
    masks = sum(entry.label is not None for entry in entries)
    text = f"the table {', '.join(tables)} ({len(entries)} images, {masks} with a mask)"
    return Source("csv", text, entries, problems=problems)


def _entries(
    tree: Tree, table: str, rows: list[dict[str, str]], columns: dict[str, str], find: Finder
) -> tuple[dict[int, Entry], list[Problem]]:
    """The entries by the number of their row, and what is wrong with other rows."""
    entries, problems = {}, []
    source = tree.path(table)
    sides: list[str | None] = [None] * len(rows)
    if "split" in columns:
        masked = [bool(row.get(columns.get("label", ""))) for row in rows]
        named = [row.get(columns["split"], "") for row in rows]
        sides = column_sides(named, masked, f"The column '{columns['split']}' of {source}")
    for number, (row, side) in enumerate(zip(rows, sides), start=2):
        cells = {role: row.get(column, "") for role, column in columns.items()}
        paths: dict[str, str | None] = {}
        for role in PATHS:  # the image first, which is neither its mask nor its scribble
            if cells.get(role):
                paths[role] = find(cells[role], but=paths.get("image"))
        lost = [cells[role] for role, path in paths.items() if path is None]
        if lost or "image" not in paths:
            what = f"'{lost[0]}' is not there, or there are several of that name" if lost else "there is no image"
            problems.append((source, f"row {number}: {what}"))
            continue
        image = paths.pop("image")
        entry = Entry(cells.get("key") or stem(image), (image,), **paths, columns=row)
        entry.side = side
        entry.folder = folder_below(image, tree.root)
        entry.facts = {name: cells[name] for name in FACTS if cells.get(name)}
        entries[number] = entry
    return entries, problems


def repeated(places: Iterable[tuple[str, str]]) -> list[Problem]:
    """The images that several rows list.

    Args:
        places: image and row.
    """
    rows = defaultdict(list)
    for image, row in places:
        rows[image].append(row)
    reason = "{} list it: keep one of them"
    return [(image, reason.format(" and ".join(found))) for image, found in rows.items() if len(found) > 1]
