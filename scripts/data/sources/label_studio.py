# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Label Studio's exports, JSON and JSON-MIN: brushed, outlined and boxed regions become masks, points scribbles.

Source: the control tags in Label Studio's documentation, labelstud.io; shapes are drawn as COCO's.
"""

from __future__ import annotations

import logging
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.data.decode import decode
from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sides import side_of
from scripts.data.sources.base import MOST_PIXELS, Entry, Source, class_names, classes_of, folder_below
from scripts.data.sources.brush import decode_png, unpack
from scripts.data.sources.coco import paint
from scripts.data.sources.label_studio_tasks import Region, Task, tasks_of
from scripts.data.sources.outlines import box, not_drawn, oval, runs_of, turned
from scripts.data.sources.strokes import Stroke, draw_strokes, pass_over
from scripts.data.sources.tree import Finder, Tree
from scripts.data.sources.unlisted import Listed, settle
from scripts.errors import InputError

MARK = b'"original_width"'
KIND = "Label Studio"
PREFIX = re.compile(r"^[0-9a-f]{8}-")  # that it puts before the name of an uploaded file
AREAS, LINES = ("brush", "bitmask", "polygon", "rectangle", "ellipse"), ("point", "line")

logger = logging.getLogger("less_net")


def find_label_studio(tree: Tree) -> list[str]:
    """The JSON files that Label Studio exported, relative to the tree; found without parsing them."""
    return tree.holding(".json", (MARK,))


def read_label_studio(tree: Tree, listings: list[str], unannotated: str = "") -> Source:
    """Reads one or more exports, of the kinds JSON and JSON-MIN.

    Labels become the classes 1, 2, ... in the order of the alphabet, for an export does not hold that of the project;
    ``background`` is 0 and ``ignore`` is ignored. Of overlapping areas the smaller one lies on top. Key points and
    vectors become a scribble, and an image that has no area of a class then has no mask; those of other labels than
    :func:`~scripts.data.sources.strokes.scribble_labels` tells are passed over with a warning, as are regions without
    a label. Of several annotations of an image the one marked as ground truth counts, else the latest, with a warning.
    A task without an annotation, or whose annotations were all skipped, is an unlabelled image; for the split, and for
    annotations without a region, see :func:`~scripts.data.sources.unlisted.settle`.

    Args:
        tree: what is in the folder.
        listings: the files.
        unannotated: what images with an empty annotation are.

    Raises:
        InputError: a file is no export of Label Studio, or there are no labels, or more than 254.
    """
    contents = {name: list(tasks_of(tree.path(name))) for name in listings}
    drawn = [task.regions for tasks in contents.values() for task in tasks if task.regions]
    pass_over(drawn, AREAS, LINES, ", ".join(listings))
    labels = sorted({label for regions in drawn for one in regions for label in one["labels"]})
    classes = classes_of({label: label for label in labels}, f"{', '.join(listings)} of {KIND} names")
    find, listed, waiting, problems, failed = _Images(tree), [], [], [], []
    for name, tasks in contents.items():
        for task in tasks:
            path = find(task.names, Path(name).parent.as_posix())
            try:
                (waiting if task.regions is None else listed).append(_listed(tree, name, task, path, classes))
            except InputError as error:
                if task.regions is not None:
                    problems.append((tree.path(name), str(error)))
                failed += [path] if path else [one for known in task.names for one in own_names(known)]
    several = sum(task.annotations > 1 for tasks in contents.values() for task in tasks)
    if several:
        logger.warning(
            "%s holds several annotations of %d images: of each the ground truth counts, else the latest.",
            ", ".join(listings),
            several,
        )
    names = class_names(classes, {label: label for label in classes})
    return settle(tree, KIND, listed, failed, names, problems, unannotated, waiting)


class _Images:
    """Finds the image of a task, which may lie in the folder under the name it had before it was uploaded."""

    def __init__(self, tree: Tree) -> None:
        self.find, self.saved = Finder(tree), defaultdict(list)
        for name in tree.images:
            self.saved[_as_saved(name.rsplit("/", 1)[-1])].append(tree.path(name))

    def __call__(self, names: list[str], beside: str) -> str | None:
        """The absolute path of the one image that is meant."""
        for name in names:
            for one in own_names(name):
                if path := self.find(one, beside):
                    return path
            alike = {path for one in own_names(name) for path in self.saved[_as_saved(one.rsplit("/", 1)[-1])]}
            if len(alike) == 1:
                return alike.pop()
        return None


def own_names(name: str) -> list[str]:
    """The name that a task gives its image, and the one it may have had before the upload."""
    *folders, last = name.split("/")
    return ["/".join((*folders, one)) for one in dict.fromkeys((last, PREFIX.sub("", last)))]


def _as_saved(name: str) -> str:
    """A file's name as Label Studio's server (Django) saves it."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _listed(tree: Tree, listing: str, task: Task, path: str | None, classes: dict[str, int]) -> Listed:
    """An image, its mask not drawn yet.

    Raises:
        InputError: it is not there, or turned, or what is drawn on it cannot be read.
    """
    name = task.names[0] if task.names else ""
    if path is None:
        raise InputError(
            f"the image {name[:200]} that it lists is not there, or several have that name: put it there, or rename"
            if name
            else "a task names no image"
        )
    entry = Entry(stem(path), (path,), side=side_of(Path(listing).stem), folder=folder_below(path, tree.root))
    if task.regions is None:
        return Listed(entry, listing, False)
    source = f"{tree.path(listing)}, image {name}"
    for one in task.regions:
        _check(one, name)
    areas, lines = ([one for one in task.regions if one["kind"] in kinds] for kinds in (AREAS, LINES))
    if not lines or any(0 < classes[one["label"]] < IGNORE_INDEX for one in areas):
        entry.label = partial(_mask, path, areas, classes, source)
    if lines:
        entry.scribble = partial(_scribble, lines, classes, source)
    return Listed(entry, listing, bool(task.regions))


