# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The words by which people tell images, masks, scribbles and the sides of a split apart in names."""

from __future__ import annotations

import re

WORDS = {
    "image": "images? imgs? im imagestr imagests frames? jpegimages photos? pictures? scans? inputs?",
    "label": "masks? labels? labelstr labelsts annotations? gts? ground[ _-]?truth segmentations? segmentationclass "
    "segs? targets?",
    "scribble": "scribbles?",
}
ALONE = {role: re.compile(f"(?:{'|'.join(words.split())})$", re.I) for role, words in WORDS.items()}
BEFORE = {role: re.compile(f"(.*?)[ _.-]+(?:{'|'.join(words.split())})$", re.I) for role, words in WORDS.items()}
AFTER = {role: re.compile(f"(?:{'|'.join(words.split())})[ _.-]+(.*)$", re.I) for role, words in WORDS.items()}
SIDE_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_word(name: str) -> tuple[str | None, str]:
    """The role that a word at the end or the beginning of a name tells, and the rest.

    Example:
        >>> split_word("a_mask"), split_word("img-7"), split_word("a")
        (('label', 'a'), ('image', '7'), (None, 'a'))
    """
    for patterns in (ALONE, BEFORE, AFTER):
        for role, pattern in patterns.items():
            match = pattern.match(name)
            if match:
                return role, match.group(1) if match.groups() else ""
    return None, name


def side_of(path: str) -> str | None:
    """The side that the words of a path tell: ``data/train_images`` is train, ``instances_val2017`` is val."""
    words = (word for word in re.split(r"[^a-z]+", path.lower()) if word in SIDE_WORDS)
    return SIDE_WORDS.get(next(words, ""))
