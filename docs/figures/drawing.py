# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Draws boxes and arrows from a table (:class:`Flow`), and refuses what overlaps or does not fit.

A sheet is 100 wide, a tenth of an inch a unit.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

WIDTH, LEGEND, DPI, SIZE, SMALL = 100, 6, 160, 10.5, 9


class Style(NamedTuple):
    """How a kind of box looks; shape and line tell the kinds apart without the colour (Okabe and Ito's palette)."""

    face: str
    edge: str
    line: float
    rounding: float
    dashes: str
    name: str


STYLES = {
    "labelled": Style("#bfe0f5", "#0072b2", 1.2, 0.0, "-", "labelled data"),
    "unlabelled": Style("#fde3b0", "#b26a00", 1.2, 0.0, "-", "unlabelled data"),
    "step": Style("#ffffff", "#777777", 0.9, 0.8, "-", "view or step"),
    "network": Style("#d5efe4", "#00664b", 2.4, 0.8, "-", "trained network"),
    "teacher": Style("#f3dcea", "#8f3f73", 2.0, 0.8, "--", "teacher (EMA)"),
    "loss": Style("#333333", "#333333", 1.0, 2.4, "-", "loss"),
}


class Box(NamedTuple):
    """One box of a table."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    text: str

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        w, h = self.width / 2, self.height / 2
        return self.x - w, self.y - h, self.x + w, self.y + h


class Flow(NamedTuple):
    """A picture: its height, boxes, arrows and words (x, y, text) beside the arrows."""

    height: float
    boxes: dict[str, Box]
    arrows: list[tuple[str, str, bool, list[float]]]
    words: list[tuple[float, float, str]] = []


SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}
Point = tuple[float, float]


def port(boxes: dict[str, Box], end: str) -> tuple[Point, bool]:
    """Where an arrow meets its box, and whether it runs along x there."""
    name, side, shift = re.fullmatch(r"(\w+)\.(\w+?)([+-][\d.]+)?", end).groups()
    box, (dx, dy), along = boxes[name], SIDES[side], float(shift or 0)
    x = box.x + (dx * box.width / 2 if dx else along)
    y = box.y + (dy * box.height / 2 if dy else along)
    return (round(x, 3), round(y, 3)), bool(dx)


def route(boxes: dict[str, Box], start: str, end: str, path: list[float]) -> list[Point]:
    """The corners of an arrow; without a path it runs straight, or once around a corner.

    Raises:
        ValueError: the path does not lead from side to side along the axes.
    """
    (point, horizontal), (goal, ends_horizontal) = port(boxes, start), port(boxes, end)
    points = [point]
    for value in path:
        x, y = points[-1]
        points.append((value, y) if horizontal else (x, value))
        horizontal = not horizontal
    x, y = points[-1]
    if x != goal[0] and y != goal[1]:
        points.append((goal[0], y) if horizontal else (x, goal[1]))
    points.append(goal)
    (x0, y0), (x1, y1) = points[-2:]
    if (x0 != x1 and y0 != y1) or (y0 == y1) != ends_horizontal:
        raise ValueError(f"the arrow from {start} to {end} does not arrive along an axis: {points}")
    return points


def apart(first: tuple, second: tuple, gap: float = 0.0) -> bool:
    """Whether two rectangles (left, bottom, right, top) leave a gap between them."""
    return any(first[i + 2] + gap <= second[i] or second[i + 2] + gap <= first[i] for i in (0, 1))


def segments(points: list[Point]) -> list[tuple[float, float, float, float]]:
    """The pieces of an arrow as thin rectangles."""
    return [(min(a, c), min(b, d), max(a, c), max(b, d)) for (a, b), (c, d) in zip(points, points[1:])]


def check(name: str, flow: Flow, texts: dict[str, tuple], words: list[tuple]) -> None:
    """Refuses what a reader would stumble over.

    Raises:
        ValueError: boxes that touch, text outside of its box, arrows through boxes, other arrows or words.
    """
    problems = []
    routes = {(a, b): segments(route(flow.boxes, a, b, path)) for a, b, _, path in flow.arrows}
    for a, b in combinations(flow.boxes, 2):
        if not apart(flow.boxes[a].edges, flow.boxes[b].edges, 1.0):
            problems.append(f"{a} and {b} are too close")
    for box, (left, bottom, right, top) in ((k, b.edges) for k, b in flow.boxes.items()):
        if not (0 <= left and right <= WIDTH and 0 <= bottom and top <= flow.height):
            problems.append(f"{box} leaves the sheet")
        t = texts[box]
        if t[0] < left + 0.3 or t[2] > right - 0.3 or t[1] < bottom + 0.3 or t[3] > top - 0.3:
            problems.append(f"the text of {box} does not fit")
        for ends, pieces in routes.items():
            inner = (left + 0.05, bottom + 0.05, right - 0.05, top - 0.05)
            problems += [f"{ends} runs through {box}" for piece in pieces if not apart(piece, inner)]
    for (one, first), (other, second) in combinations(routes.items(), 2):
        if one[0] != other[0] and not all(apart(p, q, 0.4) for p in first for q in second):
            problems.append(f"{one} meets {other}")
    for (x, y, word), extent in zip(flow.words, words):
        problems += [f"'{word}' lies on {k}" for k, b in flow.boxes.items() if not apart(extent, b.edges)]
        problems += [f"'{word}' lies on {e}" for e, ps in routes.items() for p in ps if not apart(extent, p, 0.1)]
    if problems:
        raise ValueError(f"{name}: " + "; ".join(problems))


def patch(style: Style, left: float, bottom: float, width: float, height: float) -> FancyBboxPatch:
    """The outline of a box."""
    rounding = min(style.rounding, height / 2)
    shape = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
    looks = {"facecolor": style.face, "edgecolor": style.edge, "linewidth": style.line, "linestyle": style.dashes}
    return FancyBboxPatch((left, bottom), width, height, boxstyle=shape, **looks)


def draw_box(axes: Axes, box: Box) -> Text:
    """One box with its text."""
    left, bottom, _, _ = box.edges
    axes.add_patch(patch(STYLES[box.kind], left, bottom, box.width, box.height))
    looks = {"color": "white", "weight": "bold"} if box.kind == "loss" else {}
    return axes.text(box.x, box.y, box.text, ha="center", va="center", size=SIZE, linespacing=1.15, **looks)


def draw_arrow(axes: Axes, points: list[Point], dashed: bool) -> None:
    """Orthogonal line with a head; dashed: no gradient flows back along it."""
    colour = "#8f3f73" if dashed else "#222222"
    line = (0, (4, 2.2)) if dashed else "-"
    axes.plot(*zip(*points), color=colour, linewidth=1.5, linestyle=line, solid_capstyle="butt", zorder=0)
    head = {"arrowstyle": "-|>,head_width=0.28,head_length=0.55", "color": colour, "shrinkA": 0, "shrinkB": 0}
    (x0, y0), (x1, y1) = points[-2:]
    near = (x1 - (x1 > x0) + (x1 < x0), y1 - (y1 > y0) + (y1 < y0))
    axes.annotate("", points[-1], near, arrowprops=head | {"linewidth": 1.2})


def draw_legend(axes: Axes) -> None:
    """The kinds of boxes and arrows, in one line under the picture, spread over its width."""
    y = -LEGEND / 2 - 0.6
    names = [style.name for style in STYLES.values()] + ["gradient", "no gradient"]
    texts = [axes.text(0, y, name, va="center", size=SMALL) for name in names]
    widths = [3.7 + right - left for left, _, right, _ in (extent_of(axes, text) for text in texts)]
    gap, x = (WIDTH - 1 - sum(widths)) / (len(widths) - 1), 0.5
    for kind, text, width in zip([*STYLES, None, None], texts, widths):
        if kind:
            axes.add_patch(patch(STYLES[kind], x, y - 1.2, 2.8, 2.4))
        else:
            draw_arrow(axes, [(x, y), (x + 3.0, y)], text.get_text() == "no gradient")
        text.set_x(x + 3.5)
        x += width + gap


def extent_of(axes: Axes, text: Text) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a text on the sheet."""
    box = text.get_window_extent().transformed(axes.transData.inverted())
    return box.x0, box.y0, box.x1, box.y1


def draw(name: str, flow: Flow) -> Figure:
    """The picture of one system, checked."""
    figure = Figure(figsize=(WIDTH / 10, (flow.height + LEGEND) / 10), dpi=DPI)
    FigureCanvasAgg(figure)  # measures the texts
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(-LEGEND, flow.height))
    axes.axis("off")
    texts = {key: draw_box(axes, box) for key, box in flow.boxes.items()}
    for start, end, dashed, path in flow.arrows:
        draw_arrow(axes, route(flow.boxes, start, end, path), dashed)
    words = [axes.text(x, y, t, ha="center", va="center", size=SMALL, style="italic") for x, y, t in flow.words]
    draw_legend(axes)
    check(name, flow, {k: extent_of(axes, t) for k, t in texts.items()}, [extent_of(axes, w) for w in words])
    return figure
