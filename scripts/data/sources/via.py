# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The VGG Image Annotator's JSON files, version 2: regions become masks of classes, lines and points scribbles.

Source: the project and annotation files of VIA 2, robots.ox.ac.uk/~vgg/software/via; shapes are drawn as COCO's.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.decode import decode
from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sides import side_of
from scripts.data.sources.base import Entry, Source, class_names, classes_of, folder_below, shown
from scripts.data.sources.coco import paint
from scripts.data.sources.outlines import box, not_drawn, oval, turned
from scripts.data.sources.strokes import Stroke, draw_strokes, pass_over
from scripts.data.sources.tree import Finder, Tree
from scripts.data.sources.unlisted import Listed, settle
from scripts.errors import InputError

MARK = b'"shape_attributes"'
METADATA = "_via_img_metadata"  # where a project has what an annotation file is
AREAS, LINES = ("polygon", "rect", "circle", "ellipse"), ("polyline", "point")
#: names that an attribute with the class may have, in small letters, where regions have several
ATTRIBUTES = ("label", "class", "name", "type", "category")
ONLY = "object"  # the class of regions that have no attribute at all
SHOWN = 5  # attributes in a message

Region = dict[str, Any]


def find_via(tree: Tree) -> list[str]:
    """The JSON files of VIA, relative to the tree; found without parsing them."""
    return tree.holding(".json", (MARK,))


def read_via(tree: Tree, listings: list[str], unannotated: str = "") -> Source:
    """Reads one or more files.

    The class of a region is the value of its attribute: the only one that regions have, or one of ``ATTRIBUTES``.
    Where no region has any, all are of one class. Classes are 1, 2, ... in the order of the alphabet; ``background`` is
    0 and ``ignore`` is ignored. Of overlapping areas the smaller one lies on top. Polylines and points become a
    scribble, and an image that has no area of a class then has no mask; those of other labels than
    :func:`~scripts.data.sources.strokes.scribble_labels` tells are passed over with a warning, as are regions without a
    value where others have one. For the split, and for images without a region, see
    :func:`~scripts.data.sources.unlisted.settle`.

    Args:
        tree: what is in the folder.
        listings: the files.
        unannotated: what images without a region are.

    Raises:
        InputError: a file is none of VIA's, no attribute can be chosen, or there are more than 254 labels.
    """
    contents = {name: _read(tree.path(name)) for name in listings}
    _name_regions(contents)
    pass_over((regions for images in contents.values() for _, regions in images), AREAS, LINES, ", ".join(listings))
    labels = sorted({one["label"] for images in contents.values() for _, regions in images for one in regions})
    classes = classes_of({label: label for label in labels}, f"{', '.join(listings)} of VIA names")
    find, listed, problems, failed = Finder(tree), [], [], []
    for listing, images in contents.items():
        for name, regions in images:
            path = find(name.rsplit("?", 1)[0], Path(listing).parent.as_posix())
            if path is None:
                reason = f"the image {name} that it lists is not there, or there are several of that name"
                problems.append((tree.path(listing), reason))
                failed.append(name)
            else:
                listed.append(_listed(tree, listing, path, regions, classes))
    names = class_names(classes, {label: label for label in classes})
    return settle(tree, "VIA", listed, failed, names, problems, unannotated)


