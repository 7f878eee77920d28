# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets described by a file: ``pairs.csv``, ``splits.json`` and MONAI datalist JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.data.files import Collection, Item, collect, inside, is_image, stem
from scripts.data.sides import SIDES, column_sides
from scripts.errors import InputError
from scripts.switches import as_bool

#: entries of an item that are texts, not paths: columns of pairs.csv, entries of a datalist
FACTS = ("group", "volume", "slice", "spacing")
#: columns that name the patient or video, in small letters with ``_`` between the words
GROUP_COLUMNS = "group patient patient_id patientid subject subject_id case study study_id video video_id".split()

EXCEL_SEPARATOR = re.compile(r'"?sep=([,;\t])"?[,;\t]*\r?\n', re.I)  # a first line that tells Excel the separator

DATALIST_LISTS = ("training", "unlabeled", "validation", "test")
DATALIST_WORDS = {word: {"train": "training", "val": "validation"}.get(side, side) for word, side in SIDES.items()}
DATALIST_WORDS |= {"unlabeled": "unlabeled", "unlabelled": "unlabeled"}


def column_word(column: str) -> str:
    """The name of a column as it is compared: ``Patient ID`` is ``patient_id``."""
    return column.lower().replace(" ", "_").replace("-", "_")


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, else in Windows-1252, in which Windows programs save in Western Europe.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no such text.
    """
    content = Path(path).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252")
    if "\0" in text:
        raise ValueError("it holds null characters")
    return text


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file (:func:`read_text`), stripped, without empty ones.

    Raises:
        InputError: the file is no text.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): save it as text in UTF-8 or remove it.") from None
    return [line.strip() for line in lines if line.strip()]


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file, separated by commas, semicolons or tabs.

    Encoded as :func:`read_text` takes it: Excel saves CSV files in Windows-1252 in Western Europe. A first line
    ``sep=;`` is for Excel.

    Raises:
        InputError: the file is no such table.
    """
    try:
        text = read_text(path)
        told = EXCEL_SEPARATOR.match(text)
        text = text[told.end() :] if told else text
        separator = told[1] if told else max(",;\t", key=text.split("\n", 1)[0].count)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
    except (OSError, csv.Error, ValueError) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error}): save it as such.") from None
    return [{str(name).strip(): str(value or "").strip() for name, value in row.items() if name} for row in rows]


def read_pairs_csv(root: Path) -> Collection:
    """Reads ``pairs.csv``: columns ``image`` and ``mask`` (paths relative to ``root``), and, where there are such,
    ``key``, ``group`` (or ``patient``, ``case``, ...: see GROUP_COLUMNS), ``scribble``, ``split``, ``volume``,
    ``slice`` and ``spacing``. A row without mask is an unlabelled image. Backslashes in paths are those of Windows.

    ``splits.json`` pins the split; without it the column ``split`` does (:func:`scripts.data.sides.column_sides`).

    Raises:
        InputError: a column is missing, a path leaves the folder, a key comes twice, or some rows alone have a side.
    """
    path = root / "pairs.csv"
    rows = read_rows(path)
    missing = {"image", "mask"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{path} has no column '{min(missing)}': it needs the columns key, image, mask and group.")
    items = collect((_row_item(root, row, path) for row in rows), path)
    collection = read_splits_json(root, items)
    if not collection.split:
        collection.source = f"The column 'split' of {path}"
        collection.split = _split_column(rows, items, collection.source)
    return collection


def _row_item(root: Path, row: dict[str, str], path: Path) -> Item:
    if not row.get("image"):
        raise InputError(f"{path} has a row without an image (key '{row.get('key', '')}'): complete or remove it.")
    item = {"key": row.get("key") or stem(_listed_path(root, row["image"], path)), "image": ""}
    for name, column in (("image", "image"), ("label", "mask"), ("scribble", "scribble")):
        if row.get(column):
            item[name] = _listed_path(root, row[column], path)
    groups = {column_word(column): value for column, value in row.items() if value}
    group = next((groups[word] for word in GROUP_COLUMNS if word in groups), "")
    return item | {name: row[name] for name in FACTS if row.get(name)} | ({"group": group} if group else {})


def _listed_path(root: Path, name: str, path: Path) -> str:
    """The file that a cell names; backslashes are those of Windows unless there is a file of that very name."""
    found = inside(root, name, path)
    return str(found if "\\" not in name or found.exists() else inside(root, name.replace("\\", "/"), path))


def _split_column(rows: list[dict[str, str]], items: dict[str, Item], source: str) -> dict[str, list[str]]:
    split: dict[str, list[str]] = {}
    sides = column_sides([row.get("split", "") for row in rows], ["label" in item for item in items.values()], source)
    for key, side in zip(items, sides):
        if side:
            split.setdefault(side, []).append(key)
    return split


def read_splits_json(root: Path, items: dict[str, Item]) -> Collection:
    """The items with the split of ``splits.json`` (lists of keys: train, val, test), where there is such a file.

    Raises:
        InputError: the file has other entries, names an unknown key, or names a key twice.
    """
    path = root / "splits.json"
    if not path.is_file():
        return Collection(items, {})
    content = read_json(path)
    split = {SIDES.get(name): keys for name, keys in content.items()}
    if None in split or not split or len(split) < len(content) or not all(map(_names, split.values())):
        raise InputError(
            f"{path} must hold the lists train, val and test; it holds: {', '.join(content) or 'nothing'} (each may "
            "stand once, and names keys alone)."
        )
    for key, count in Counter(key for keys in split.values() for key in keys).items():
        if key not in items:
            raise InputError(f"{path} names the key '{key}', for which there is no image: add it or remove the key.")
        if count > 1:
            raise InputError(f"{path} names the key '{key}' {count} times: keep it in one list only.")
    return Collection(items, split, ordered=True, source=str(path))


def _names(entries: Any) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, str) for entry in entries)


