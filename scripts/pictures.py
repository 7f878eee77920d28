# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures that people judge a segmentation by: overlays, contact sheets, error maps, the confusion table.

Arrays come in MONAI's axis order: image (C, X, Y) float in [0, 1], masks (X, Y) with class indices, 255 = ignored.
They are transposed to rows and columns here and nowhere else. Small images are enlarged to a readable size, and
outlines are drawn at that size, so that a line is two pixels wide whatever the image measures. The colours are the
ones of Okabe and Ito ("Color Universal Design", 2008), told apart with any kind of colour vision.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from scripts.errors import InputError

BLUE, YELLOW, VERMILION = (86, 180, 233), (240, 228, 66), (213, 94, 0)
CLASS_COLOURS = [YELLOW, BLUE, (0, 158, 115), (204, 121, 167), (230, 159, 0), (0, 114, 178), VERMILION]
INK, PAPER, FAINT = (28, 28, 30), (255, 255, 255), (105, 105, 112)
IGNORE_INDEX = 255
FILL = 0.3
OUTLINE = 3  # pixels around a region that its outline takes, the dark line with it
PANEL_SIDE, OVERLAY_SIDE, SHEET_SIDE, MOST_SIDE = 384, 512, 256, 1024
TEXT, PAD = 20, 12

Colour = tuple[int, int, int]
Legend = Sequence[tuple[str, Colour | None]]


@dataclass
class Case:
    """One scored image: what a picture of it needs.

    ``image`` (C, X, Y) float in [0, 1]; ``reference`` and ``predicted`` (X, Y) class indices.
    """

    name: str
    dice: float
    image: np.ndarray
    reference: np.ndarray
    predicted: np.ndarray


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


def _blend(rgb: np.ndarray, where: np.ndarray, colour: Colour, share: float) -> None:
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
    _blend(rgb, _grown(line) & ~line & below, (0, 0, 0), 0.6)
    _blend(rgb, line & below, colour, 1.0)


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
        _blend(rgb, mask == IGNORE_INDEX, FAINT, 0.7)
    for k in sorted(present - {0, IGNORE_INDEX}):
        colour = class_colour(k) if colours is None else colours[k - 1]
        place = _around(mask == k, OUTLINE)  # lesions are small, and what is not looked at costs nothing
        if fill:
            _blend(rgb[place], mask[place] == k, colour, fill)
        _outline(rgb[place], mask[place], k, colour)


