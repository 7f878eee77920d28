# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Lines and points that people draw with annotation programs: scribbles."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from scripts.data.reader import IGNORE_INDEX
from scripts.data.scribbles import WIDTH
from scripts.data.sources.base import is_reserved
from scripts.errors import InputError

logger = logging.getLogger("less_net")

FARTHEST = 2.0**24  # pixels from the corner of the image; Pillow draws nothing, or too much, where numbers overflow


class Stroke(NamedTuple):
    """A line through ``points`` (x, y in pixels from the corner), or a dot, and its label."""

    label: str
    points: Sequence[tuple[float, float]]


def scribble_labels(lines: Set[str], areas: Set[str], known: Set[str]) -> set[str]:
    """The labels of lines that are scribbles of classes.

    Where nobody drew areas of a class all are. Where people did, a line of a label that no area has, and that is not
    ``known`` either, says something else: a length that was measured, a landmark.

    Args:
        lines: labels of all lines.
        areas: those of areas of a class.
        known: further names of classes, and those of the background and of what is ignored.
    """
    return set(lines) if not areas else set(lines & (areas | known))


def pass_over(drawn: Iterable[list[dict[str, Any]]], areas: Sequence[str], lines: Sequence[str], told: str) -> None:
    """Takes the regions that are of no use out of the lists, and says how many there were.

    Of use are areas, and lines that are scribbles of a class, if they have a label.

    Args:
        drawn: the regions of each image, with ``kind`` and ``label``.
        areas, lines: the kinds that are such.
        told: who holds them, for the message.
    """
    drawn = list(drawn)
    every = [one for regions in drawn for one in regions]
    named, covering = ({one["label"] for one in every if one["kind"] in kinds} - {""} for kinds in (lines, areas))
    known = {label for label in named | covering if is_reserved(label)}
    scribbles = scribble_labels(named, covering - known, known)
    passed: Counter[str] = Counter()
    for regions in drawn:
        for one in list(regions):
            useful = one["kind"] in areas or (one["kind"] in lines and one["label"] in scribbles)
            if not one["label"] or not useful:
                regions.remove(one)
                passed[one["kind"] if one["label"] else f"{one['kind']} without a label"] += 1
    if passed:
        kinds = ", ".join(f"{count} of the kind {kind}" for kind, count in sorted(passed.items()))
        logger.warning(
            "%s has regions that are no areas or scribbles of a class, which are passed over: %s.", told, kinds
        )


def draw_strokes(
    strokes: Sequence[Stroke], size: tuple[int, int], classes: Mapping[str, int], source: str
) -> np.ndarray:
    """The scribble (X, Y) uint8 of an image: the class on a stroke, 255 elsewhere; the later one lies on top.

    A stroke is ``WIDTH`` of the longer side wide, at least one pixel, so that it is still there when a large image is
    made small for the network.

    Args:
        strokes: with one point or more each.
        size: width and height.
        classes: class index by label.
        source: the file, for messages.

    Raises:
        InputError: a stroke has no points, or some nowhere near the image.
    """
    width = math.ceil(max(size) * WIDTH)
    canvas = Image.new("L", size, IGNORE_INDEX)
    draw, radius = ImageDraw.Draw(canvas), (width - 1) / 2
    for label, points in strokes:
        if not points or not all(abs(number) < FARTHEST for point in points for number in point):  # NaN is not less
            where = "lies nowhere near the image" if points else "has no points"
            raise InputError(f"{source}: a line '{label}' {where}: draw it anew or remove it.")
        pixels = [(math.floor(x), math.floor(y)) for x, y in points]
        draw.line(pixels, fill=classes[label], width=width)
        draw.point(pixels, fill=classes[label])  # which an ellipse of no radius would not give
        for x, y in pixels if radius else ():  # round ends and bends
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=classes[label])
    return np.array(canvas).T