def read_datalist_json(path: Path) -> Collection:
    """Reads a MONAI datalist: ``training``, ``unlabeled``, ``validation`` and ``test``, lists of items; other words for
    these, such as ``val`` and ``unlabelled``, are understood.

    An item is ``{"image": ..., "label": ...}`` or, without a mask, just the path; ``key``, ``group``, ``scribble``,
    ``volume``, ``slice`` and ``spacing`` are taken over. Relative paths start at the file's folder and stay in it,
    absolute paths may lead anywhere. The key is the image's stem or, if stems repeat, its path with ``_`` for the
    separators. With ``"ordered": true`` images are labelled in the order of ``training``, as in ``splits.json``;
    ``num_classes`` is taken over.

    Raises:
        InputError: the file is no such datalist, holds a list of images by an unknown name, or lists an image twice.
    """
    content = read_json(path)
    lists = _lists_of_images(content, path)
    listed = {name: [_listed_item(path, entry, name) for entry in entries] for name, entries in lists.items()}
    everything = [item for entries in listed.values() for item in entries]
    _name_items(everything, path)
    items = collect(everything, path)
    keys = {name: [item["key"] for item in entries] for name, entries in listed.items()}
    sides = {"train": keys["training"] + keys["unlabeled"], "val": keys["validation"], "test": keys["test"]}
    split = {side: names for side, names in sides.items() if names}
    ordered, classes = as_bool(content.get("ordered", False), f"'ordered' in {path}"), content.get("num_classes")
    return Collection(items, split, ordered, str(path), classes if isinstance(classes, int) else 0)


def noted_class_names(content: Mapping[str, Any]) -> dict[int, str]:
    """``class_names`` as ``prepare`` notes them, by class; what other programs mean by that key is passed over."""
    names = content.get("class_names")
    names = names if isinstance(names, dict) else {}
    return {int(k): name for k, name in names.items() if k.isdecimal() and isinstance(name, str)}


def _lists_of_images(content: dict[str, Any], path: Path) -> dict[str, list[Any]]:
    """The four lists by their own names. To pass over one that has another name would make a split anew."""
    lists: dict[str, list[Any]] = {}
    for name, entries in content.items():
        word = DATALIST_WORDS.get(name.lower())
        if not word:
            if isinstance(entries, list) and any(map(_is_entry, entries)):
                raise InputError(
                    f"{path} lists images under '{name}', which is none of training, unlabeled, validation and test: "
                    "rename it, or leave it out."
                )
            continue
        if not isinstance(entries or [], list):
            raise InputError(f"{path} has no list but {entries!r} under '{name}': list its images, or leave it out.")
        if word in lists:
            raise InputError(f"{path} has the {word} images in two lists, one of them '{name}': keep one.")
        lists[word] = entries or []
    if not lists:
        raise InputError(f"{path} has no list 'training': it must be a MONAI datalist (training, validation, test).")
    return {name: lists.get(name, []) for name in DATALIST_LISTS}


def _is_entry(entry: Any) -> bool:
    return "image" in entry if isinstance(entry, dict) else isinstance(entry, str) and is_image(entry)


def _listed_item(path: Path, entry: Any, name: str) -> Item:
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise InputError(f"{path} has an item in '{name}' without an image path: write {{'image': ..., 'label': ...}}.")
    wanted = ("image",) if name == "unlabeled" else ("image", "label", "scribble")
    item = {part: str(inside_or_absolute(path, str(entry[part]))) for part in wanted if entry.get(part)}
    return item | {part: _as_text(entry[part]) for part in ("key", *FACTS) if entry.get(part) not in (None, "")}


def _as_text(value: Any) -> str:
    """A number or a list of numbers (``spacing``) as the text that an item holds."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def inside_or_absolute(path: Path, name: str) -> Path:
    """``name`` itself if it is absolute, else below the folder of the file ``path``."""
    return Path(os.path.normpath(name)) if Path(name).is_absolute() else inside(path.parent, name, path)


def _name_items(items: list[Item], path: Path) -> None:
    repeated = Counter(item["image"] for item in items)
    twice = next((image for image, count in repeated.items() if count > 1), None)
    if twice:
        raise InputError(f"{path} lists the image {twice} twice: keep it in one list only.")
    unique = len({stem(item["image"]) for item in items}) == len(items)
    for item in items:
        image = Path(item["image"])
        relative = image.relative_to(path.parent) if image.is_relative_to(path.parent) else image
        folders = [part for part in relative.parent.parts if part != image.anchor]
        item.setdefault("key", stem(image) if unique else "_".join((*folders, stem(image))))


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): correct or remove it.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object of lists: correct or remove it.")
    return content
