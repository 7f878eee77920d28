# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""COCO instance annotations: polygons and run lengths become masks of classes.

Source: the COCO data format, cocodataset.org; polygons are drawn by pycocotools.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sides import side_of
from scripts.data.sources.base import MOST_CLASSES, MOST_PIXELS, Entry, Source, folder_below
from scripts.data.sources.tree import Finder, Tree
from scripts.data.sources.unlisted import Listed, settle
from scripts.errors import InputError

MARKS = (b'"images"', b'"annotations"', b'"categories"')


def find_coco(tree: Tree) -> list[str]:
    """The JSON files that hold COCO annotations, relative to the tree; found without parsing them."""
    return tree.holding(".json", MARKS)


def read_coco(tree: Tree, listings: list[str], unannotated: str = "") -> Source:
    """Reads one or more COCO files.

    Categories become the classes 1, 2, ... in the order of their ids. Annotations are painted the largest first, so
    that of overlapping ones the smaller lies on top; among equals, the later one does. Areas of ``iscrowd`` are ignored
    where nothing else lies on them. The files' names (``instances_train.json``, ``instances_val.json``) or folders may
    pin the split; for that, and for images without annotations, see :func:`~scripts.data.sources.unlisted.settle`.

    Args:
        tree: what is in the folder.
        listings: the files.
        unannotated: what images without annotations are.

    Raises:
        InputError: a file is no valid COCO file, or the files differ in their categories.
    """
    contents = {name: _read(tree.path(name)) for name in listings}
    categories = _categories(contents, tree)
    classes = {number: index for index, number in enumerate(sorted(categories), start=1)}
    listed, problems, failed = [], [], []
    for name, content in contents.items():
        made, wrong = _entries(tree, name, content, classes)
        listed += made
        problems += [(tree.path(name), reason) for _, reason in wrong]
        failed += [image for image, _ in wrong]
    names = {classes[number]: name for number, name in categories.items()}
    return settle(tree, "COCO", listed, failed, names, problems, unannotated)


def _read(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
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
) -> tuple[list[Listed], list[tuple[str, str]]]:
    """The images, and the names of those that cannot be used, with the reason."""
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        if isinstance(annotation, dict):
            annotations[str(annotation.get("image_id"))].append(annotation)
    find, source = Finder(tree), tree.path(listing)
    beside = Path(listing).parent.as_posix()
    side = side_of(Path(listing).stem) or side_of(beside)
    listed, wrong = [], []
    for image in content["images"]:
        name = str(image.get("file_name", "")) if isinstance(image, dict) else ""
        try:
            size = (int(image["width"]), int(image["height"]))
            if not name or min(size) < 1 or size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or MOST_PIXELS):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            wrong.append((name, f"an image needs file_name, width and height: {str(image)[:80]}"))
            continue
        path = find(name, beside)
        if path is None:
            wrong.append((name, f"the image {name} that it lists is not there, or there are several of that name"))
            continue
        drawn = annotations.get(str(image.get("id")), [])
        label = partial(paint, drawn, size, classes, source)
        entry = Entry(stem(path), (path,), label, side=side, folder=folder_below(path, tree.root))
        listed.append(Listed(entry, listing, bool(drawn)))
    return listed, wrong


def paint(annotations: list[dict[str, Any]], size: tuple[int, int], classes: dict[Any, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image: class indices, 255 where a crowd lies on background.

    Args:
        annotations: the image's annotations; of those with another ``z_order`` the higher lie on top.
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
        order = (not crowd, annotation.get("z_order", 0), -int(area.sum()))
        layers.append((order, area, IGNORE_INDEX if crowd else classes[annotation["category_id"]]))
    mask = np.zeros(size, dtype=np.uint8)
    for _, area, value in sorted(layers, key=lambda layer: layer[0]):
        mask[area] = value
    return mask


def _outline(annotation: dict[str, Any], size: tuple[int, int], source: str) -> np.ndarray:
    """The area (X, Y) bool of an annotation."""
    shape = annotation.get("segmentation")
    try:
        if isinstance(shape, list):
            return _from_polygons(_polygons(shape, size), size)
        if list(shape["size"]) != [size[1], size[0]]:
            raise ValueError(f"its size is {shape['size']}")
        counts = shape["counts"]
        return _from_runs(counts if isinstance(counts, list) else unpack_runs(counts), size)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError) as error:
        raise InputError(
            f"{source}: annotation {annotation.get('id')} has no valid segmentation ({error}): correct or remove it."
        ) from None


def _from_polygons(polygons: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    try:
        from pycocotools import mask as coder
    except ImportError:
        raise InputError(
            "COCO polygons need the package pycocotools: install it with 'pip install pycocotools'."
        ) from None
    width, height = size
    return coder.decode(coder.merge(coder.frPyObjects(polygons, height, width))).astype(bool).T


def _from_runs(counts: list[int], size: tuple[int, int]) -> np.ndarray:
    """Run lengths, column by column, the first one of background."""
    if min(counts) < 0 or sum(counts) != size[0] * size[1]:
        raise ValueError("its run lengths do not fill the image")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size)


def unpack_runs(text: str) -> list[int]:
    """The run lengths in the text that COCO packs them into.

    Each number is written in groups of five bits, the lowest first, as characters from ``0`` on; a sixth bit says that
    a group follows, the highest bit of the last group is the sign. From the fourth number on, what is written is the
    difference to the number two places before. (pycocotools writes past its memory on damaged text.)
    """
    counts: list[int] = []
    number = shift = 0
    for character in text.encode("ascii") if isinstance(text, str) else text:
        group = character - 48
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            if shift > 60:
                raise ValueError("a run length has no end")
            continue
        number -= (group >> 4 & 1) << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return counts


def _polygons(shape: list, size: tuple[int, int]) -> list[list[float]]:
    """The polygons with three points and more; the decoder is not to be trusted with coordinates far off the image.

    Raises:
        ValueError: there is none, or a coordinate is far outside.
    """
    polygons = [[float(value) for value in polygon] for polygon in shape]
    usable = [polygon[: len(polygon) // 2 * 2] for polygon in polygons if len(polygon) >= 6]
    if not usable:
        raise ValueError("no polygon of three points")
    if not all(abs(value) <= 2 * max(size) for polygon in usable for value in polygon):  # also false for NaN
        raise ValueError("its outline leaves the image")
    return usable
