# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""From the values in mask files to classes.

A pixel's value is a whole number: a grey value itself, or for a colour ``COLOUR + 0xRRGGBB``; greys stored as colours
are greys. So one dictionary of numbers describes any mask, whatever its format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.data.reader import IGNORE_INDEX
from scripts.errors import InputError

COLOUR = 1 << 24
NO_LABEL = 1 << 25  # a value of no file: pixels without a label, whatever 255 means in the files
LISTED = 16
APART = 64.0  # of 255: nearer values are taken for blur of a more frequent one when values are proposed
RARE = 0.1
ODD = 3

Counts = Mapping[int, int]


def codes_of(array: np.ndarray) -> np.ndarray:
    """The values (...) of a mask (C, ...) with one or three channels.

    Raises:
        ValueError: other channels, values that are not whole, or below 0.
    """
    if len(array) not in (1, 3):
        raise ValueError(f"it has {len(array)} channels, but a mask has one value a pixel")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.round(array)).any():
            raise ValueError("it holds values that are not whole numbers")
        array = array.astype(np.int64)
    if array.dtype.kind == "i" and array.min(initial=0) < 0:
        raise ValueError(f"it holds the value {array.min()}")
    if len(array) == 1 or (array[1:] == array[:1]).all():
        return array[0]
    red, green, blue = array.astype(np.int64)
    grey = (red == green) & (green == blue)
    return np.where(grey, red, COLOUR + (red << 16) + (green << 8) + blue)


def palette_codes(palette: np.ndarray, indices: Iterable[int]) -> dict[int, int]:
    """The values that a palette (256, 3) shows for some of its indices."""
    shown = codes_of(palette.T[..., None])[:, 0]
    return {index: int(shown[index]) for index in indices}


def count_codes(codes: np.ndarray) -> dict[int, int]:
    """Pixels by value."""
    if codes.dtype == np.uint8:
        counts = np.bincount(codes.ravel(), minlength=1)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(codes, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts)}


def show(code: int) -> str:
    """A value as people write it: 85 or #ff0000."""
    return f"#{code - COLOUR:06x}" if code >= COLOUR else str(code)


