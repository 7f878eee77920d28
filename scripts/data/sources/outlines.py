# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Outlines of boxes and ellipses as COCO's polygons, drawn areas as its run lengths, and what cannot be drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

CORNERS = 90  # of the polygon that stands for an ellipse


def box(width: float, height: float) -> list[tuple[float, float]]:
    """The corners of a box whose first one lies at 0."""
    return [(0, 0), (width, 0), (width, height), (0, height)]


def oval(width: float, height: float) -> list[tuple[float, float]]:
    """The corners of an ellipse around 0 with these half axes."""
    angles = [2 * math.pi * step / CORNERS for step in range(CORNERS)]
    return [(width * math.cos(angle), height * math.sin(angle)) for angle in angles]


def turned(corners: Iterable[tuple[float, float]], degrees: float, x: float, y: float) -> list[float]:
    """Corners around 0, turned clockwise (as y points down) and moved to (x, y); x and y in turn."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [part for a, b in corners for part in (x + a * cos - b * sin, y + a * sin + b * cos)]


def not_drawn(source: str, kind: str, number: int, label: str, reason: object) -> str:
    """What is said of a shape that is damaged, the one of this number (from 0) in its image."""
    which = f"{kind} {number + 1} of the label '{label}'"
    return f"{source}: {which} cannot be drawn ({reason}): correct or remove it."


def runs_of(area: np.ndarray) -> dict[str, Any]:
    """An area (X, Y) bool as a segmentation of COCO: the lengths of its runs, column by column."""
    flat = area.ravel()  # column by column, as (X, Y) is stored
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    return {"size": [area.shape[1], area.shape[0]], "counts": [0, *lengths] if flat[0] else lengths}
