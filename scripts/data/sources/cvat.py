# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""CVAT's own annotations, "CVAT for images 1.1": one XML file, whose areas become masks of classes, lines scribbles.

Source: the XML annotation format of CVAT, docs.cvat.ai; shapes are drawn as COCO's (CVAT exports both by one program).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sides import side_of
from scripts.data.sources.base import MOST_PIXELS, Entry, Source, class_names, classes_of, folder_below, is_reserved
from scripts.data.sources.coco import paint
from scripts.data.sources.outlines import not_drawn, oval, runs_of, turned
from scripts.data.sources.strokes import Stroke, draw_strokes, scribble_labels
from scripts.data.sources.tree import Finder, Tree
from scripts.data.sources.unlisted import Listed, settle
from scripts.errors import InputError

MARKS = (b"<annotations", b"<meta")
HEAD = 4096  # bytes in which they stand
AREAS = ("polygon", "box", "ellipse", "mask")
LINES = ("polyline", "points")
OTHERS = ("cuboid", "skeleton")

logger = logging.getLogger("less_net")


def find_cvat(tree: Tree) -> list[str]:
    """The XML files of CVAT, relative to the tree; found without parsing them."""
    return tree.holding(".xml", MARKS, HEAD)


def read_cvat(tree: Tree, listings: list[str], unannotated: str = "") -> Source:
    """Reads one or more files.

    Labels become the classes 1, 2, ... in the order of the first file that names them; ``background`` is 0 and
    ``ignore`` is ignored. Of overlapping areas the one of the higher ``z_order`` lies on top, among equals the smaller
    one. Polylines and points become a scribble, and an image that has no area of a class then has no mask; those of
    other labels than :func:`~scripts.data.sources.strokes.scribble_labels` tells are passed over with a warning, as are
    cuboids and skeletons. The subsets of the images (``Train``, ``Validation``) or the names of the files may pin the
    split; for that, and for images without a shape, see :func:`~scripts.data.sources.unlisted.settle`.

    Args:
        tree: what is in the folder.
        listings: the files.
        unannotated: what images without a shape are.

    Raises:
        InputError: a file is no valid XML or for a video, or there are no labels, or more than 254.
    """
    contents = {name: _read(tree.path(name)) for name in listings}
    passed = _pass_over(contents)
    classes = _classes(contents)
    find, listed, problems, failed = Finder(tree), [], [], []
    for name, images in contents.items():
        for image in images.iter("image"):
            try:
                listed.append(_listed(tree, name, image, find, classes))
            except InputError as error:
                problems.append((tree.path(name), str(error)))
                failed.append(image.get("name", ""))
    if passed:
        kinds = ", ".join(f"{count} of the kind {kind}" for kind, count in sorted(passed.items()))
        told = ", ".join(listings)
        logger.warning(
            "%s has shapes that are no areas or scribbles of a class, which are passed over: %s.", told, kinds
        )
    names = class_names(classes, {label: label for label in classes})
    return settle(tree, "CVAT", listed, failed, names, problems, unannotated)


def _read(path: str) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path} is not valid XML ({error}): correct or remove it.") from None
    if root.find("track") is not None:
        raise InputError(f"{path} is of the kind 'CVAT for video': export it as 'CVAT for images 1.1'.")
    return root


def _label(shape: ElementTree.Element | dict[str, Any]) -> str:
    return shape.get("label", "").strip()


def _labels(contents: dict[str, ElementTree.Element], kinds: tuple[str, ...]) -> dict[str, None]:
    """The labels of all shapes of these kinds, in the order of the files."""
    images = (image for root in contents.values() for image in root.iter("image"))
    return {_label(shape): None for image in images for shape in image if shape.tag in kinds}


def _pass_over(contents: dict[str, ElementTree.Element]) -> Counter[str]:
    """Takes the shapes that are of no use out of the images, and counts them by kind."""
    lines, areas = set(_labels(contents, LINES)), set(_labels(contents, AREAS))
    known = {label for label in lines | areas if is_reserved(label)}
    scribbles = scribble_labels(lines, areas - known, known)
    passed: Counter[str] = Counter()
    for root in contents.values():
        for image in root.iter("image"):
            for shape in list(image):
                if shape.tag in OTHERS or (shape.tag in LINES and _label(shape) not in scribbles):
                    image.remove(shape)
                    passed[shape.tag] += 1
    return passed


def _classes(contents: dict[str, ElementTree.Element]) -> dict[str, int]:
    """The class of each label that is listed or drawn."""
    areas, lines = _labels(contents, AREAS), _labels(contents, LINES)
    kinds = ("any", "bbox", "rectangle", *AREAS, *(() if areas else LINES))
    labels: dict[str, None] = {}
    for root in contents.values():
        for label in root.iterfind("./meta//label"):  # of a task, a job or a project
            if label.findtext("type", "any") in kinds:
                labels[(label.findtext("name") or "").strip()] = None
    labels |= areas | lines
    labels.pop("", None)
    return classes_of({name: name for name in labels}, f"{', '.join(contents)} of CVAT:")