def _check(region: Region, name: str) -> None:
    """Makes ``size`` two numbers.

    Raises:
        InputError: it cannot be, the image is turned, or the region has several labels.
    """
    try:
        region["size"] = width, height = tuple(map(int, region["size"]))
        if min(width, height) < 1 or math.prod((width, height)) > (Image.MAX_IMAGE_PIXELS or MOST_PIXELS):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"a region of the image {name} has no usable original_width and original_height") from None
    if region["turn"]:
        raise InputError(f"the image {name} was turned in {KIND}: turn it back there and export it anew")
    if len(region["labels"]) > 1:
        told = " and ".join(f"'{label}'" for label in region["labels"])
        raise InputError(f"a region of the image {name} has the labels {told}: leave it one and export it anew")


def _mask(image: str, regions: list[Region], classes: dict[str, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image, by :func:`~scripts.data.sources.coco.paint`."""
    if not regions:
        return np.zeros(decode(image).array.shape[1:], np.uint8)
    size, annotations = regions[0]["size"], []
    for number, region in enumerate(regions):
        try:
            if region["size"] != size:
                raise ValueError(f"it was drawn on {region['size']} pixels, others on {size}")
            area = _area(region)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(not_drawn(source, region["kind"], number, region["label"], error)) from None
        annotations.append({"id": number + 1, "category_id": region["label"], "segmentation": area})
    return paint(annotations, size, classes, source)


def _scribble(regions: list[Region], classes: dict[str, int], source: str) -> np.ndarray:
    """The scribble (X, Y) uint8 of an image, by :func:`~scripts.data.sources.strokes.draw_strokes`."""
    strokes = []
    for number, region in enumerate(regions):
        try:
            value = region["value"]
            points = _vertices(value) if region["kind"] == "line" else [(value["x"], value["y"])]
            strokes.append(Stroke(region["label"], _pixels(points, region["size"])))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(not_drawn(source, region["kind"], number, region["label"], error)) from None
    return draw_strokes(strokes, regions[0]["size"], classes, source)


def _vertices(value: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [(point["x"], point["y"]) for point in value["vertices"]]


def _pixels(points: Any, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Points in percent of the image as pixels."""
    return [(float(x) * size[0] / 100, float(y) * size[1] / 100) for x, y in points]


def _area(region: Region) -> dict[str, Any] | list[list[float]]:
    """A region as COCO's run lengths or polygons.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: what it needs is not there, or is damaged.
    """
    value, size = region["value"], region["size"]
    if region["kind"] == "brush":
        return runs_of(unpack(value["rle"], size))
    if region["kind"] == "bitmask":
        return runs_of(decode_png(value["imageDataURL"], size))
    return [_outline(region)]


def _outline(region: Region) -> list[float]:
    """The corners of a region, x and y in turn, in pixels.

    A rectangle turns around its first corner, which is what x and y say of it, an ellipse around its middle.

    Raises:
        KeyError, TypeError, ValueError: what it needs is not there, or is no number.
    """
    value, size = region["value"], region["size"]
    if region["kind"] == "polygon":
        points = value["points"] if "points" in value else _vertices(value)
        return [number for point in _pixels(points, size) for number in point]
    ((x, y),), turn = _pixels([(value["x"], value["y"])], size), float(value.get("rotation") or 0)
    if region["kind"] == "ellipse":
        ((width, height),) = _pixels([(value["radiusX"], value["radiusY"])], size)
        return turned(oval(width, height), turn, x, y)
    ((width, height),) = _pixels([(value["width"], value["height"])], size)
    return turned(box(width, height), turn, x, y)
