# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The words by which people tell images, masks and scribbles apart in names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from scripts.data.files import is_image_name, stem_of_name

WORDS = {
    "image": "images? imgs? im imagestr imagests frames? jpegimages photos? pictures? scans? inputs?",
    "label": "masks? labels? labelstr labelsts annotations? gts? ground[ _-]?truth segmentations? segmentationclass "
    "segs? targets?",
    "scribble": "scribbles?",
}
#: endings of a mask's file name, as messages show them
MASK_ENDINGS = "_mask, _label, _annotation, _gt, _ground_truth, _segmentation, _seg or _target"
NUMBERED = re.compile(r"(.+?)[ _.-]+\d+$")  # one of several masks of an image
ALONE = {role: re.compile(f"(?:{'|'.join(words.split())})$", re.I) for role, words in WORDS.items()}
BEFORE = {role: re.compile(f"(.*?)[ _.-]+(?:{'|'.join(words.split())})$", re.I) for role, words in WORDS.items()}
AFTER = {role: re.compile(f"(?:{'|'.join(words.split())})[ _.-]+(.*)$", re.I) for role, words in WORDS.items()}


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


def composed(name: str) -> str:
    """A name with its accents stored in one form."""
    return unicodedata.normalize("NFC", name)


def _small(name: str) -> str:
    return composed(composed(name).casefold())


def plain(name: str) -> str:
    """A name without what programs change in it: capitals, the form in which accents are stored (a Mac has its own),
    and an image suffix that stays inside the name.

    Example:
        >>> plain("IMG_0"), plain("a.jpg"), plain("Mu\u0308ller")
        ('img_0', 'a', 'müller')
    """
    name = _small(name)
    return stem_of_name(name) if is_image_name(name) else name


def difference(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """What two files differ in, of whose possible names two are :func:`plain` the same."""
    ways = {"the form of accents": composed, "capitals": _small, "a suffix inside the name": plain}
    same = (way for way, write in ways.items() if {write(name) for name in names} & {write(other) for other in others})
    return next(same, "its folder")


def is_numbered_mask(name: str) -> bool:
    """Whether a name is that of one of several masks of an image: ``im0_mask_1``."""
    match = NUMBERED.match(name)
    return match is not None and split_word(name)[0] is None and split_word(match.group(1))[0] == "label"


def masks_among(names: Iterable[str]) -> set[str]:
    """Those of the names that are the mask or the scribbles, or one of several masks, of another one.

    Example:
        >>> sorted(masks_among(["a", "a_mask", "a_mask_2", "img_1", "gt_1", "img_1_gt", "b_mask"]))
        ['a_mask', 'a_mask_2', 'gt_1', 'img_1_gt']
    """
    told = {name: split_word(NUMBERED.match(name).group(1) if is_numbered_mask(name) else name) for name in names}
    images = {one for name, (role, bare) in told.items() if role in ("image", None) for one in (name, bare)}
    return {name for name, (role, bare) in told.items() if role in ("label", "scribble") and bare in images}
