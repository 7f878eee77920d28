# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""labelme's annotations: one JSON file an image, whose areas become a mask of classes, its lines a scribble.

Source: the annotation files of labelme (github.com/wkentaro/labelme), version 3 and later, which AnyLabeling and
X-AnyLabeling write too; areas are drawn by Pillow, as labelme's own converters do.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from scripts.data.decode import decode
from scripts.data.files import PICTURE_SUFFIXES, stem
from scripts.data.listings import read_lines
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources.base import MOST_CLASSES, MOST_PIXELS, Entry, Problem, Source, folder_below
from scripts.data.sources.names import pin_by_folders
from scripts.data.sources.strokes import FARTHEST, Stroke, draw_strokes, scribble_labels
from scripts.data.sources.tree import Finder, Tree
from scripts.data.sources.unlisted import leave_out_held_out, unlisted_images
from scripts.errors import InputError

MARKS = (b'"shapes"', b'"imagePath"')
SIZE = ("imageWidth", "imageHeight")
BACKGROUND, IGNORED = ("_background_", "background"), ("__ignore__", "ignore")
LABELS = "labels.txt"
POLYGONS = ("polygon", "rotation", "oriented_rectangle")
LINES = ("line", "linestrip", "point", "points")

Shape = dict[str, Any]

logger = logging.getLogger("less_net")


def find_labelme(tree: Tree) -> list[str]:
    """The JSON files that hold shapes, relative to the tree; found without parsing them."""
    return tree.holding(".json", MARKS)  # anywhere: the image may lie in the file before the shapes


def read_labelme(tree: Tree, listings: list[str]) -> Source:
    """Reads the files; an image without one is unlabelled, one whose file has no shape is nothing but background.

    Labels become the classes 1, 2, ... in the order of ``labels.txt`` in the folder, where it names them all, else of
    the alphabet; ``background`` is 0 and ``ignore`` (also as labelme writes them) is ignored. Areas are painted the
    largest first, so that of overlapping ones the smaller lies on top; among equals, the later one does. Lines and
    points become a scribble, and an image that has no area of a class then has no mask; lines of other labels than
    :func:`~scripts.data.sources.strokes.scribble_labels` tells are passed over with a warning. Folders named
    train, val and test pin the split; an image without a mask is left out in the last two of them then. So are masks
    anywhere (:func:`~scripts.data.sources.unlisted.unlisted_images`).

    Raises:
        InputError: no file can be read, there are no labels, or more than 254.
    """
    problems: list[Problem] = []
    contents = {}
    for name in listings:
        try:
            contents[name] = _read(tree.path(name))
        except InputError as error:
            problems.append((tree.path(name), str(error)))
    if problems and not contents:
        raise InputError(f"None of {len(problems)} labelme files can be read; {problems[0][0]}: {problems[0][1]}.")
    _pass_over(contents, tree)
    classes = _classes({one["label"] for content in contents.values() for one in content["shapes"]}, tree)
    find, entries, used = Finder(tree), [], {}
    for name, content in sorted(contents.items(), key=lambda pair: not _is_of_one_name(*pair)):  # the likelier first
        path = _image_of(name, content, find)
        if path is None:
            problems.append((tree.path(name), f"its image {content['imagePath']} is not there: put it beside the file"))
        elif path in used:
            problems.append(
                (tree.path(name), f"{used[path]} is for the image {path} too: correct imagePath or remove it")
            )
        else:
            strokes = _strokes(content)
            masked = not strokes or any(0 < classes[shape["label"]] < IGNORE_INDEX for shape in _areas(content))
            label = partial(_mask, path, content, classes, tree.path(name)) if masked else None
            scribble = partial(_scribble, path, content, classes, tree.path(name)) if strokes else None
            entries.append(Entry(stem(path), (path,), label, scribble, folder=folder_below(path, tree.root)))
            used[path] = tree.path(name)
    others, left_out = unlisted_images(tree, listings, used, "labelme's")
    entries += others
    names = {0: "background", **{k: label for label, k in classes.items() if 0 < k < IGNORE_INDEX}}
    values = {index: index for index in (*names, IGNORE_INDEX)}
    text = f"labelme annotations ({len(entries)} images, {len(used)} with a file"
    drawn = sum(entry.scribble is not None for entry in entries)
    text += f", {drawn} with a scribble)" if drawn else ")"
    entries.sort(key=lambda entry: entry.name)
    source = Source("labelme", text, entries, class_names=names, values=values, problems=problems, left_out=left_out)
    pin_by_folders(source)
    source.entries, unused = leave_out_held_out(source.entries)
    source.left_out += unused
    return source


