# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""COCO instance annotations: polygons and run lengths become masks of classes.

Source: the COCO data format, cocodataset.org; decoded by pycocotools.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources.base import Entry, Problem, Source, folder_below
from scripts.data.sources.tree import Finder, Tree
from scripts.data.sources.words import side_of
from scripts.errors import InputError

MARKS = (b'"images"', b'"annotations"', b'"categories"')
MOST_CLASSES = 254


def find_coco(tree: Tree) -> list[str]:
    """The JSON files that hold COCO annotations, relative to the tree; found without parsing them."""
    found = []
    for name in tree.listings:
        if name.lower().endswith(".json"):
            content = Path(tree.path(name)).read_bytes()
            if all(mark in content for mark in MARKS):
                found.append(name)
    return found


def read_coco(tree: Tree, listings: list[str]) -> Source:
    """Reads one or more COCO files.

    Categories become the classes 1, 2, ... in the order of their ids. Annotations are painted the largest first, so
    that of overlapping ones the smaller lies on top; among equals, the later one does. Areas of ``iscrowd`` are ignored
    where nothing else lies on them. An image without annotation is one of nothing but background. Several files pin the
    split if their names tell it (``instances_train.json``, ``instances_val.json``).

    Raises:
        InputError: a file is no valid COCO file, or the files differ in their categories.
    """
    contents = {name: _read(tree.path(name)) for name in listings}
    categories = _categories(contents, tree)
    classes = {number: index for index, number in enumerate(sorted(categories), start=1)}
    sides = {name: side_of(Path(name).stem) for name in listings}
    pinned = None not in sides.values() and "train" in sides.values() and len(set(sides.values())) > 1
    entries, problems = [], []
    for name, content in contents.items():
        made, more = _entries(tree, name, content, classes)
        for entry in made:
            entry.side = sides[name] if pinned else None
        entries += made
        problems += more
    _name_keys(entries)
    objects = sum(len(content["annotations"]) for content in contents.values())
    text = f"COCO annotations in {', '.join(listings)} ({len(entries)} images, {objects} objects)"
    names = {0: "background", **{classes[number]: name for number, name in categories.items()}}
    return Source("coco", text, entries, class_names=names, problems=problems)


def _read(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): correct or remove it.") from None
    for part in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise InputError(f"{path} has no list '{part}', so it is no COCO file: correct or remove it.")
    return content


def _categories(contents: dict[str, dict[str, Any]], tree: Tree) -> dict[int, str]:
    """Names by id, equal in all files."""
    found: dict[int, str] = {}
    for index, (name, content) in enumerate(contents.items()):
        try:
            its = {int(one["id"]): str(one.get("name", one["id"])) for one in content["categories"]}
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{tree.path(name)} has a category without a numeric id: correct it.") from None
        if index and its != found:
            raise InputError(f"{tree.path(name)} has other categories than {next(iter(contents))}: make them equal.")
        found = its
    if not 0 < len(found) <= MOST_CLASSES:
        raise InputError(f"The COCO files have {len(found)} categories: 1 to {MOST_CLASSES} can be classes.")
    return found


def _entries(
    tree: Tree, listing: str, content: dict[str, Any], classes: dict[int, int]
) -> tuple[list[Entry], list[Problem]]:
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        if isinstance(annotation, dict):
            annotations[annotation.get("image_id")].append(annotation)
    find, source = Finder(tree), tree.path(listing)
    beside = Path(listing).parent.as_posix()
    entries, problems = [], []
    for image in content["images"]:
        try:
            name, size = str(image["file_name"]), (int(image["width"]), int(image["height"]))
            path = find(name, beside)
        except (KeyError, TypeError, ValueError):
            problems.append((source, f"an image needs file_name, width and height: {str(image)[:80]}"))
            continue
        if path is None:
            problems.append((source, f"the image {name} that it lists is not there, or there are several of that name"))
            continue
        label = partial(paint, annotations.get(image.get("id"), []), size, classes, source)
        entries.append(Entry(stem(path), (path,), label, folder=folder_below(path, tree.root)))
    return entries, problems


def _name_keys(entries: list[Entry]) -> None:
    """Keys are stems, with the folder before those that repeat."""
    repeated = Counter(entry.key for entry in entries)
    for entry in entries:
        if repeated[entry.key] > 1 and entry.folder:
            entry.key = f"{entry.folder.replace('/', '_')}_{entry.key}"


def paint(annotations: list[dict[str, Any]], size: tuple[int, int], classes: dict[int, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image: class indices, 255 where a crowd lies on background.

    Args:
        annotations: the image's annotations.
        size: width and height.
        classes: class index by category id.
        source: the COCO file, for messages.

    Raises:
        InputError: an annotation has no outline, a broken one, or an unknown category.
    """
    layers = []
    for annotation in annotations:
        area = _outline(annotation, size, source)
        if annotation.get("category_id") not in classes:
            raise InputError(f"{source}: annotation {annotation.get('id')} has an unknown category: correct it.")
        crowd = bool(annotation.get("iscrowd", 0))
        layers.append(
            (not crowd, -int(area.sum()), area, IGNORE_INDEX if crowd else classes[annotation["category_id"]])
        )
    mask = np.zeros(size, dtype=np.uint8)
    for _, _, area, value in sorted(layers, key=lambda layer: layer[:2]):
        mask[area] = value
    return mask


def _outline(annotation: dict[str, Any], size: tuple[int, int], source: str) -> np.ndarray:
    """The area (X, Y) bool of an annotation."""
    try:
        from pycocotools import mask as coder
    except ImportError:
        raise InputError(
            "COCO files need the package pycocotools: install it with 'pip install pycocotools'."
        ) from None
    shape, width, height = annotation.get("segmentation"), *size
    try:
        if isinstance(shape, list):
            usable = [polygon for polygon in shape if len(polygon) >= 6]
            if not usable:
                raise ValueError("no polygon of three points")
            runs = coder.merge(coder.frPyObjects(usable, height, width))
        else:
            if list(shape["size"]) != [height, width]:
                raise ValueError(f"its size is {shape['size']}")
            counts = shape["counts"]
            if isinstance(counts, list) and sum(counts) != height * width:
                raise ValueError("its run lengths do not fill the image")
            runs = coder.frPyObjects(shape, height, width) if isinstance(counts, list) else shape
        return coder.decode(runs).astype(bool).T
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{source}: annotation {annotation.get('id')} has no valid segmentation ({error}): correct or remove it."
        ) from None
