# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Scribbles from dense masks, as a person draws them: wobbly strokes along the inside of a region, never across it.

A stroke follows a contour of the region's depth (distance to its border over the largest such distance), to which
smooth noise is added, and covers a share of it. In a wide region the stroke goes on along a second contour further in,
as the curls of a pen do; in a narrow one (the wall of the heart) it is broken in pieces. The background has strokes
around all lesions together, and a short one elsewhere. The numbers below were chosen on the expert scribbles of ACDC
(Valvano et al., IEEE TMI 2021), with which ``python -m bundle scribbles --compare`` compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from contourpy import LineType, contour_generator
from PIL import Image, ImageDraw
from scipy import ndimage

from scripts.data.reader import IGNORE_INDEX

OUTER, INNER = (0.4, 0.52), (0.7, 0.8)  # depth of the two contours in a wide region
NARROW = (0.5, 0.7)  # depth of the only one in a narrow region
APART = 0.35  # of the depth lie between the two contours; as pixels they must leave room for the strokes
MARGIN = (0.04, 0.08)  # of the image's longer side, between the lesions and the strokes around them
ELSEWHERE = (0.2, 0.5)  # share of a contour far from the lesions
WOBBLE = 0.08  # deviation of the noise, as a share of the depth
WAVE = 0.1  # of the image's longer side: the width of its waves
NEIGHBOURS = np.ones((3, 3), dtype=bool)
LOOPS = 3  # strokes around groups of lesions
AROUND, ALONG = 1.5, 1.25  # so much more of their contour strokes around lesions and along narrow regions cover
WIDTH = 1 / 140  # of the image's longer side