def _read(path: str) -> dict[str, Any]:
    """The content of a file: its shapes with label, type and points, ``imagePath``, and ``size``, None if not noted."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        shapes, image = content["shapes"], content["imagePath"]
        for shape in shapes:
            shape["label"] = str("" if shape["label"] is None else shape["label"]).strip()
            if not shape["label"]:
                raise ValueError("a shape has no label")
            shape["points"] = [(float(x), float(y)) for x, y in shape["points"]]
            if not all(abs(number) < FARTHEST for point in shape["points"] for number in point):  # NaN is not less
                raise ValueError(f"a point of '{shape['label']}' lies nowhere near the image")
        noted = [content.get(key) for key in SIZE]
        size = None if noted == [None, None] else tuple(map(int, noted))
        if size and (min(size) < 1 or math.prod(size) > MOST_PIXELS):
            raise ValueError(f"its image has {size[0]} x {size[1]} pixels")
    except UnicodeDecodeError:  # whose text would hold the whole file
        raise InputError("it is not in UTF-8: save it as such or remove it") from None
    except KeyError as error:
        raise InputError(f"it is no annotation of labelme (it lacks {error}): correct or remove it") from None
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"it is no annotation of labelme ({error}): correct or remove it") from None
    return {"shapes": shapes, "imagePath": image, "size": size}


def _areas(content: dict[str, Any]) -> list[Shape]:
    return [shape for shape in content["shapes"] if shape.get("shape_type") not in LINES]


def _strokes(content: dict[str, Any]) -> list[Stroke]:
    return [Stroke(shape["label"], shape["points"]) for shape in content["shapes"] if shape.get("shape_type") in LINES]


def _pass_over(contents: dict[str, dict[str, Any]], tree: Tree) -> None:
    """Takes the lines that are no scribbles out of the shapes, and says how many there were."""
    lines = {stroke.label for content in contents.values() for stroke in _strokes(content)}
    areas = {shape["label"] for content in contents.values() for shape in _areas(content)} - {*BACKGROUND, *IGNORED}
    other = lines - scribble_labels(lines, areas, {*_listed(tree), *BACKGROUND, *IGNORED})
    if not other:
        return
    count = 0
    for content in contents.values():
        kept = [one for one in content["shapes"] if not (one.get("shape_type") in LINES and one["label"] in other)]
        count, content["shapes"] = count + len(content["shapes"]) - len(kept), kept
    logger.warning(
        "%d lines or points of %s are passed over, since no area has such a label: if they are scribbles of a class, "
        "list it in %s.",
        count,
        ", ".join(f"'{label}'" for label in sorted(other)),
        tree.root / LABELS,
    )


def _listed(tree: Tree) -> list[str]:
    """The labels that ``labels.txt`` lists."""
    listed = tree.root / LABELS
    return read_lines(listed) if listed.is_file() else []


def _classes(labels: set[str], tree: Tree) -> dict[str, int]:
    """The class of each label."""
    order = _listed(tree)
    missing = sorted(labels - {*order, *BACKGROUND, *IGNORED})
    if order and missing:
        logger.warning(
            "%s is not used, since it has no '%s': the classes follow the alphabet, unless it is added.",
            tree.root / LABELS,
            missing[0],
        )
    names = sorted(labels) if missing else order or sorted(labels)
    lesions = [name for name in dict.fromkeys(names) if name not in (*BACKGROUND, *IGNORED)]
    if not 0 < len(lesions) <= MOST_CLASSES:
        raise InputError(
            f"The labelme files below {tree.root} name {len(lesions)} labels: 1 to {MOST_CLASSES} can be classes."
        )
    known = {name: k for k, name in enumerate(lesions, start=1)}
    return known | dict.fromkeys(BACKGROUND, 0) | dict.fromkeys(IGNORED, IGNORE_INDEX)


def _is_of_one_name(name: str, content: dict[str, Any]) -> bool:
    """Whether a file and the image in it have one name, as labelme gives them."""
    return Path(name).stem == stem(str(content["imagePath"]).replace("\\", "/"))


def _image_of(name: str, content: dict[str, Any], find: Finder) -> str | None:
    """The image that a file names, else the one of its own name beside it."""
    beside = Path(name).parent.as_posix()
    own = (Path(name).stem + end for suffix in PICTURE_SUFFIXES for end in (suffix, suffix.upper()))
    tries = [str(content["imagePath"] or ""), *own]
    return next((path for one in tries if (path := find(one, beside))), None)


def _mask(image: str, content: dict[str, Any], classes: dict[str, int], source: str) -> np.ndarray:
    """:func:`paint` of the areas in a file."""
    return paint(_areas(content), _size(image, content), classes, source)


def _scribble(image: str, content: dict[str, Any], classes: dict[str, int], source: str) -> np.ndarray:
    """The scribble (X, Y) uint8 of the lines in a file."""
    return draw_strokes(_strokes(content), _size(image, content), classes, source)


def _size(image: str, content: dict[str, Any]) -> tuple[int, int]:
    """Width and height: of the image where the file notes none."""
    return content["size"] or decode(image).array.shape[1:]


def paint(shapes: list[Shape], size: tuple[int, int], classes: dict[str, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image: class indices, 255 where pixels are to be ignored.

    Args:
        shapes: the image's shapes.
        size: width and height.
        classes: class index by label.
        source: the file, for messages.

    Raises:
        InputError: a shape has no area, or is damaged.
    """
    scratch, pixels = Image.new("L", size), []
    for shape in shapes:
        _draw(scratch, shape, 1, source)
        pixels.append(scratch.histogram()[1])
        _draw(scratch, shape, 0, source)  # one picture for all: hundreds of them, in several threads, fill the memory
    canvas = Image.new("L", size)
    for index in sorted(range(len(shapes)), key=lambda one: -pixels[one]):
        _draw(canvas, shapes[index], classes[shapes[index]["label"]], source)
    return np.array(canvas).T


def _draw(canvas: Image.Image, shape: Shape, value: int, source: str) -> None:
    """Gives the pixels of a shape a value."""
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    draw = ImageDraw.Draw(canvas)
    try:
        if kind in POLYGONS and len(points) > 2:
            draw.polygon(points, fill=value, outline=value)
        elif kind == "rectangle" and len(points) in (2, 4):  # X-AnyLabeling writes all corners
            draw.rectangle([*np.min(points, axis=0), *np.max(points, axis=0)], fill=value, outline=value)
        elif kind == "circle" and len(points) == 2:
            (x, y), radius = points[0], math.dist(*points)
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=value, outline=value)
        elif kind == "mask":
            drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) != 0  # labelme writes 0 and 1
            canvas.paste(value, tuple(round(number) for number in points[0]), Image.fromarray(drawn))
        else:
            raise ValueError("only polygons of three points and more, rectangles, circles and masks have an area")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises SyntaxError, DecompressionBombError and more on damaged masks
        raise InputError(
            f"{source}: the {kind} '{shape['label']}' of {len(points)} points cannot be drawn ({error}): draw it anew "
            "or remove it."
        ) from None
