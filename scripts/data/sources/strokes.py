# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Lines and points that people draw with annotation programs: scribbles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from scripts.data.reader import IGNORE_INDEX
from scripts.data.scribbles import WIDTH
from scripts.errors import InputError

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