def rng_of(seed: int, key: str) -> np.random.Generator:
    """The random generator of one image: a function of the seed and the key, not of the other images."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")])


def stroke_width(shape: tuple[int, ...], rng: np.random.Generator) -> int:
    """Width in pixels that suits an image: ``WIDTH`` of its longer side, rounded up or down at random, at least 1."""
    return max(1, int(max(shape) * WIDTH + rng.random()))


def draw_scribble(
    mask: np.ndarray,
    num_classes: int,
    rng: np.random.Generator,
    length: float = 0.75,
    width: int = 0,
    background: bool = True,
) -> np.ndarray:
    """A scribble for a dense mask.

    Args:
        mask: (X, Y) uint8 class indices; 255 is ignored and gets no stroke.
        num_classes: the classes, background included.
        rng: of all random draws.
        length: share of a contour that a stroke covers, above 0 up to 1.
        width: of a stroke in pixels; 0 takes :func:`stroke_width`.
        background: whether the background gets strokes too.

    Returns:
        (X, Y) uint8: the class on a stroke, ``num_classes`` elsewhere. A stroke lies inside its class, and each class
        that the mask holds has at least one.
    """
    scribble = np.full(mask.shape, num_classes, dtype=np.uint8)
    pen, wave = width or stroke_width(mask.shape, rng), max(2.0, WAVE * max(mask.shape))
    lesions = (mask > 0) & (mask != IGNORE_INDEX)
    for k in range(0 if background else 1, num_classes):
        box = _box(mask == k)
        if box is None:
            continue
        region = mask[box] == k
        around = k == 0 and lesions[box].any()
        strokes = _around(lesions[box], rng, length, wave) if around else _inside(region, rng, length, pen, wave)
        drawn = _drawn(strokes, region.shape, pen) & region
        scribble[box][drawn | _dots(region, drawn, once=k == 0)] = k
    return scribble


def _box(region: np.ndarray) -> tuple[slice, slice] | None:
    """The rectangle around a region (X, Y), in which alone anything need be computed; None for an empty region."""
    found = ndimage.find_objects(region.astype(np.uint8))
    return found[0] if found else None


def _inside(region: np.ndarray, rng: np.random.Generator, length: float, pen: int, wave: float) -> Iterator[np.ndarray]:
    """The strokes in each connected piece of a region, as points (N, 2)."""
    pieces, count = ndimage.label(region, NEIGHBOURS)
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    deepest = np.concatenate([[1], ndimage.maximum(depth, pieces, range(1, count + 1))])
    field = depth / deepest[pieces]
    field = np.where(
        region, np.maximum(field + WOBBLE * _waves(region.shape, rng, wave) * np.minimum(1, 2 * field), 0), 0
    )
    wide = np.flatnonzero(APART * deepest >= 3.5 * pen)
    narrow = set(range(1, count + 1)) - set(wide.tolist())
    outer, inner, middle = (rng.uniform(*span) for span in (OUTER, INNER, NARROW))
    first, second = _longest(field, outer, pieces), _longest(field, inner, pieces)
    for piece, line in _longest(field, middle, pieces).items():
        if piece in narrow:
            yield from _pieces_of(line, rng, min(1, ALONG * length))
    for piece, line in first.items():
        if piece not in narrow:
            curl = _cut(second[piece], rng.random(), length) if piece in second else line[:0]
            yield np.concatenate([_cut(line, rng.random(), length), curl])


def _around(lesions: np.ndarray, rng: np.random.Generator, length: float, wave: float) -> Iterator[np.ndarray]:
    """Strokes around the lesions at a margin, and a short one in the rest of the background."""
    side = max(lesions.shape)
    away = ndimage.distance_transform_edt(~lesions)
    margin = min(rng.uniform(*MARGIN) * side, 0.5 * away.max())
    field = away + 2 * WOBBLE * margin * _waves(lesions.shape, rng, wave)
    loops = sorted(_lines(field, margin), key=len, reverse=True)
    yield from (_cut(line, rng.random(), min(1, AROUND * length)) for line in loops[:LOOPS])
    rest = _lines(field, rng.uniform(margin, away.max()))
    if rest:
        yield _cut(max(rest, key=len), rng.random(), rng.uniform(*ELSEWHERE) * length)


def _waves(shape: tuple[int, ...], rng: np.random.Generator, wave: float) -> np.ndarray:
    """Smooth noise, deviation about 1, whose waves are ``wave`` pixels wide."""
    grid = rng.standard_normal([int(size / wave) + 4 for size in shape])
    steps = [np.arange(size) / wave + 1 for size in shape]
    return 1.4 * ndimage.map_coordinates(grid, np.meshgrid(*steps, indexing="ij"), order=3)


def _lines(field: np.ndarray, level: float) -> list[np.ndarray]:
    """The contours of a field (X, Y) as points (N, 2) along X and Y, closed ones first and last point alike."""
    if min(field.shape) < 2:
        return []
    generator = contour_generator(z=field.T, line_type=LineType.Separate)
    return [line for line in generator.lines(level) if len(line) > 2]


def _longest(field: np.ndarray, level: float, pieces: np.ndarray) -> dict[int, np.ndarray]:
    """The longest contour in each piece of a region that has one."""
    found: dict[int, np.ndarray] = {}
    for line in _lines(field, level):
        near = pieces[tuple(line.round().astype(int).T)]
        piece = int(near.max())
        if piece and len(line) > len(found.get(piece, ())):
            found[piece] = line
    return found


def _cut(line: np.ndarray, start: float, length: float) -> np.ndarray:
    """A share of a contour from a place on it: round the end if it is closed, else within it."""
    count = max(2, round(length * len(line)))
    if np.array_equal(line[0], line[-1]):
        return np.roll(line[:-1], -int(start * (len(line) - 1)), axis=0)[:count]
    first = int(start * (len(line) - count + 1))
    return line[first : first + count]


def _pieces_of(line: np.ndarray, rng: np.random.Generator, length: float) -> Iterator[np.ndarray]:
    """One to three strokes along a contour, together a share of it."""
    count = int(rng.integers(1, 4))
    start = rng.random()
    for place in range(count):
        yield _cut(line, (start + place / count) % 1, length / count)


def _drawn(strokes: Iterator[np.ndarray], shape: tuple[int, ...], width: int) -> np.ndarray:
    """Where the strokes run, (X, Y) bool."""
    picture = Image.new("1", shape)  # Pillow's size is (X, Y)
    draw = ImageDraw.Draw(picture)
    for points in strokes:
        draw.line([tuple(point) for point in points.round().astype(int).tolist()], fill=1, width=width, joint="curve")
    return np.asarray(picture).T


def _dots(region: np.ndarray, drawn: np.ndarray, once: bool) -> np.ndarray:
    """The deepest pixel of each connected piece that no stroke has reached; ``once``: only if none has been at all."""
    dots = np.zeros_like(region)
    if once and drawn.any():
        return dots
    pieces, count = ndimage.label(region, NEIGHBOURS)
    reached = np.unique(pieces[drawn]) if drawn.any() else []
    bare = np.setdiff1d(np.arange(1, count + 1), reached)
    if len(bare):
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        for place in ndimage.maximum_position(depth, pieces, bare[:1] if once else bare):
            dots[place] = True
    return dots


def measure_scribble(scribble: np.ndarray, mask: np.ndarray, num_classes: int) -> dict[int, dict[str, float]]:
    """What a scribble (X, Y) is like, by class of the mask (X, Y).

    Returns:
        For each class that the mask holds: ``coverage`` (strokes over region), ``share`` (of all strokes),
        ``strokes`` (connected ones), ``width`` (twice the largest distance inside a stroke, less 1), ``depth`` (median
        distance of the strokes to the region's border over the region's largest; 0 to 1).
    """
    numbers: dict[int, dict[str, float]] = {}
    total = max(1, int((scribble < num_classes).sum()))
    for k in range(num_classes):
        box = _box((mask == k) | (scribble == k))
        if box is None or not (mask == k).any():
            continue
        strokes, region = scribble[box] == k, mask[box] == k
        if not strokes.any():
            numbers[k] = {"coverage": 0.0, "share": 0.0, "strokes": 0.0}
            continue
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        thickness = ndimage.distance_transform_edt(np.pad(strokes, 1)).max()
        numbers[k] = {
            "coverage": strokes.sum() / region.sum(),
            "share": strokes.sum() / total,
            "strokes": float(ndimage.label(strokes, NEIGHBOURS)[1]),
            "width": 2 * thickness - 1,
            "depth": float(np.median(depth[strokes]) / depth.max()),
        }
    return numbers
