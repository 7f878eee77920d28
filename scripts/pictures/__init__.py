# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures that people judge a segmentation by: overlays, contact sheets, error maps, the confusion table."""

from scripts.pictures.cases import ERROR_LEGEND, FILL, Case, case_panel, contact_sheet, error_sheet, prediction_overlay
from scripts.pictures.drawing import (
    BLUE,
    FAINT,
    VERMILION,
    YELLOW,
    class_colour,
    draw_errors,
    draw_mask,
    scaled,
    to_rgb,
)
from scripts.pictures.figures import confusion_picture, rendered, save
from scripts.pictures.layout import PAD, PAPER, SHEET_SIDE, TEXT, class_legend, font_of, sheet, sheet_cell, shorten

__all__ = [
    "BLUE",
    "Case",
    "ERROR_LEGEND",
    "FAINT",
    "FILL",
    "PAD",
    "PAPER",
    "SHEET_SIDE",
    "TEXT",
    "VERMILION",
    "YELLOW",
    "case_panel",
    "class_colour",
    "class_legend",
    "confusion_picture",
    "contact_sheet",
    "draw_errors",
    "draw_mask",
    "error_sheet",
    "font_of",
    "prediction_overlay",
    "rendered",
    "save",
    "scaled",
    "sheet",
    "sheet_cell",
    "shorten",
    "to_rgb",
]
