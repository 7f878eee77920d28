# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Masks drawn into pixels: fills, outlines, and what became of every pixel.

Images come in MONAI's axis order, (C, X, Y) float in [0, 1], masks (X, Y) with class indices, 255 = ignored;
:func:`to_rgb` and :func:`scaled` transpose them to rows and columns, and nothing else does. The colours are the ones of
Okabe and Ito ("Color Universal Design", 2008), told apart with any kind of colour vision.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

BLUE, YELLOW, VERMILION = (86, 180, 233), (240, 228, 66), (213, 94, 0)
CLASS_COLOURS = [YELLOW, BLUE, (0, 158, 115), (204, 121, 167), (230, 159, 0), (0, 114, 178), VERMILION]
FAINT = (105, 105, 112)
IGNORE_INDEX = 255
OUTLINE = 3  # pixels around a region that its outline takes, the dark line with it

Colour = tuple[int, int, int]


def class_colour(index: int) -> Colour:
    """Colour of foreground class ``index`` (from 1), repeating after seven."""
    return CLASS_COLOURS[(index - 1) % len(CLASS_COLOURS)]


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(C, X, Y) in [0, 1] -> (Y, X, 3) uint8; the first three channels, or the first alone as grey."""
    channels = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    return (np.clip(channels, 0, 1) * 255).round().astype(np.uint8).transpose(2, 1, 0)


def scaled(image: np.ndarray, side: int, masks: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The image as RGB rows and the masks, all with ``side`` pixels on the longer side."""
    rgb = to_rgb(image)
    height, width = rgb.shape[:2]
    size = tuple(max(1, round(n * side / max(height, width))) for n in (width, height))
    rows = [Image.fromarray(mask.T.astype(np.uint8)).resize(size, Image.Resampling.NEAREST) for mask in masks]
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)), [np.asarray(row) for row in rows]


def blend(rgb: np.ndarray, where: np.ndarray, colour: Colour, share: float) -> None:
    """Mixes a colour into the pixels ``where``, in place.

    The whole rectangle around them is computed in integers and taken over by bits: on a frame of a video that is
    several times as fast as indexing the pixels.
    """
    if not where.any():
        return
    assert rgb.strides[1:] == (3, 1), "else the rows below would be a copy"
    place, weight = _around(where), round(256 * share)
    chosen = where[place]
    flat = rgb[place].reshape(len(chosen), -1)  # rows of R, G, B, R, G, B, ...
    colours = np.tile(np.array(colour, np.uint16) * np.uint16(weight), chosen.shape[1])
    # NumPy 1 would multiply the 8 bits by a scalar in 8 bits, whatever the type of the scalar
    blended = ((flat.astype(np.uint16) * np.uint16(256 - weight) + colours) >> 8).astype(np.uint8)
    flat ^= (flat ^ blended) & np.repeat(chosen * np.uint8(255), 3, axis=1)


def _outline(rgb: np.ndarray, mask: np.ndarray, k: int, colour: Colour) -> None:
    """Draws a two-pixel line just outside class k with a dark one around it, so that it shows on any ground.

    A line goes over the background and lower classes only, so that of two classes that touch one draws the border.
    """
    line, below = _grown(_grown(mask == k)), mask < k
    blend(rgb, _grown(line) & ~line & below, (0, 0, 0), 0.6)
    blend(rgb, line & below, colour, 1.0)


def _grown(region: np.ndarray) -> np.ndarray:
    """A boolean region with its four neighbours (scipy's ``binary_dilation`` is slower by far)."""
    grown = region.copy()
    grown[1:] |= region[:-1]
    grown[:-1] |= region[1:]
    grown[:, 1:] |= region[:, :-1]
    grown[:, :-1] |= region[:, 1:]
    return grown


def _around(region: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """The smallest rectangle around a region that is not empty, ``margin`` pixels wider on each side."""
    ends = [np.flatnonzero(region.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    rows, columns = (slice(max(0, first - margin), last + margin + 1) for first, last in ends)
    return rows, columns


def draw_mask(rgb: np.ndarray, mask: np.ndarray, fill: float = 0.0, colours: Sequence[Colour] | None = None) -> None:
    """Draws every foreground class of a mask (rows, columns) into ``rgb``, and greys what is ignored.

    Args:
        rgb: picture (rows, columns, 3), changed in place.
        mask: class indices of the same size.
        fill: opacity of the inside; 0 draws outlines only.
        colours: a colour per foreground class; None takes :func:`class_colour`.
    """
    if not mask.any():
        return
    counts = Image.fromarray(mask.astype(np.uint8, copy=False)).histogram()  # a tenth of the time of np.bincount
    present = set(np.flatnonzero(counts).tolist())
    if IGNORE_INDEX in present:
        blend(rgb, mask == IGNORE_INDEX, FAINT, 0.7)
    for k in sorted(present - {0, IGNORE_INDEX}):
        colour = class_colour(k) if colours is None else colours[k - 1]
        place = _around(mask == k, OUTLINE)  # lesions are small, and what is not looked at costs nothing
        if fill:
            blend(rgb[place], mask[place] == k, colour, fill)
        _outline(rgb[place], mask[place], k, colour)


def draw_errors(rgb: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The picture in grey with every pixel coloured that is found, missed, wrongly marked or given a wrong class."""
    grey = np.repeat(rgb.mean(axis=2, keepdims=True) * 0.8, 3, axis=2).astype(np.uint8)
    judged = reference != IGNORE_INDEX
    blend(grey, ~judged, FAINT, 0.7)
    blend(grey, judged & (reference > 0) & (predicted == reference), BLUE, 0.75)
    blend(grey, judged & (predicted > 0) & (predicted != reference), VERMILION, 0.85)
    blend(grey, judged & (reference > 0) & (predicted == 0), YELLOW, 0.85)
    return grey