def parse_values(text: str, option: str = "--values") -> dict[int, int]:
    """``85=1,170=2`` or ``#ff0000=1`` as classes by value; black is background unless it says otherwise.

    Raises:
        InputError: a part is not of that form, a class is none, or there are gaps between the classes.
    """
    classes: dict[int, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        value, _, number = (piece.strip() for piece in part.partition("="))
        try:
            code, classes_index = parse_code(value), int(number)
        except ValueError:
            raise InputError(f"{option} has '{part}': write 85=1,170=2 or '#ff0000=1,#00ff00=2'.") from None
        if not 0 <= classes_index <= IGNORE_INDEX:
            raise InputError(f"{option} has '{part}': classes are 0 to 254, and 255 is ignored.")
        classes[code] = classes_index
    classes.setdefault(0, 0)
    present = set(classes.values()) - {IGNORE_INDEX}
    gaps = set(range(max(present, default=0) + 1)) - present
    if gaps:
        raise InputError(f"{option} leaves out class {min(gaps)}: number the classes 0, 1, 2 without gaps.")
    return classes


def parse_code(text: str) -> int:
    """A value as people write it, 85 or #ff0000, as a number.

    Raises:
        ValueError: it is neither.
    """
    if not text.startswith("#"):
        return int(text)
    if len(text) != 7:
        raise ValueError(text)
    number = int(text[1:], 16)
    red, green, blue = number >> 16, number >> 8 & 255, number & 255
    return red if red == green == blue else COLOUR + number


def to_classes(codes: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """The values of a mask as classes, uint8; ``table`` has a class for each of its values."""
    known = np.array(sorted(table))
    classes = np.array([table[int(value)] for value in known], dtype=np.uint8)
    return classes[np.searchsorted(known, codes)]


def _colours(codes: np.ndarray) -> np.ndarray:
    """Values (N,) as colours (N, 3)."""
    codes = np.asarray(codes, dtype=np.int64)
    rgb = np.stack([codes >> 16 & 255, codes >> 8 & 255, codes & 255], axis=-1)
    return np.where((codes >= COLOUR)[:, None], rgb, codes[:, None])


@dataclass(frozen=True)
class ValueRule:
    """How the values of all masks become classes.

    Attributes:
        num_classes: background included.
        classes: class by value; None: the values are class indices, or 0 and 255 where there are two classes.
    """

    num_classes: int
    classes: dict[int, int] | None = None

    def table(self, values: Iterable[int], nearest: bool = False) -> dict[int, int]:
        """The class of each value of one mask, 255 to be ignored.

        Args:
            values: all the values in the mask.
            nearest: values that are in none of ``classes`` have the class of the nearest one that is (JPEG masks).

        Raises:
            ValueError: a value is no class.
        """
        values = [int(value) for value in values]
        if NO_LABEL in values:
            return {NO_LABEL: IGNORE_INDEX, **self.table(set(values) - {NO_LABEL}, nearest)}
        if self.classes is None:
            binary = self.num_classes == 2 and set(values) <= {0, IGNORE_INDEX}
            return {value: int(value > 0) if binary else value for value in values}
        strange = [value for value in values if value not in self.classes]
        if strange and not nearest:
            raise ValueError(f"it holds the value {show(strange[0])}, which has no class")
        known = list(self.classes)
        distances = np.abs(_colours(np.array(values))[:, None] - _colours(np.array(known))[None]).sum(-1)
        return {value: self.classes[known[index]] for value, index in zip(values, distances.argmin(1))}


def decide_rule(
    masks: Sequence[tuple[str, Counts, bool]], given: Mapping[int, int], declared: int = 0, option: str = "--values"
) -> ValueRule:
    """The rule for a set of masks.

    Without ``given``, values are classes as they are if they are 0 and 255, or 0, 1, ... without a gap (and 255, to be
    ignored), or below the ``declared`` number of classes.

    Args:
        masks: file name, pixels by value, and whether its compression has changed values, of each mask.
        given: class by value, from ``--values``; may be empty.
        declared: the number of classes that the source names, 0 for none.
        option: the option to propose.

    Raises:
        InputError: the values are no classes; lists them, with the option that makes them classes.
    """
    if given:
        return ValueRule(max([1, *(index for index in given.values() if index != IGNORE_INDEX)]) + 1, dict(given))
    total: Counter[int] = Counter()
    blurred, both, border = False, False, False
    for _, counts, lossy in masks:
        counts = {code: count for code, count in counts.items() if code != NO_LABEL}
        total.update(counts)
        blurred |= lossy and not set(counts) <= {0, IGNORE_INDEX}
        both |= {1, IGNORE_INDEX} <= set(counts)
        border |= IGNORE_INDEX in counts and 1 not in counts
    values = set(total) - {IGNORE_INDEX}
    highest = max(values, default=0)
    if not blurred and highest < IGNORE_INDEX and (highest < declared or values | {0} == set(range(highest + 1))):
        num_classes = max(2, declared, highest + 1)
        # alone, a mask of 0 and 255 would be taken for a binary one, which it is not if others hold 1 and 255
        return ValueRule(num_classes, {0: 0, 1: 1, 255: IGNORE_INDEX} if num_classes == 2 and both and border else None)
    raise InputError(_proposal(total, option, blurred) + _odd_ones(masks))


def check_complete(
    masks: Sequence[tuple[str, Counts, bool]], classes: Mapping[int, int], given: str, option: str = "--values"
) -> None:
    """Refuses values of masks without lossy compression that have no class, all of them at once.

    Args:
        masks: as for :func:`decide_rule`.
        classes: class by value.
        given: the text of the option.
        option: the option to complete.

    Raises:
        InputError: lists them, with the option that makes them classes.
    """
    known = {*classes, NO_LABEL}
    total: Counter[int] = Counter()
    for _, counts, lossy in masks:
        total.update({} if lossy else counts)
    missing = sorted(total.keys() - known)
    if not missing:
        return
    first = max([0, *(index for index in classes.values() if index != IGNORE_INDEX)]) + 1
    pairs = [f"{show(code)}={index}" for index, code in enumerate(missing, start=first)]
    example = f"{option} '{','.join([given.strip(' ,'), *pairs])}'"
    mend = "Add --nearest" if len(missing) > LISTED else f"Add them, for example {example}, or add --nearest"
    strange = [
        (name, {code: count for code, count in counts.items() if code not in known}, lossy)
        for name, counts, lossy in masks
        if not lossy
    ]
    raise InputError(
        f"the masks hold values that have no class: {_shares(total, missing)}. {mend}, or leave these masks "
        f"out with --skip-broken{_odd_ones(strange)}"
    )


def _shares(total: Counter[int], codes: Iterable[int]) -> str:
    """The most frequent of some values, each with its share of all pixels."""
    counts = Counter({code: total[code] for code in codes})
    shown = ", ".join(
        f"{show(code)} ({100 * count / total.total():.2g} %)" for code, count in counts.most_common(LISTED)
    )
    return shown + (f" and {len(counts) - LISTED} more" if len(counts) > LISTED else "")


def _proposal(total: Counter[int], option: str, blurred: bool) -> str:
    blurred |= len(total) > LISTED
    codes = (_peaks(total) or [max(total)]) if blurred else sorted(set(total) - {0})
    pairs = [f"{show(code)}={index}" for index, code in enumerate(codes, start=1)]
    return (
        f"the masks hold values that are no class indices: {_shares(total, total)}. Say which class each is, for "
        f"example {option} '{','.join(pairs)}'{' --nearest' * blurred} (0 is background; class 255 is ignored)"
    )


def _odd_ones(masks: Sequence[tuple[str, Counts, bool]]) -> str:
    """The values that few of the masks hold, with one of these: more likely a slip than a class."""
    holders: dict[int, list[str]] = {}
    for name, counts, _ in masks:
        for code in counts.keys() - {NO_LABEL}:
            holders.setdefault(code, []).append(name)
    rare = sorted((len(names), code) for code, names in holders.items() if len(names) <= max(1, RARE * len(masks)))
    if not rare or len(masks) == 1:
        return ""
    shown = [
        f"{show(code)} is only in {holders[code][0]}{f' and {count - 1} more' if count > 1 else ''}"
        for count, code in rare[:ODD]
    ]
    return f"; if it is a slip, mend the mask: {', '.join(shown)}"


def _peaks(total: Counter[int]) -> list[int]:
    """The values that stand out among blur, in ascending order without black.

    Those count that lie far from every more frequent one, and are a tenth as frequent as the most frequent one beside
    black.
    """
    peaks, least = [0], 0.0
    for code, count in total.most_common(1000):
        distances = np.abs(_colours(np.array(peaks)) - _colours(np.array([code]))).sum(-1)
        if count >= least and (distances > 3 * APART).all():
            least = least or RARE * count
            peaks.append(code)
    return sorted(set(peaks[: LISTED + 1]) - {0})
