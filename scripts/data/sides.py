# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The words by which folders, lists and tables name the sides of a split: train, val and test."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from scripts.errors import InputError

SIDES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SIDES |= dict.fromkeys(("val", "valid", "validation"), "val")

logger = logging.getLogger("less_net")


def side_of(name: str) -> str | None:
    """The side that the words of a path or cell tell: ``data/train_images`` is train, ``instances_val2017`` is val."""
    words = (word for word in re.split(r"[^a-z]+", name.lower()) if word in SIDES)
    return SIDES.get(next(words, ""))


def column_sides(cells: Sequence[str], masked: Sequence[bool], column: str) -> list[str | None]:
    """The side of every row of a table, by its cell in one column; None for all of them where no cell names a side.

    A row without a mask needs none: its image is one to train on, unlabelled.

    Args:
        cells: what the column holds, row by row.
        masked: whether the row has a mask.
        column: the column and its table, for messages.

    Raises:
        InputError: some cells name sides, and that of a row with a mask does not, or another word stands in one. To
            split anew then would train on images that are meant for testing.
    """
    sides = [side_of(cell) for cell in cells]
    if not any(sides):
        if any(cells):
            logger.warning("%s names none of train, val and test, so it pins no split.", column)
        return sides
    for number, (side, cell, mask) in enumerate(zip(sides, cells, masked), start=2):
        if side is None and (cell or mask):
            raise InputError(
                f"{column} has '{cell}' in row {number}, where others have a side: write train, val or test, or remove "
                "the column to have a split made."
            )
    return [side or "train" for side in sides]
