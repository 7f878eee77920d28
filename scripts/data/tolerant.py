# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Reads a data set past its faults: what training would refuse at the first one is listed, and the rest is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripts.data.checks import LISTS, Problem, entries_of
from scripts.data.files import Collection, Item, absolute, is_image_name, is_utf8, not_utf8, printable, stem_of_name
from scripts.data.layouts import find_voc, is_listed, named_groups, named_volumes, read_listing
from scripts.data.selection import are_strata, complete_split
from scripts.errors import InputError

VAL_SHARE, TEST_SHARE = 0.1, 0.2
FOLDERS = (("images", "masks", "scribbles"), ("JPEGImages", "SegmentationClass", "scribbles"))
SIDE_OF = {"training": "training", "unlabeled": "training", "validation": "validation", "test": "test"}


def read_past_faults(
    path: Path, group_pattern: str | None, volume_pattern: str | None, problems: list[Problem]
) -> Collection:
    """The data set; where its listing is at fault, what its folders hold under equal names."""
    for check, pattern in ((named_groups, group_pattern), (named_volumes, volume_pattern)):
        check(Collection({}, {}), pattern)  # a wrong pattern is no fault of the data set
    try:
        collection = read_listing(path)
    except InputError as error:
        items, more = _pair_by_stem(path) if path.is_dir() else ({}, [])
        if not items and not is_listed(path):
            raise
        if not any(str(error) == problem.message for problem in more):
            problems.append(Problem("layout", str(path), str(error)))
        problems += more
        collection = Collection(items, {})
    return named_groups(named_volumes(collection, volume_pattern), group_pattern)


def _pair_by_stem(root: Path) -> tuple[dict[str, Item], list[Problem]]:
    """Images with the masks and scribbles of their stem, past every fault, and the faults."""
    root = absolute(root)
    try:
        root = find_voc(root) or root
    except InputError:
        return {}, []
    for names in FOLDERS:
        if (root / names[0]).is_dir():
            problems: list[Problem] = []
            images, masks, scribbles = (_by_stem(root / name, problems) for name in names)
            for key, path in [*masks.items(), *scribbles.items()]:
                if key not in images:
                    what = "mask" if path.parent.name == names[1] else "scribble"
                    message = (
                        f"The {what} {path} has no image of that stem in {root / names[0]}: rename one, or let "
                        "'python -m bundle prepare' pair them."
                    )
                    problems.append(Problem("no_image", str(path), message))
            items = {key: {"key": key, "image": str(path)} for key, path in images.items()}
            for part, paths in (("label", masks), ("scribble", scribbles)):
                for key in paths.keys() & items.keys():
                    items[key][part] = str(paths[key])
            return items, problems
    return {}, []


def _by_stem(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        path, key = folder / name, stem_of_name(name)
        if is_image_name(name) and not is_utf8(name):
            problems.append(Problem("layout", printable(path), not_utf8(path)))
            continue
        other = found.setdefault(key, path) if is_image_name(name) else path
        if other is not path:
            message = f"{other} and {path} share the stem '{key}': rename or remove one."
            problems.append(Problem("duplicate_key", str(path), message))
    return found


def all_lists(collection: Collection, dataset: str, problems: list[Problem]) -> dict[str, list[Item]]:
    """The lists with every mask in use, and ``unused``: the images that no list takes."""
    everything = list(collection.items.values())
    lists: dict[str, list[Item]] = {name: [] for name in (*LISTS, "unused")}
    try:
        sides = complete_split(collection, VAL_SHARE, TEST_SHARE)
    except InputError as error:
        sides = {"train": everything, "val": [], "test": []}
        if any(item.get("label") for item in everything):
            problems.append(Problem("split", collection.source or dataset, str(error)))
    if collection.split and are_strata(sides):
        sides = {side: [item | {"group": item["key"]} for item in items] for side, items in sides.items()}
    for item in sides["train"]:
        lists["training" if item.get("label") or item.get("scribble") else "unlabeled"].append(item)
    lists["validation"], lists["test"] = sides["val"], sides["test"]
    used = {item["key"] for items in lists.values() for item in items}
    lists["unused"] = [item for item in everything if item["key"] not in used]
    for item in sides["val"] + sides["test"]:
        if "label" not in item:
            message = f"{item['image']} is a validation or test image without a mask: add one or remove it."
            problems.append(Problem("no_mask", item["image"], message))
    return lists


def shared_groups(lists: Mapping[str, Sequence[Item]], source: str) -> Iterator[Problem]:
    first: dict[str, str] = {}
    told = set()
    for name, item in entries_of({name: lists[name] for name in LISTS}):
        other = first.setdefault(item["group"], SIDE_OF[name])
        if other != SIDE_OF[name] and (item["group"], SIDE_OF[name]) not in told:
            told.add((item["group"], SIDE_OF[name]))
            message = (
                f"The group '{item['group']}' is in both {other} and {SIDE_OF[name]} ({item['image']}): move all its "
                f"images to one side in {source}."
            )
            yield Problem("group_on_two_sides", item["image"], message)
