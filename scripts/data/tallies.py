# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What is worth knowing of one opened image, and the sums of it over a list of images."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from scripts.data.checks import Opened, Problem, class_counts, meaning_of_255
from scripts.data.decode import Decoded
from scripts.data.exif import UPRIGHT
from scripts.data.files import Item, is_nifti
from scripts.data.reader import IGNORE_INDEX

NEIGHBOURS = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are one lesion
SUFFIXES = {"jpeg": "jpg", "tiff": "tif"}
NO_AFFINE = np.eye(4)


@dataclass(slots=True)
class MaskFacts:
    """One mask. ``counts`` (256,): pixels of each value; ``lesions``: pixels of each connected piece, by class.

    ``binary``: the values were 0 and 255 and nothing else, counted here as the classes 0 and 1. ``meaning``: of 255,
    see :func:`scripts.data.checks.meaning_of_255`.
    """

    digest: bytes
    counts: np.ndarray
    lesions: dict[int, np.ndarray]
    binary: bool
    lossy: bool
    is_image: bool
    meaning: str


@dataclass(slots=True)
class Facts:
    """One item. ``size``: (X, Y); ``area``: mm2 a pixel, or None; ``turned``: EXIF turned the image, but not its mask;
    ``scribble``: pixels of each value, (256,), and ``agreeing``: those of them on which the mask holds the same value.
    """

    problems: list[Problem]
    size: tuple[int, int] | None = None
    kind: tuple[int, str, str] = (0, "", "")  # channels, dtype, format
    orientation: str = ""
    spacing: str = ""
    turned: bool = False
    digest: bytes = b""
    mask: MaskFacts | None = None
    scribble: np.ndarray | None = None
    agreeing: np.ndarray | None = None

    @property
    def area(self) -> float | None:
        """Square millimetres of a pixel, where the spacing is known."""
        steps = self.spacing.split()[:2]
        return float(steps[0]) * float(steps[1]) if len(steps) == 2 else None


def facts_of(opened: Opened, item: Item, guess_binary: bool) -> Facts:
    """The facts of an opened item.

    Args:
        opened: its files.
        item: the item, which may know the spacing.
        guess_binary: take a mask of 0 and 255 alone as one of two classes, because their number is not known yet.
    """
    facts = Facts(opened.problems)
    if opened.image is not None:
        values = opened.image.array
        facts.size, facts.digest = values.shape[1:], _digest(values)
        facts.kind = (len(values) - opened.image.alpha, str(values.dtype), _format(item["image"]))
        facts.orientation = _orientation(opened.image, item["image"])
        facts.spacing = _spacing(opened.image, item)
    if opened.classes is not None:
        facts.mask = _mask_facts(opened, guess_binary)
        facts.turned = opened.image is not None and opened.label.orientation == UPRIGHT != opened.image.orientation
    if opened.scribble is not None:
        facts.scribble = class_counts(opened.scribble)
        if opened.classes is not None:
            classes = opened.classes // IGNORE_INDEX if facts.mask.binary else opened.classes
            facts.agreeing = class_counts(opened.scribble[opened.scribble == classes])
    return facts


