# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""COCO instance annotations: polygons and run lengths become masks of classes.

Source: the COCO data format, cocodataset.org; polygons are drawn by pycocotools.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sides import side_of
from scripts.data.sources.base import MOST_PIXELS, Entry, Source, class_names, classes_of, folder_below, shown
from scripts.data.sources.tree import Finder, Tree
from scripts.data.sources.unlisted import Listed, settle
from scripts.errors import InputError

MARKS = (b'"images"', b'"annotations"', b'"categories"')
SHOWN = 5  # ids in a message
CROWDS = 0.1  # of the annotations; of those of COCO itself one in a hundred is a crowd

logger = logging.getLogger("less_net")


def find_coco(tree: Tree) -> list[str]:
    """The JSON files that hold COCO annotations, relative to the tree; found without parsing them."""
    return tree.holding(".json", MARKS)


def read_coco(tree: Tree, listings: list[str], unannotated: str = "") -> Source:
    """Reads one or more COCO files.

    Categories become the classes 1, 2, ... in the order of their ids; ``background`` is 0 and ``ignore`` is ignored. A
    category that others belong to and no annotation has (Roboflow writes one) is left out with a warning. Annotations
    are painted the largest first, so that of overlapping ones the smaller lies on top; among equals, the later one
    does. Areas of ``iscrowd`` are ignored where nothing else lies on them; many of them are told of. The files' names
    (``instances_train.json``, ``instances_val.json``) or folders may pin the split; for that, and for images without
    annotations, see :func:`~scripts.data.sources.unlisted.settle`.

    Args:
        tree: what is in the folder.
        listings: the files.
        unannotated: what images without annotations are.

    Raises:
        InputError: a file is no valid COCO file, holds boxes only or gives images one id, or the files differ in their
            categories, or these cannot be classes.
    """
    contents = {name: _read(tree.path(name)) for name in listings}
    categories = _without_parents(_categories(contents, tree), contents)
    classes = classes_of(dict(sorted(categories.items())), f"The COCO files {', '.join(listings)} have")
    _tell_crowds(contents)
    listed, problems, failed = [], [], []
    for name, content in contents.items():
        made, wrong = _entries(tree, name, content, classes)
        listed += made
        problems += [(tree.path(name), reason) for reason in [*_strays(content), *(why for _, why in wrong)]]
        failed += [image for image, _ in wrong]
    return settle(tree, "COCO", listed, failed, class_names(classes, categories), problems, unannotated)


