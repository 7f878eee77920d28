# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Draws the data flow of the five systems for docs/methods.md: ``python docs/figures/flows.py``.

One table a system: boxes ``name: (kind, x, y, width, height, text)`` around their centre, and arrows ``(from, to,
dashed, path)``, on a sheet 100 wide (a tenth of an inch a unit). An end of an arrow is ``box.side`` with an optional
shift along that side (``box.right+3``); a path is the list of turning coordinates, x and y in turn, the first across
the direction in which the arrow leaves. What overlaps or does not fit is refused.
"""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "images"
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


LESS_NET = Flow(
    57,
    {
        "labelled": Box("labelled", 8, 45, 14, 8, "labelled image\n+ mask"),
        "unlabelled": Box("unlabelled", 8, 26, 14, 8, "unlabelled\nimage"),
        "teacher": Box("teacher", 8, 8, 14, 8, "EMA teacher"),
        "pseudo": Box("step", 34, 8, 24, 10, "pseudo-label and weight:\nclass prior, threshold of\nthe class, trust"),
        "paste": Box("step", 34, 26, 13, 8, "paste boxes"),
        "strong": Box("step", 52, 45, 13, 6, "strong view"),
        "mixed": Box("step", 52, 26, 13, 6, "strong view"),
        "student": Box("network", 70, 36, 14, 27, "student\n\n(half of the\nunlabelled with\ndropped\nchannels)"),
        "supervised": Box("loss", 92, 45, 14, 7, "supervised"),
        "contrast": Box("loss", 92, 35, 14, 8, "contrast\nwith prototypes"),
        "consistency": Box("loss", 92, 22, 14, 10, "consistency"),
    },
    [
        ("labelled.right", "strong.left", False, []),
        ("strong.right", "student.left+9", False, []),
        ("labelled.bottom", "paste.top", False, [35.5, 34]),
        ("unlabelled.right", "paste.left", False, []),
        ("unlabelled.bottom", "teacher.top", True, []),
        ("teacher.right", "pseudo.left", True, []),
        ("pseudo.top-3", "paste.bottom-3", True, []),
        ("paste.right", "mixed.left", False, []),
        ("mixed.right", "student.left-10", False, []),
        ("paste.bottom+3", "consistency.left-3", True, [19, 81]),
        ("student.right+9", "supervised.left", False, []),
        ("student.right-1", "contrast.left", False, []),
        ("student.right-11", "consistency.left+3", False, []),
        ("labelled.top", "supervised.top", True, [53, 92]),
    ],
    [
        (60, 54.2, "mask"),
        (25.5, 36.7, "image and mask"),
        (27.6, 16.6, "target"),
        (60, 17.6, "mixed target and weight"),
        (80.8, 36.3, "stride 4"),
    ],
)

CRII_NET = Flow(
    57,
    {
        "labelled": Box("labelled", 8, 45, 14, 8, "labelled image\n+ mask"),
        "unlabelled": Box("unlabelled", 8, 23, 14, 8, "unlabelled\nimage"),
        "strong": Box("step", 25, 45, 12, 6, "strong view"),
        "strong_too": Box("step", 25, 23, 12, 6, "strong view"),
        "network": Box("network", 41, 34, 13, 32, "any network\n\n(encoder,\ndecoder)"),
        "weak": Box("step", 41, 9, 13, 8, "the same in\nthe weak view"),
        "coarse": Box("network", 61, 45, 20, 8, "coarse head\n1x1 at stride 4"),
        "refined": Box("network", 61, 24, 20, 10, "refined head\non image, full-size map,\ncoarse probabilities"),
        "embed": Box("network", 61, 7, 14, 7, "projection"),
        "answers": Box("step", 77.5, 34, 8, 7, "both\nanswers"),
        "supervised": Box("loss", 92, 41, 14, 8, "supervised\n(mean of both)"),
        "consistency": Box("loss", 92, 27, 14, 8, "consistency\n(mean of both)"),
        "intra": Box("loss", 78.5, 16, 12.5, 7, "intra\n(boundaries)"),
        "inter": Box("loss", 78.5, 7, 12.5, 7, "inter\n(low contrast)"),
    },
    [
        ("labelled.right", "strong.left", False, []),
        ("strong.right", "network.left+11", False, []),
        ("unlabelled.right", "strong_too.left", False, []),
        ("strong_too.right", "network.left-11", False, []),
        ("unlabelled.bottom", "weak.left", False, []),
        ("network.right+11", "coarse.left", False, []),
        ("network.right-10", "refined.left", False, []),
        ("coarse.bottom", "refined.top", False, []),
        ("coarse.right", "answers.top", False, []),
        ("refined.right", "answers.bottom", False, []),
        ("answers.right", "supervised.left", False, [83.2]),
        ("answers.right", "consistency.left", False, [83.2]),
        ("refined.bottom", "embed.top", False, []),
        ("embed.right", "inter.left", False, []),
        ("embed.right", "intra.left", False, [69.5]),
        ("labelled.top", "supervised.top", True, [53, 92]),
        ("weak.bottom", "consistency.bottom", True, [2, 92]),
    ],
    [
        (50, 54.2, "mask"),
        (66, 35.5, "probabilities"),
        (66, 0.6, "sure decisions of the refined head: target of the unlabelled images"),
    ],
)

MULTISCALE = Flow(
    54,
    {
        "labelled": Box("labelled", 8, 33, 14, 8, "labelled image\n+ mask"),
        "unlabelled": Box("unlabelled", 8, 16, 14, 8, "unlabelled\nimage"),
        "views": Box(
            "step",
            28.5,
            24.5,
            19,
            25,
            "for each network:\n\nstrong view of its own\n\nunlabelled again, clean,\nencoder maps\nperturbed",
        ),
        "first": Box("network", 69.5, 43, 55, 6, "network 1 (its EMA is deployed)"),
        "second": Box("network", 69.5, 6, 55, 6, "network 2 (training only)"),
        "decisions": Box("step", 50, 24.5, 15, 11, "decisions on\nthe clean\nimage"),
        "cross": Box("loss", 68, 24.5, 9, 8, "cross"),
        "projection": Box("network", 79.5, 34, 10, 5, "projection"),
        "other": Box("network", 79.5, 15, 10, 5, "projection"),
        "contrast": Box("loss", 79.5, 24.5, 10, 8, "patch\npixel"),
        "supervised": Box("loss", 91, 24.5, 11, 8, "supervised"),
    },
    [
        ("labelled.right", "views.left+8.5", False, []),
        ("unlabelled.right", "views.left-8.5", False, []),
        ("views.top", "first.left", False, []),
        ("views.bottom", "second.left", False, []),
        ("first.bottom-19.5", "decisions.top", True, []),
        ("second.top-19.5", "decisions.bottom", True, []),
        ("decisions.right", "cross.left", True, []),
        ("first.bottom-1.5", "cross.top", False, []),
        ("second.top-1.5", "cross.bottom", False, []),
        ("first.bottom+10", "projection.top", False, []),
        ("second.top+10", "other.bottom", False, []),
        ("projection.bottom", "contrast.top", False, []),
        ("other.top", "contrast.bottom", False, []),
        ("first.bottom+21.5", "supervised.top", False, []),
        ("second.top+21.5", "supervised.bottom", False, []),
        ("labelled.top", "supervised.right", True, [50, 98.6, 24.5]),
    ],
    [(50, 51.2, "mask"), (60.4, 27.2, "each"), (60.4, 25.6, "other's"), (63.4, 35, "two views")],
)

S3_NET = Flow(
    50,
    {
        "image": Box("unlabelled", 8, 33, 13, 8, "one image"),
        "moved": Box("step", 8, 10, 13, 9, "turned,\nflipped,\nscaled"),
        "features": Box("network", 27, 33, 16, 11, "features:\nconvolution, two\nattention blocks"),
        "again": Box("network", 27, 10, 16, 9, "features\n(same weights)"),
        "main": Box("network", 47, 33, 15, 9, "main head\n(deformable)"),
        "auxiliary": Box("network", 47, 10, 15, 9, "auxiliary head\n(1x1)"),
        "logits": Box("step", 67, 33, 12, 8, "logits of\n64 clusters"),
        "argmax": Box("step", 67, 21.5, 12, 6, "argmax"),
        "result": Box("step", 47, 21.5, 15, 8, "label map,\nblind mask"),
        "spatial": Box("loss", 91, 44, 15, 7, "spatial\n(few edges)"),
        "clustering": Box("loss", 91, 33, 15, 7, "clustering\n(be sure)"),
        "affine": Box("loss", 91, 10, 15, 7, "affine\n(consistency)"),
    },
    [
        ("image.right", "features.left", False, []),
        ("image.bottom", "moved.top", False, []),
        ("moved.right", "again.left", False, []),
        ("features.right", "main.left", False, []),
        ("again.right", "auxiliary.left", False, []),
        ("main.right", "logits.left", False, []),
        ("logits.right", "clustering.left", False, []),
        ("logits.top", "spatial.left", False, []),
        ("logits.bottom", "argmax.top", True, []),
        ("argmax.right", "clustering.bottom", True, []),
        ("argmax.bottom", "affine.top", True, [16.3, 91]),
        ("argmax.left", "result.right", True, []),
        ("auxiliary.right", "affine.left", False, []),
    ],
    [
        (74, 45.3, "softmax"),
        (80, 17.6, "moved like the image"),
        (57.8, 23, "after"),
        (57.8, 20, "the end"),
        (80, 22.8, "target"),
    ],
)

SCRIBSD_PLUS = Flow(
    57,
    {
        "labelled": Box("labelled", 9, 30, 13, 8, "image\n+ scribble"),
        "strong": Box("step", 26, 45, 13, 8, "strong view,\nnoise"),
        "noise": Box("step", 26, 11, 13, 8, "other noise"),
        "student": Box("network", 46, 45, 16, 11, "student, heads at\nstrides 1, 2, 4, 8"),
        "teacher": Box("teacher", 46, 11, 16, 11, "EMA teacher,\nthe same heads"),
        "distillation": Box("loss", 46, 29, 16, 8, "distillation\n(four scales)"),
        "projection": Box("network", 70, 41, 15, 6, "projection"),
        "follower": Box("teacher", 70, 9, 15, 6, "EMA projection"),
        "regions": Box("step", 70, 25, 17, 10, "class regions:\nthe stroke, else\nthe sure teacher"),
        "contrast": Box("loss", 92, 25, 14, 10, "contrast\nof class vectors"),
        "supervised": Box("loss", 92, 48, 14, 7, "supervised\n(partial CE)"),
    },
    [
        ("labelled.top", "strong.left", False, []),
        ("labelled.bottom", "noise.left", True, []),
        ("strong.right", "student.left", False, []),
        ("noise.right", "teacher.left", True, []),
        ("student.bottom", "distillation.top", False, []),
        ("teacher.top", "distillation.bottom", True, []),
        ("student.right+3", "supervised.left", False, []),
        ("student.right-4", "projection.left", False, []),
        ("projection.right", "contrast.top", False, []),
        ("teacher.right-2", "follower.left", True, []),
        ("teacher.right+3", "regions.left", True, [57.5]),
        ("follower.right", "contrast.bottom", True, []),
        ("regions.right", "contrast.left", True, []),
        ("labelled.left", "supervised.top", True, [0.9, 54, 92]),
    ],
    [(50, 55.2, "scribble"), (84.5, 42.4, "class vectors"), (84.5, 7.4, "class vectors")],
)

FLOWS = {
    "less_net": LESS_NET,
    "crii_net": CRII_NET,
    "multiscale_contrast": MULTISCALE,
    "s3_net": S3_NET,
    "scribsd_plus": SCRIBSD_PLUS,
}

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


def main() -> None:
    """Writes a picture of every system beside the other images of the documents."""
    for name, flow in FLOWS.items():
        path = FOLDER / f"flow_{name}.png"
        draw(name, flow).savefig(path, dpi=DPI, metadata={"Software": None})
        # flat colours: a palette of 64 halves the file and cannot be told apart
        Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path.relative_to(FOLDER.parents[1]), path.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