def _read(path: str) -> list[tuple[str, list[Region]]]:
    """The images of a file with the regions of each: ``kind``, ``shape`` and ``attributes``.

    An image that was saved anew and added again is there twice: VIA tells images by name and size in bytes.

    Raises:
        InputError: it is none of VIA's.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        images = []
        for image in content.get(METADATA, content).values():
            regions = image["regions"]
            regions = list(regions.values()) if isinstance(regions, dict) else regions  # as version 1 writes them
            shapes = [
                {
                    "kind": str(one["shape_attributes"]["name"]),
                    "shape": one["shape_attributes"],
                    "attributes": dict(one.get("region_attributes") or {}),
                }
                for one in regions
            ]
            images.append((str(image["filename"]), shapes))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): save it anew or remove it.") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no file of VIA 2 ({error!r}): save it anew or remove it.") from None
    return images


def _name_regions(contents: dict[str, list[tuple[str, list[Region]]]]) -> None:
    """Gives each region the ``label`` that its attribute says, empty where it says none.

    Raises:
        InputError: several attributes could say it.
    """
    regions = [one for images in contents.values() for _, regions in images for one in regions]
    used = sorted({name for one in regions for name, value in one["attributes"].items() if _value(value)})
    likely = [name for wanted in ATTRIBUTES for name in used if name.strip().lower() == wanted]
    if len(used) > 1 and not likely:
        raise InputError(
            f"The regions in {', '.join(contents)} have the attributes {shown(used, SHOWN)}: name the one that says "
            f"the class '{ATTRIBUTES[0]}', or remove the others."
        )
    attribute = (likely if len(used) > 1 else used or [None])[0]
    for one in regions:
        one["label"] = ONLY if attribute is None else _value(one["attributes"].get(attribute))


def _value(value: Any) -> str:
    """What an attribute says: text, or the boxes that are ticked."""
    if isinstance(value, dict):
        return " and ".join(sorted(str(name) for name, ticked in value.items() if ticked)).strip()
    return str("" if value is None else value).strip()


def _listed(tree: Tree, listing: str, path: str, regions: list[Region], classes: dict[str, int]) -> Listed:
    """An image, its mask not drawn yet."""
    areas, lines = ([one for one in regions if one["kind"] in kinds] for kinds in (AREAS, LINES))
    source = f"{tree.path(listing)}, image {Path(path).name}"
    masked = not lines or any(0 < classes[one["label"]] < IGNORE_INDEX for one in areas)
    label = partial(_mask, path, areas, classes, source) if masked else None
    scribble = partial(_scribble, path, lines, classes, source) if lines else None
    side = side_of(Path(listing).stem)
    return Listed(
        Entry(stem(path), (path,), label, scribble, side=side, folder=folder_below(path, tree.root)),
        listing,
        bool(regions),
    )


def _mask(image: str, regions: list[Region], classes: dict[str, int], source: str) -> np.ndarray:
    """The mask (X, Y) uint8 of an image, by :func:`~scripts.data.sources.coco.paint`."""
    annotations = []
    for number, region in enumerate(regions):
        try:
            outline = _outline(region["kind"], region["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(not_drawn(source, region["kind"], number, region["label"], repr(error))) from None
        annotations.append({"id": number + 1, "category_id": region["label"], "segmentation": [outline]})
    return paint(annotations, decode(image).array.shape[1:], classes, source)


def _scribble(image: str, regions: list[Region], classes: dict[str, int], source: str) -> np.ndarray:
    """The scribble (X, Y) uint8 of an image, by :func:`~scripts.data.sources.strokes.draw_strokes`."""
    strokes = []
    for number, region in enumerate(regions):
        shape = region["shape"]
        try:
            points = _points(shape) if region["kind"] == "polyline" else [(float(shape["cx"]), float(shape["cy"]))]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(not_drawn(source, region["kind"], number, region["label"], repr(error))) from None
        strokes.append(Stroke(region["label"], points))
    return draw_strokes(strokes, decode(image).array.shape[1:], classes, source)


def _points(shape: dict[str, Any]) -> list[tuple[float, float]]:
    pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
    return [(float(x), float(y)) for x, y in pairs]


def _outline(kind: str, shape: dict[str, Any]) -> list[float]:
    """The corners of a region, x and y in turn.

    Raises:
        KeyError, TypeError, ValueError: what it needs is not there, or is no number.
    """
    if kind == "polygon":
        return [number for point in _points(shape) for number in point]
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return turned(box(width, height), 0, x, y)
    axes = [float(shape[key]) for key in (("r", "r") if kind == "circle" else ("rx", "ry"))]
    turn = math.degrees(float(shape.get("theta") or 0))
    return turned(oval(*axes), turn, float(shape["cx"]), float(shape["cy"]))
