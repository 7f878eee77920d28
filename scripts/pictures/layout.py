# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tiles with captions, titles and legends around them, in rows or side by side."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from scripts.pictures.drawing import FAINT, Colour, class_colour

INK, PAPER = (28, 28, 30), (255, 255, 255)
SHEET_SIDE, TEXT, PAD = 256, 20, 12

Legend = Sequence[tuple[str, Colour | None]]


@cache
def font_of(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
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


def draw_legend(canvas: Image.Image, top: int, legend: Legend, size: int = TEXT) -> int:
    """Draws swatches with their names (no swatch for a remark), wrapped to the canvas; returns the height used."""
    draw, font, x, y = ImageDraw.Draw(canvas), font_of(size), PAD, top
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
    return _swatch(colour, size) + math.ceil(font_of(size).getlength(text))


def legend_width(legend: Legend) -> int:
    """The narrowest canvas on which no entry of the legend is cut."""
    return 2 * PAD + max((_entry_width(*entry) for entry in legend), default=0)


def class_legend(class_names: Sequence[str]) -> list[tuple[str, Colour | None]]:
    """The foreground classes with their colours."""
    return [(name, class_colour(k)) for k, name in enumerate(class_names) if k]


def framed(tiles: Sequence[np.ndarray], title: str, score: str, captions: Sequence[str], legend: Legend) -> Image.Image:
    """Tiles side by side under a title line, each with its caption, the legend below."""
    height, width = tiles[0].shape[:2]
    total = max(len(tiles) * (width + PAD) + PAD, legend_width(legend), 300)
    scratch = Image.new("RGB", (total, 1))
    top, bottom = 2 * (TEXT + PAD) + 4, draw_legend(scratch, 0, legend)
    canvas = Image.new("RGB", (total, top + height + PAD + bottom + PAD // 2), PAPER)
    draw, bold = ImageDraw.Draw(canvas), font_of(TEXT, True)
    draw.text((total - PAD, PAD), score, INK, bold, anchor="ra")
    draw.text((PAD, PAD), shorten(title, bold, total - 4 * PAD - bold.getlength(score)), INK, bold)
    for i, (tile, caption) in enumerate(zip(tiles, captions)):
        left = PAD + i * (width + PAD)
        draw.text((left, top - 6), shorten(caption, font_of(TEXT - 3), width), FAINT, font_of(TEXT - 3), anchor="ls")
        canvas.paste(Image.fromarray(tile), (left, top))
    draw_legend(canvas, top + height + PAD, legend)
    return canvas


def sheet_cell(tile: np.ndarray, caption: str, score: str) -> Image.Image:
    """A tile in a square, its caption and score below."""
    size, font = TEXT - 5, font_of(TEXT - 5)
    cell = Image.new("RGB", (SHEET_SIDE, SHEET_SIDE + TEXT + 4), PAPER)
    cell.paste(Image.fromarray(tile), ((SHEET_SIDE - tile.shape[1]) // 2, (SHEET_SIDE - tile.shape[0]) // 2))
    draw, bold = ImageDraw.Draw(cell), font_of(size, True)
    draw.text((SHEET_SIDE, SHEET_SIDE + 4), score, INK, bold, anchor="ra")
    draw.text((0, SHEET_SIDE + 4), shorten(caption, font, SHEET_SIDE - bold.getlength(score) - PAD), INK, font)
    return cell


def sheet(rows: dict[str, list[Image.Image]], legend: Legend) -> Image.Image:
    """Rows of cells, each under its heading, the legend at the bottom; as wide as the widest of them."""
    columns = max(len(cells) for cells in rows.values())
    width, step = max(PAD + columns * (SHEET_SIDE + PAD), legend_width(legend)), SHEET_SIDE + TEXT + 4 + PAD
    head, bottom = TEXT + PAD, draw_legend(Image.new("RGB", (width, 1)), 0, legend)
    canvas = Image.new("RGB", (width, PAD + len(rows) * (head + step) + bottom + PAD // 2), PAPER)
    for i, (heading, cells) in enumerate(rows.items()):
        top = PAD + i * (head + step)
        ImageDraw.Draw(canvas).text((PAD, top), heading, INK, font_of(TEXT, True))
        for j, cell in enumerate(cells):
            canvas.paste(cell, (PAD + j * (SHEET_SIDE + PAD), top + head))
    draw_legend(canvas, canvas.height - bottom - PAD // 2, legend)
    return canvas
