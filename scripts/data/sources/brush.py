# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The areas that people brush in Label Studio: an RGBA picture in the run lengths of thi.ng/rle-pack."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

HEADER = 32 + 5 + 4 * 4  # bits before the runs
DIGITS = b"01" + bytes(254)


def unpack(packed: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The area (X, Y) bool that was brushed: where the packed RGBA picture is not transparent.

    A header gives the number of values (32 bits), the bits of a value less one (5) and of four kinds of lengths less
    one (4 each). Then runs: a bit that says whether one value repeats, two that choose the kind of length, the length
    less one, and the one value or as many.

    Args:
        packed: its bytes.
        size: width and height.

    Raises:
        TypeError, ValueError: they are damaged, or the picture has another size.
    """
    bits = np.unpackbits(np.frombuffer(bytes(packed), np.uint8))
    text, count = bits.tobytes().translate(DIGITS), 4 * math.prod(size)

    def number(start: int, width: int) -> int:
        if start + width > len(text):
            raise ValueError("its run lengths end too early")
        return int(text[start : start + width], 2)

    if number(0, 32) != count or number(32, 5) != 7:
        raise ValueError("its run lengths do not fill the image")
    widths = [number(37 + 4 * kind, 4) + 1 for kind in range(4)]
    values, at, done = np.empty(count, np.uint8), HEADER, 0
    while done < count:
        repeats, width = number(at, 1), widths[number(at + 1, 2)]
        length = number(at + 3, width) + 1
        at += 3 + width
        stop = at + (8 if repeats else 8 * length)
        if stop > len(text) or done + length > count:
            raise ValueError("its run lengths do not fit")
        values[done : done + length] = np.packbits(bits[at:stop])
        at, done = stop, done + length
    return values.reshape(size[1], size[0], 4)[..., 3].T > 0