def draw_errors(rgb: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The picture in grey with every pixel coloured that is found, missed, wrongly marked or given a wrong class."""
    grey = np.repeat(rgb.mean(axis=2, keepdims=True) * 0.8, 3, axis=2).astype(np.uint8)
    judged = reference != IGNORE_INDEX
    _blend(grey, ~judged, FAINT, 0.7)
    _blend(grey, judged & (reference > 0) & (predicted == reference), BLUE, 0.75)
    _blend(grey, judged & (predicted > 0) & (predicted != reference), VERMILION, 0.85)
    _blend(grey, judged & (reference > 0) & (predicted == 0), YELLOW, 0.85)
    return grey


ERROR_LEGEND = [("found", BLUE), ("missed", YELLOW), ("wrongly marked", VERMILION)]


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as it comes with matplotlib, so that pictures look the same on every machine."""
    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")), size)


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or its beginning and end around an ellipsis where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    keep = len(text) - 1
    while keep > 2 and font.getlength(f"{text[: keep - keep // 2]}…{text[-(keep // 2) :]}") > width:
        keep -= 1
    return f"{text[: keep - keep // 2]}…{text[-(keep // 2) :]}"


def _draw_legend(canvas: Image.Image, top: int, legend: Legend, size: int = TEXT) -> int:
    """Draws swatches with their names (no swatch for a remark), wrapped to the canvas; returns the height used."""
    draw, font, x, y = ImageDraw.Draw(canvas), _font(size), PAD, top
    for text, colour in legend:
        swatch, width = _swatch(colour, size), _entry_width(text, colour, size)
        if x > PAD and x + width > canvas.width - PAD:
            x, y = PAD, y + round(size * 1.5)
        if colour:
            draw.rectangle([x, y + 2, x + size, y + size + 2], fill=colour, outline=INK)
        draw.text((x + swatch, y + size // 2 + 2), text, INK, font, anchor="lm")
        x += width + size
    return y + round(size * 1.5) - top


def _swatch(colour: Colour | None, size: int) -> int:
    """Pixels that the swatch of a legend's entry takes, with the gap behind it."""
    return round(size * 1.5) if colour else 0


def _entry_width(text: str, colour: Colour | None, size: int = TEXT) -> int:
    """Pixels that an entry of a legend takes."""
    return _swatch(colour, size) + math.ceil(_font(size).getlength(text))


def _legend_width(legend: Legend) -> int:
    """The narrowest canvas on which no entry of the legend is cut."""
    return 2 * PAD + max((_entry_width(*entry) for entry in legend), default=0)


def _framed(
    tiles: Sequence[np.ndarray], title: str, score: str, captions: Sequence[str], legend: Legend
) -> Image.Image:
    """Tiles side by side under a title line, each with its caption, the legend below."""
    height, width = tiles[0].shape[:2]
    total = max(len(tiles) * (width + PAD) + PAD, _legend_width(legend), 300)
    scratch = Image.new("RGB", (total, 1))
    top, bottom = 2 * (TEXT + PAD) + 4, _draw_legend(scratch, 0, legend)
    canvas = Image.new("RGB", (total, top + height + PAD + bottom + PAD // 2), PAPER)
    draw, bold = ImageDraw.Draw(canvas), _font(TEXT, True)
    draw.text((total - PAD, PAD), score, INK, bold, anchor="ra")
    draw.text((PAD, PAD), shorten(title, bold, total - 4 * PAD - bold.getlength(score)), INK, bold)
    for i, (tile, caption) in enumerate(zip(tiles, captions)):
        left = PAD + i * (width + PAD)
        draw.text((left, top - 6), shorten(caption, _font(TEXT - 3), width), FAINT, _font(TEXT - 3), anchor="ls")
        canvas.paste(Image.fromarray(tile), (left, top))
    _draw_legend(canvas, top + height + PAD, legend)
    return canvas


def class_legend(class_names: Sequence[str]) -> list[tuple[str, Colour | None]]:
    """The foreground classes with their colours."""
    return [(name, class_colour(k)) for k, name in enumerate(class_names) if k]


def _pair_legend(class_names: Sequence[str], references: Sequence[np.ndarray]) -> Legend:
    """What the colours mean where a reference and a prediction lie in the same picture."""
    if len(class_names) == 2:
        legend = [("reference", BLUE), ("prediction", YELLOW)]
    else:
        legend = [*class_legend(class_names), ("outline: reference, fill: prediction", None)]
    ignored = any((reference == IGNORE_INDEX).any() for reference in references)
    return [*legend, ("ignored", FAINT)] if ignored else legend


def _draw_pair(tile: np.ndarray, reference: np.ndarray, predicted: np.ndarray, classes: int, fill: float) -> None:
    """Reference and prediction in one tile: two outlines of one class, or of several outline and stronger fill."""
    if classes == 2:
        _blend(tile, predicted == 1, YELLOW, fill)
        draw_mask(tile, reference, colours=[BLUE])
        draw_mask(tile, predicted, colours=[YELLOW])
    else:
        for k in range(1, classes):
            _blend(tile, predicted == k, class_colour(k), 2 * FILL)
        draw_mask(tile, reference)


def case_panel(case: Case, class_names: Sequence[str]) -> Image.Image:
    """Image, reference outline, and prediction on the reference, side by side; file name, Dice, legend."""
    side = int(np.clip(max(case.reference.shape), PANEL_SIDE, MOST_SIDE))
    rgb, (reference, predicted) = scaled(case.image, side, (case.reference, case.predicted))
    tiles = [rgb.copy() for _ in range(3)]
    draw_mask(tiles[1], reference, colours=[BLUE] if len(class_names) == 2 else None)
    _draw_pair(tiles[2], reference, predicted, len(class_names), FILL)
    legend = _pair_legend(class_names, [reference])
    return _framed(tiles, case.name, f"Dice {case.dice:.3f}", ["image", "reference", "prediction"], legend)


def prediction_overlay(image: np.ndarray, predicted: np.ndarray, name: str, class_names: Sequence[str]) -> Image.Image:
    """A predicted mask on its image, with file name, marked share and legend; no reference is needed."""
    side = int(np.clip(max(predicted.shape), OVERLAY_SIDE, MOST_SIDE))
    tile, (mask,) = scaled(image, side, (predicted,))
    tile = tile.copy()
    draw_mask(tile, mask, FILL)
    return _framed([tile], name, "", [f"{(predicted > 0).mean():.2%} marked"], class_legend(class_names))


def sheet_cell(tile: np.ndarray, caption: str, score: str) -> Image.Image:
    """A tile in a square, its caption and score below."""
    size, font = TEXT - 5, _font(TEXT - 5)
    cell = Image.new("RGB", (SHEET_SIDE, SHEET_SIDE + TEXT + 4), PAPER)
    cell.paste(Image.fromarray(tile), ((SHEET_SIDE - tile.shape[1]) // 2, (SHEET_SIDE - tile.shape[0]) // 2))
    draw, bold = ImageDraw.Draw(cell), _font(size, True)
    draw.text((SHEET_SIDE, SHEET_SIDE + 4), score, INK, bold, anchor="ra")
    draw.text((0, SHEET_SIDE + 4), shorten(caption, font, SHEET_SIDE - bold.getlength(score) - PAD), INK, font)
    return cell


def sheet(rows: dict[str, list[Image.Image]], legend: Legend) -> Image.Image:
    """Rows of cells, each under its heading, the legend at the bottom; as wide as the widest of them."""
    columns = max(len(cells) for cells in rows.values())
    width, step = max(PAD + columns * (SHEET_SIDE + PAD), _legend_width(legend)), SHEET_SIDE + TEXT + 4 + PAD
    head, bottom = TEXT + PAD, _draw_legend(Image.new("RGB", (width, 1)), 0, legend)
    canvas = Image.new("RGB", (width, PAD + len(rows) * (head + step) + bottom + PAD // 2), PAPER)
    for i, (heading, cells) in enumerate(rows.items()):
        top = PAD + i * (head + step)
        ImageDraw.Draw(canvas).text((PAD, top), heading, INK, _font(TEXT, True))
        for j, cell in enumerate(cells):
            canvas.paste(cell, (PAD + j * (SHEET_SIDE + PAD), top + head))
    _draw_legend(canvas, canvas.height - bottom - PAD // 2, legend)
    return canvas


def contact_sheet(rows: dict[str, list[Case]], class_names: Sequence[str]) -> Image.Image:
    """Cases in rows (best, median, worst), reference and prediction in the same tile, name and Dice below."""

    def cell(case: Case) -> Image.Image:
        rgb, (reference, predicted) = scaled(case.image, SHEET_SIDE, (case.reference, case.predicted))
        tile = rgb.copy()
        _draw_pair(tile, reference, predicted, len(class_names), fill=0)
        return sheet_cell(tile, case.name, f"{case.dice:.3f}")

    references = [case.reference for cases in rows.values() for case in cases]
    return sheet(
        {heading: [cell(c) for c in cases] for heading, cases in rows.items()}, _pair_legend(class_names, references)
    )


def error_sheet(rows: dict[str, list[Case]]) -> Image.Image:
    """Cases in rows with every pixel coloured by what happened to it: found, missed, wrongly marked."""

    def cell(case: Case) -> Image.Image:
        rgb, (reference, predicted) = scaled(case.image, SHEET_SIDE, (case.reference, case.predicted))
        return sheet_cell(draw_errors(rgb, reference, predicted), case.name, f"{case.dice:.3f}")

    return sheet({heading: [cell(c) for c in cases] for heading, cases in rows.items()}, ERROR_LEGEND)


def confusion_picture(confusion: np.ndarray, class_names: Sequence[str]) -> Image.Image:
    """The pooled confusion table (K, K), rows reference: share of each row in colour and text, pixels below."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 1.1 * len(class_names)
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        text = f"{share:.1%}\n{int(confusion[i, j]):,}"
        axes.text(j, i, text, ha="center", va="center", fontsize=11, color="white" if share > 0.55 else "black")
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, fontsize=11)
    axes.set_yticks(ticks, class_names, fontsize=11, rotation=90, va="center")
    axes.set_xlabel("prediction", fontsize=12)
    axes.set_ylabel("reference", fontsize=12)
    axes.set_title("share of the reference pixels, and pixels", fontsize=11)
    return rendered(figure)


def rendered(figure: Figure) -> Image.Image:
    """A matplotlib figure as a picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def save(picture: Image.Image, path: Path) -> None:
    """Writes a PNG, making its folder.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, optimize=True)
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror or error}): name a folder that can be written"
        ) from error
