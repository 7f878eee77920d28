# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Cases as people judge them: reference and prediction on the image, in panels and on sheets.

Small images are enlarged to a readable size, and outlines are drawn at that size, so that a line is two pixels wide
whatever the image measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from scripts.pictures.drawing import (
    BLUE,
    FAINT,
    IGNORE_INDEX,
    VERMILION,
    YELLOW,
    blend,
    class_colour,
    draw_errors,
    draw_mask,
    scaled,
)
from scripts.pictures.layout import SHEET_SIDE, Legend, class_legend, framed, sheet, sheet_cell

FILL = 0.3
PANEL_SIDE, OVERLAY_SIDE, MOST_SIDE = 384, 512, 1024
ERROR_LEGEND = [("found", BLUE), ("missed", YELLOW), ("wrongly marked", VERMILION)]


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
        blend(tile, predicted == 1, YELLOW, fill)
        draw_mask(tile, reference, colours=[BLUE])
        draw_mask(tile, predicted, colours=[YELLOW])
    else:
        for k in range(1, classes):
            blend(tile, predicted == k, class_colour(k), 2 * FILL)
        draw_mask(tile, reference)


def case_panel(case: Case, class_names: Sequence[str]) -> Image.Image:
    """Image, reference outline, and prediction on the reference, side by side; file name, Dice, legend."""
    side = int(np.clip(max(case.reference.shape), PANEL_SIDE, MOST_SIDE))
    rgb, (reference, predicted) = scaled(case.image, side, (case.reference, case.predicted))
    tiles = [rgb.copy() for _ in range(3)]
    draw_mask(tiles[1], reference, colours=[BLUE] if len(class_names) == 2 else None)
    _draw_pair(tiles[2], reference, predicted, len(class_names), FILL)
    legend = _pair_legend(class_names, [reference])
    return framed(tiles, case.name, f"Dice {case.dice:.3f}", ["image", "reference", "prediction"], legend)


def prediction_overlay(
    image: np.ndarray, predicted: np.ndarray, name: str, class_names: Sequence[str], marked: float | None = None
) -> Image.Image:
    """A predicted mask on its image, with file name, marked share and legend; no reference is needed.

    Args:
        image: (C, X, Y) in [0, 1].
        predicted: class indices (X, Y).
        name: of the file.
        class_names: the background's first.
        marked: share of the pixels that are marked; None: of ``predicted``.
    """
    marked = float((predicted > 0).mean()) if marked is None else marked
    side = int(np.clip(max(predicted.shape), OVERLAY_SIDE, MOST_SIDE))
    tile, (mask,) = scaled(image, side, (predicted,))
    tile = tile.copy()
    draw_mask(tile, mask, FILL)
    return framed([tile], name, "", [f"{marked:.2%} marked"], class_legend(class_names))


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
