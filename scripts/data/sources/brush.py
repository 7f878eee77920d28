# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The areas that people brush in Label Studio: a transparent picture, packed by thi.ng/rle-pack or a PNG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

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

    if len(text) < HEADER or int(text[:32], 2) != count or int(text[32:37], 2) != 7:
        raise ValueError("its run lengths do not fill the image")
    widths = [int(text[start : start + 4], 2) + 1 for start in range(37, HEADER, 4)]
    kinds = {b"%d%d%d" % (one, kind >> 1, kind & 1): (one, widths[kind]) for one in (0, 1) for kind in range(4)}
    values, at, done = np.empty(count, np.uint8), HEADER, 0
    while done < count:  # once for each run, so with as little as can be
        repeats, width = kinds.get(text[at : at + 3], (0, 0))
        start = at + 3 + width
        length = int(text[at + 3 : start] or b"0", 2) + 1
        at = start + (8 if repeats else 8 * length)
        if not width or at > len(text) or done + length > count:
            raise ValueError("its run lengths do not fit")
        values[done : done + length] = int(text[start:at], 2) if repeats else np.packbits(bits[start:at])
        done += length
    return values.reshape(size[1], size[0], 4)[..., 3].T > 0


def decode_png(address: str, size: tuple[int, int]) -> np.ndarray:
    """The area (X, Y) bool of a bitmask: where a PNG in a data URL is not transparent, as Label Studio shows it.

    Args:
        address: ``data:image/png;base64,...``.
        size: width and height.

    Raises:
        AttributeError, ValueError: it is damaged, or the picture has another size, or no transparency.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2])), formats=("PNG",)) as picture:
            if picture.size != size:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, its image {size[0]} x {size[1]}")
            if not picture.has_transparency_data:
                raise ValueError("nothing of it is transparent")
            return np.asarray(picture.convert("RGBA"))[..., 3].T > 0
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow says that a file is damaged
        raise ValueError(f"its picture is damaged: {error}") from None