def _digest(values: np.ndarray) -> bytes:
    """Equal for images of equal size, type and pixels."""
    content = hashlib.blake2b(f"{values.shape}{values.dtype}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(values.T))
    return content.digest()


def _format(path: str) -> str:
    suffix = "nii" if is_nifti(path) else os.path.splitext(path)[1][1:].lower()
    return SUFFIXES.get(suffix, suffix)


def _orientation(image: Decoded, path: str) -> str:
    """The directions of X and Y of a NIfTI file; of a picture whether it is upright."""
    if is_nifti(path):
        return "".join(map(str, nibabel.aff2axcodes(image.affine)[:2]))
    width, height = image.array.shape[1:]
    return "square" if width == height else "landscape" if width > height else "portrait"


def _spacing(image: Decoded, item: Item) -> str:
    """Millimetres along X and Y (and between slices) as text: what the item says, else the file's own."""
    if item.get("spacing") or (image.affine == NO_AFFINE).all():
        return item.get("spacing", "")
    return " ".join(f"{step:g}" for step in nibabel.affines.voxel_sizes(image.affine)[:2])


def _mask_facts(opened: Opened, guess_binary: bool) -> MaskFacts:
    classes, label = opened.classes, opened.label
    counts = class_counts(classes)
    binary = guess_binary and int(counts[0]) + int(counts[IGNORE_INDEX]) == classes.size
    if binary:
        counts[[1, IGNORE_INDEX]] = counts[[IGNORE_INDEX, 1]]
        classes = classes // IGNORE_INDEX
    present = (np.flatnonzero(counts[1:IGNORE_INDEX]) + 1).tolist()
    lesions = {k: lesion_sizes(classes == k) for k in present} if len(present) <= 64 or not label.lossy else {}
    same = bool(present) and opened.image is not None and _equal(opened.image.array, label.array)
    return MaskFacts(_digest(classes), counts, lesions, binary, label.lossy, same, meaning_of_255(label))


def _equal(image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether mask and image hold the same values, be they repeated over channels or not."""
    return image.shape[1:] == mask.shape[1:] and bool((image[:3] == mask[:1]).all())


def lesion_sizes(region: np.ndarray) -> np.ndarray:
    """Pixels of each connected piece of a region (X, Y)."""
    return np.bincount(ndimage.label(region, NEIGHBOURS)[0].ravel())[1:]


@dataclass
class MaskTally:
    """Sums over masks: their number, the empty ones, pixels of each value, sizes of the lesions by class."""

    masks: int = 0
    empty: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    pixels: dict[int, array] = field(default_factory=lambda: defaultdict(lambda: array("f")))
    square_mm: dict[int, array] = field(default_factory=lambda: defaultdict(lambda: array("f")))

    def add(self, mask: MaskFacts, area: float | None) -> None:
        """Adds one mask, of whose pixels each has ``area`` square millimetres."""
        self.masks += 1
        self.empty += not mask.counts[1:IGNORE_INDEX].any()
        self.counts += mask.counts
        for k, sizes in mask.lesions.items():
            self.pixels[k].extend(sizes.tolist())
            if area:
                self.square_mm[k].extend((sizes * area).tolist())

    def join(self, other: MaskTally, as_binary: bool) -> MaskTally:
        """The sums of both; the other's masks of 0 and 255 are two classes, or else hold nothing but ignored pixels."""
        counts = other.counts.copy()
        if not as_binary:
            counts[[1, IGNORE_INDEX]] = counts[[IGNORE_INDEX, 1]]
        empty = other.empty if as_binary else other.masks
        both = MaskTally(self.masks + other.masks, self.empty + empty, self.counts + counts)
        for source in (self, other) if as_binary else (self,):
            for mine, theirs in ((both.pixels, source.pixels), (both.square_mm, source.square_mm)):
                for k, sizes in theirs.items():
                    mine[k].extend(sizes)
        return both


def quantiles(values: Sequence[float]) -> dict[str, Any] | None:
    """Smallest, 5th percentile, median, 95th percentile and largest value; None where there is none."""
    if not len(values):
        return None
    numbers = np.percentile(np.asarray(values, dtype=np.float64), [0, 5, 50, 95, 100], method="nearest")
    return dict(zip(("min", "p5", "median", "p95", "max"), numbers.round(3).tolist()))


def shares(counts: Sequence[int]) -> list[float]:
    """Counts as shares of their sum."""
    total = max(1, int(np.sum(counts)))
    return [round(int(count) / total, 6) for count in counts]


def most_common(counter: Counter, limit: int = 8) -> dict[str, int]:
    """The most frequent entries with their counts, the rest summed up as ``other``."""
    listed = {str(name): count for name, count in sorted(counter.items(), key=lambda pair: (-pair[1], str(pair[0])))}
    rest = sum(list(listed.values())[limit:])
    return dict(list(listed.items())[:limit]) | ({"other": rest} if rest else {})