def _listed(tree: Tree, listing: str, image: ElementTree.Element, find: Finder, classes: dict[str, int]) -> Listed:
    """An image, its mask not drawn yet.

    Raises:
        InputError: it has no size, or is not there.
    """
    name = image.get("name", "")
    try:
        size = int(image.get("width", "")), int(image.get("height", ""))
        if min(size) < 1 or math.prod(size) > (Image.MAX_IMAGE_PIXELS or MOST_PIXELS):
            raise ValueError
    except ValueError:
        raise InputError(f"the image '{name[:80]}' has no usable width and height: correct or remove it") from None
    path = find(name, Path(listing).parent.as_posix())
    if path is None:
        raise InputError(f"the image {name} that it lists is not there, or there are several of that name")
    areas, lines = (
        [{"kind": shape.tag, **shape.attrib} for shape in image if shape.tag in kinds] for kinds in (AREAS, LINES)
    )
    source = f"{tree.path(listing)}, image {name}"
    masked = not lines or any(0 < classes.get(_label(shape), 0) < IGNORE_INDEX for shape in areas)
    label = partial(_mask, areas, size, classes, source) if masked else None
    scribble = partial(_scribble, lines, size, classes, source) if lines else None
    side = side_of(image.get("subset", "")) or side_of(Path(listing).stem)
    entry = Entry(stem(path), (path,), label, scribble, side=side, folder=folder_below(path, tree.root))
    return Listed(entry, listing, bool(areas or lines))


def _scribble(shapes: list[dict[str, Any]], size: tuple[int, int], classes: dict[str, int], source: str) -> np.ndarray:
    """The scribble (X, Y) uint8 of an image, by :func:`~scripts.data.sources.strokes.draw_strokes`."""
    strokes = []
    for number, shape in enumerate(shapes):
        try:
            label = _named(shape)
            strokes.append(Stroke(label, _points(shape)))
        except (KeyError, ValueError) as error:
            raise InputError(not_drawn(source, shape["kind"], number, _label(shape), error)) from None
    return draw_strokes(strokes, size, classes, source)


def _mask(shapes: list[dict[str, Any]], size: tuple[int, int], classes: dict[str, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image, by :func:`~scripts.data.sources.coco.paint`."""
    annotations = []
    for number, shape in enumerate(shapes):
        try:
            label = _named(shape)
            area = _runs(shape, size) if shape["kind"] == "mask" else [_outline(shape)]
            order = int(shape.get("z_order", 0))
        except (KeyError, ValueError, OverflowError) as error:
            raise InputError(not_drawn(source, shape["kind"], number, _label(shape), error)) from None
        annotations.append({"id": number + 1, "category_id": label, "segmentation": area, "z_order": order})
    return paint(annotations, size, classes, source)


def _named(shape: dict[str, Any]) -> str:
    """The label of a shape.

    Raises:
        ValueError: it has none.
    """
    if not (label := _label(shape)):
        raise ValueError("it has no label")
    return label


def _points(shape: dict[str, Any]) -> list[tuple[float, float]]:
    """The points of a shape, x and y in pixels.

    Raises:
        KeyError, ValueError: there are none, or one is no pair of numbers.
    """
    pairs = (point.split(",") for point in shape["points"].split(";"))
    return [(float(x), float(y)) for x, y in pairs]


def _outline(shape: dict[str, Any]) -> list[float]:
    """The corners of a shape, x and y in turn.

    Raises:
        KeyError, ValueError: what it needs is not there, or is no number.
    """
    if shape["kind"] == "polygon":
        return [number for point in _points(shape) for number in point]
    turn = float(shape.get("rotation", 0))
    if shape["kind"] == "box":
        left, top, right, bottom = (float(shape[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        x, y, width, height = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
        corners = [(-width, -height), (width, -height), (width, height), (-width, height)]
    else:
        x, y, width, height = (float(shape[key]) for key in ("cx", "cy", "rx", "ry"))
        corners = oval(width, height)
    return turned(corners, turn, x, y)


def _runs(shape: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A drawn mask as COCO's run lengths: CVAT's go row by row through the mask's own box, the first of background.

    Raises:
        KeyError, ValueError: something is missing, or the box does not fit.
    """
    left, top, width, height = (int(float(shape[key])) for key in ("left", "top", "width", "height"))
    counts = [int(count) for count in shape["rle"].split(",")]
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[0] or top + height > size[1]:
        raise ValueError("its box leaves the image")
    if min(counts) < 0 or sum(counts) != width * height:
        raise ValueError("its run lengths do not fill its box")
    drawn = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    whole = np.zeros(size, dtype=bool)
    whole[left : left + width, top : top + height] = drawn.T
    return runs_of(whole)
