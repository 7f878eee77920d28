# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""labelme's annotations: one JSON file an image, whose shapes become a mask of classes.

Source: the annotation files of labelme (github.com/wkentaro/labelme), versions 3 to 5, which AnyLabeling writes too;
areas are drawn by Pillow, as labelme's own converters do.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources.base import Entry, Problem, Source, folder_below
from scripts.data.sources.tree import Finder, Tree
from scripts.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
HEAD = 65536  # bytes; the shapes come before the image, which may be in the file as well
SHAPES = re.compile(rb'"shapes"\s*:\s*\[')
BACKGROUND, IGNORED = ("_background_", "background"), ("__ignore__", "ignore")
LABELS = "labels.txt"
MOST_CLASSES = 254
MOST_PIXELS = 2**30

Shape = dict[str, Any]


def find_labelme(tree: Tree) -> list[str]:
    """The JSON files that hold shapes, relative to the tree; found without parsing them."""
    found = []
    for name in tree.listings:
        if name.lower().endswith(".json"):
            try:
                with open(tree.path(name), "rb") as stream:
                    head = stream.read(HEAD)
            except OSError:
                continue
            if b'"version"' in head and SHAPES.search(head):
                found.append(name)
    return found


def read_labelme(tree: Tree, listings: list[str]) -> Source:
    """Reads the files; an image without one is unlabelled, one whose file has no shape is nothing but background.

    Labels become the classes 1, 2, ... in the order of ``labels.txt`` in the folder, where it names them all, else of
    the alphabet; ``background`` is 0 and ``ignore`` (also as labelme writes them) is ignored. Shapes are painted the
    largest first, so that of overlapping ones the smaller lies on top; among equals, the later one does.

    Raises:
        InputError: there are no labels, or more than 254.
    """
    problems: list[Problem] = []
    contents = {}
    for name in listings:
        try:
            contents[name] = _read(tree.path(name))
        except InputError as error:
            problems.append((tree.path(name), str(error)))
    classes = _classes({shape["label"] for content in contents.values() for shape in content["shapes"]}, tree)
    find, entries, used = Finder(tree), [], set()
    for name, content in contents.items():
        path = _image_of(name, content, find)
        if path is None:
            problems.append((tree.path(name), f"its image {content['imagePath']} is not there: put it beside the file"))
            continue
        label = partial(paint, content["shapes"], content["size"], classes, tree.path(name))
        entries.append(Entry(stem(path), (path,), label, folder=folder_below(path, tree.root)))
        used.add(path)
    bare = [path for path in map(tree.path, [*tree.images, *tree.series]) if path not in used]
    entries += [Entry(stem(path), (path,), folder=folder_below(path, tree.root)) for path in bare]
    names = {0: "background", **{k: label for label, k in classes.items() if 0 < k < IGNORE_INDEX}}
    values = {index: index for index in (*names, IGNORE_INDEX)}
    text = f"labelme annotations ({len(entries)} images, {len(used)} with a file)"
    entries.sort(key=lambda entry: entry.name)
    return Source("labelme", text, entries, class_names=names, values=values, problems=problems)


def _read(path: str) -> dict[str, Any]:
    """The content of a file: its image's name and size, its shapes with label, type and points.

    Raises:
        InputError: it is no annotation of labelme.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        width, height = (int(content[key]) for key in ("imageWidth", "imageHeight"))
        if min(width, height) < 1 or width * height > (Image.MAX_IMAGE_PIXELS or MOST_PIXELS):
            raise ValueError(f"the image has {width} x {height} pixels")
        for shape in content["shapes"]:
            if not isinstance(shape["label"], str) or not shape["label"].strip():
                raise ValueError("a shape has no label")
            shape["label"] = shape["label"].strip()
            shape["points"] = [(float(x), float(y)) for x, y in shape["points"]]
        return {"imagePath": str(content["imagePath"]), "size": (width, height), "shapes": content["shapes"]}
    except KeyError as error:
        raise InputError(f"it is no annotation of labelme (it has no {error}): correct or remove it") from None
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"it is no annotation of labelme ({error}): correct or remove it") from None


def _classes(labels: set[str], tree: Tree) -> dict[str, int]:
    """The class of each label."""
    listed = tree.root / LABELS
    try:
        order = [line.strip() for line in listed.read_text("utf-8-sig").splitlines()] if listed.is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{listed} cannot be read ({error}): save it as UTF-8 or remove it.") from None
    names = [name for name in (order if labels <= {*order} else sorted(labels)) if name]
    lesions = [name for name in dict.fromkeys(names) if name not in (*BACKGROUND, *IGNORED)]
    if not 0 < len(lesions) <= MOST_CLASSES:
        raise InputError(f"The labelme files name {len(lesions)} labels: 1 to {MOST_CLASSES} can be classes.")
    known = {name: k for k, name in enumerate(lesions, start=1)}
    return known | dict.fromkeys(BACKGROUND, 0) | dict.fromkeys(IGNORED, IGNORE_INDEX)


def _image_of(name: str, content: dict[str, Any], find: Finder) -> str | None:
    """The image that a file names, else the one of its own name beside it."""
    beside = Path(name).parent.as_posix()
    tries = [content["imagePath"], *(Path(name).stem + suffix for suffix in SUFFIXES)]
    return next((path for one in tries if (path := find(one, beside))), None)


def paint(shapes: list[Shape], size: tuple[int, int], classes: dict[str, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image: class indices, 255 where pixels are to be ignored.

    Args:
        shapes: the image's shapes.
        size: width and height.
        classes: class index by label.
        source: the file, for messages.

    Raises:
        InputError: a shape has no area, or lies far outside the image.
    """
    areas = [(_area(shape, size, source), classes[shape["label"]]) for shape in shapes]
    mask = np.zeros(size, dtype=np.uint8)
    for area, value in sorted(areas, key=lambda one: -int(one[0].sum())):
        mask[area] = value
    return mask


def _area(shape: Shape, size: tuple[int, int], source: str) -> np.ndarray:
    """The pixels (X, Y) bool of a shape."""
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    canvas = Image.new("1", size)
    draw = ImageDraw.Draw(canvas)
    try:
        if not all(abs(value) <= 2 * max(size) for point in points for value in point):  # also false for NaN
            raise ValueError("it leaves the image")
        if kind in ("polygon", "rotation") and len(points) > 2:
            draw.polygon(points, fill=1, outline=1)
        elif kind == "rectangle" and len(points) == 2:
            (left, top), (right, bottom) = np.sort(np.array(points), axis=0)
            draw.rectangle([left, top, right, bottom], fill=1, outline=1)
        elif kind == "circle" and len(points) == 2:
            (x, y), radius = points[0], math.dist(*points)
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=1, outline=1)
        elif kind == "mask":
            drawn = Image.open(io.BytesIO(base64.b64decode(shape["mask"]))).convert("1")
            canvas.paste(1, tuple(int(value) for value in points[0]), drawn)
        else:
            raise ValueError("only polygons of three points and more, rectangles, circles and masks have an area")
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise InputError(
            f"{source}: the {kind} '{shape['label']}' of {len(points)} points cannot be drawn ({error}): draw it anew "
            "or remove it."
        ) from None
    return np.asarray(canvas).T