def _read(path: str) -> dict[str, Any]:
    """The content of a file, each of its annotations a dictionary.

    Raises:
        InputError: it is no COCO file, :func:`_check_ids` or :func:`_check_shapes` refuses it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): correct or remove it.") from None
    for part in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise InputError(f"{path} has no list '{part}', so it is no COCO file: correct or remove it.")
    content["annotations"] = [one if isinstance(one, dict) else {} for one in content["annotations"]]
    _check_ids(content["images"], path)
    _check_shapes(content["annotations"], path)
    return content


def _check_ids(images: list[Any], path: str) -> None:
    """Refuses images of one id, each of which would get the shapes of all.

    Raises:
        InputError: naming the first two.
    """
    found: dict[str, str] = {}
    for image in images:
        if isinstance(image, dict) and image.get("id") is not None:
            number, name = str(image["id"]), str(image.get("file_name", ""))
            if number in found:
                raise InputError(
                    f"{path} gives the id {number} to two images, {found[number]} and {name}: list every image once, "
                    "with an id of its own, and give its annotations that image_id."
                )
            found[number] = name


def _check_shapes(annotations: list[dict[str, Any]], path: str) -> None:
    """Refuses a file for detection.

    Raises:
        InputError: all annotations are boxes.
    """
    if annotations and all(one.get("bbox") and not one.get("segmentation") for one in annotations):
        raise InputError(
            f"{path} holds boxes only; segmentations are needed (polygons or run lengths): outline the objects and "
            "export them as instance segmentation."
        )


def _tell_crowds(contents: dict[str, dict[str, Any]]) -> None:
    """Warns where so many annotations are crowds that they hardly are: CVAT and Datumaro mark what was brushed so."""
    annotations = [one for content in contents.values() for one in content["annotations"]]
    crowds = sum(str(one.get("iscrowd")) in ("1", "1.0", "True") for one in annotations)
    if crowds > CROWDS * len(annotations):
        logger.warning(
            "%d of the %d annotations in %s are marked iscrowd, so their pixels are ignored in training and in scores. "
            "CVAT marks what was drawn with the brush so: if they are objects, export the task as 'CVAT for images "
            "1.1', or set iscrowd to 0.",
            *(crowds, len(annotations), ", ".join(contents)),
        )


def _strays(content: dict[str, Any]) -> Iterable[str]:
    """What is wrong with annotations for images that the file does not list: to drop them would make background."""
    known = {str(image.get("id")) for image in content["images"] if isinstance(image, dict)}
    strays = [one for one in content["annotations"] if str(one.get("image_id")) not in known]
    if strays:
        different = (list(dict.fromkeys(str(one.get(key)) for one in strays)) for key in ("id", "image_id"))
        ids, images = (shown(texts, SHOWN) for texts in different)
        yield (
            f"{len(strays)} of its {len(content['annotations'])} annotations (id {ids}) are for images that it does "
            f"not list (image_id {images}): correct image_id, add the images, or remove the annotations"
        )


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
    return found


def _without_parents(categories: dict[int, str], contents: dict[str, dict[str, Any]]) -> dict[int, str]:
    """The categories without those that others belong to and no annotation has, which are told of."""
    used = {_category(one, categories) for content in contents.values() for one in content["annotations"]}
    listed = [one for content in contents.values() for one in content["categories"]]
    belong = {(str(one.get("name")), str(one["supercategory"])) for one in listed if one.get("supercategory")}
    parents = {parent for name, parent in belong if parent != name}
    unused = [number for number, name in categories.items() if name in parents and number not in used]
    if unused:
        logger.warning(
            "%s: the category %s is no class, for others belong to it as their supercategory and no annotation has it.",
            ", ".join(contents),
            ", ".join(f"'{categories[number]}'" for number in unused),
        )
    return {number: name for number, name in categories.items() if number not in unused}


def _category(annotation: dict[str, Any], known: Mapping[Any, Any]) -> Any:
    """The category of an annotation as ``known`` has it; its id may be written as text. None if it is not there."""
    number = annotation.get("category_id")
    try:
        found = number if number in known else int(number) if isinstance(number, str) else None
    except (TypeError, ValueError):  # a list; a word
        return None
    return found if found in known else None


def _entries(
    tree: Tree, listing: str, content: dict[str, Any], classes: dict[int, int]
) -> tuple[list[Listed], list[tuple[str, str]]]:
    """The images, and the names of those that cannot be used, with the reason."""
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[str(annotation.get("image_id"))].append(annotation)
    find, source = Finder(tree), tree.path(listing)
    beside = Path(listing).parent.as_posix()
    side = side_of(Path(listing).stem) or side_of(beside)
    listed, wrong = [], []
    for image in content["images"]:
        name = str(image.get("file_name", "")) if isinstance(image, dict) else ""
        try:
            size = _size(image)
        except (KeyError, OverflowError, TypeError, ValueError):
            wrong.append((name, f"an image needs id, file_name, width and height: {str(image)[:80]}"))
            continue
        path = find(name, beside)
        if path is None:
            wrong.append((name, f"the image {name} that it lists is not there, or there are several of that name"))
            continue
        drawn = annotations.get(str(image["id"]), [])
        label = partial(paint, drawn, size, classes, source)
        entry = Entry(stem(path), (path,), label, side=side, folder=folder_below(path, tree.root))
        listed.append(Listed(entry, listing, bool(drawn)))
    return listed, wrong


def _size(image: Any) -> tuple[int, int]:
    """Width and height of a listed image.

    Raises:
        KeyError, OverflowError, TypeError, ValueError: they, its id or its name are missing or cannot be used.
    """
    size = (int(image["width"]), int(image["height"]))
    if not image["file_name"] or image["id"] is None or min(size) < 1:
        raise ValueError
    if size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or MOST_PIXELS):
        raise ValueError
    return size


def paint(annotations: list[dict[str, Any]], size: tuple[int, int], classes: dict[Any, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image: class indices, 255 where a crowd, or what is ignored, lies on background.

    Args:
        annotations: the image's annotations; of those with another ``z_order`` the higher lie on top.
        size: width and height.
        classes: class index by category id.
        source: the COCO file, for messages.

    Raises:
        InputError: an annotation has no outline, a broken one, an unknown category, or no number where one is needed.
    """
    layers = []
    for annotation in annotations:
        area = _outline(annotation, size, source)
        value, height = _value(annotation, classes, source)
        layers.append(((value != IGNORE_INDEX, height, -int(area.sum())), area, value))
    mask = np.zeros(size, dtype=np.uint8)
    for _, area, value in sorted(layers, key=lambda layer: layer[0]):
        mask[area] = value
    return mask


def _value(annotation: dict[str, Any], classes: dict[Any, int], source: str) -> tuple[int, float]:
    """The value that an annotation is painted with, and its ``z_order``."""
    category, told = _category(annotation, classes), f"{source}: annotation {annotation.get('id')}"
    if category is None:
        raise InputError(f"{told} has an unknown category: correct it.")
    try:
        crowd, height = int(annotation.get("iscrowd") or 0), float(annotation.get("z_order") or 0)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{told} has an iscrowd or z_order that is no number ({error}): correct it.") from None
    return IGNORE_INDEX if crowd else classes[category], height


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

    Some exporters leave out the list around the one polygon of an object (MyVision's boxes, supervision 0.13).

    Raises:
        ValueError: there is none, or a coordinate is far outside.
    """
    shape = [shape] if shape and isinstance(shape[0], (int, float)) else shape
    polygons = [[float(value) for value in polygon] for polygon in shape]
    usable = [polygon[: len(polygon) // 2 * 2] for polygon in polygons if len(polygon) >= 6]
    if not usable:
        raise ValueError("no polygon of three points")
    if not all(abs(value) <= 2 * max(size) for polygon in usable for value in polygon):  # also false for NaN
        raise ValueError("its outline leaves the image")
    return usable
