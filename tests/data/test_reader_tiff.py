# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""TIFF in all its ways to store pixels, and what has more than eight bits a channel: written here byte by byte."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from scripts.data import ImageReader
from scripts.data.decode import decode
from scripts.errors import InputError

WIDTH, HEIGHT = 7, 5


def save_deep_png(path, values, colour_type):
    """Values (Y, X, C) with 16 bits a channel, which Pillow does not write."""
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def save_deep_tiff(path, values, planar=1):
    """The same of colours (Y, X, 3) as TIFF: the tags after the pixels, each with its type and how many values."""
    pixels, (height, width, _) = values.astype("<u2").tobytes(), values.shape
    bits, tags = 8 + len(pixels), 14 + len(pixels)
    entries = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2))
    entries += ((273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(pixels)))
    entries += ((284, 3, 1, planar),)
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(b"II*\0" + struct.pack("<I", tags) + pixels + struct.pack("<3H", 16, 16, 16) + table + b"\0" * 4)


def save_compressed_tiff(path, values, order, photometric=1):
    """Grey values (Y, X) as TIFF by deflate, in an order of bytes, which Pillow chooses itself."""
    (height, width), kind = values.shape, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    pixels = zlib.compress(values.astype(values.dtype.newbyteorder(order)).tobytes())
    pixels += b"\0" * (len(pixels) % 2)
    entries = ((256, width), (257, height), (258, 8 * values.dtype.itemsize), (259, 8), (262, photometric))
    entries += ((273, 8), (277, 1), (278, height), (279, len(pixels)), (339, kind))
    table = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries)
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}I", 8 + len(pixels))
    path.write_bytes(head + pixels + struct.pack(f"{order}H", len(entries)) + table + b"\0" * 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u2", "i2", "i4", "f4"])
def test_compressed_tiff_comes_in_its_own_order_of_bytes(tmp_path, kind, order):
    values = np.random.default_rng(0).integers(0, 3000, (HEIGHT, WIDTH)).astype(kind)
    save_compressed_tiff(tmp_path / "a.tif", values, order)
    np.testing.assert_array_equal(decode(tmp_path / "a.tif").array[0].T, values)


def test_a_negative_of_sixteen_bits_is_shown_as_viewers_do(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH)).astype("u2")
    save_compressed_tiff(tmp_path / "a.tif", values, "<", photometric=0)
    np.testing.assert_array_equal(decode(tmp_path / "a.tif").array[0].T, 2**16 - 1 - values)


def test_deep_channels_that_are_stored_apart_are_refused(tmp_path):
    save_deep_tiff(tmp_path / "a.tif", np.full((HEIGHT, WIDTH, 3), 300), planar=2)
    with pytest.raises(InputError, match="a.tif holds 16 bits a channel with the channels apart"):
        decode(tmp_path / "a.tif")


def test_sixteen_bits_a_channel_are_read_whole(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH, 4))
    for channels, colour_type in ((3, 2), (4, 6), (2, 4)):
        save_deep_png(tmp_path / "a.png", values[..., :channels], colour_type)
        decoded = decode(tmp_path / "a.png")
        np.testing.assert_array_equal(decoded.array, values[..., :channels].transpose(2, 1, 0))
        assert decoded.alpha == (channels != 3) and not decoded.eight_bit
    save_deep_tiff(tmp_path / "a.tif", values[..., :3])
    np.testing.assert_array_equal(decode(tmp_path / "a.tif").array, values[..., :3].transpose(2, 1, 0))
    image = ImageReader(3).get_data(str(tmp_path / "a.tif"))[0]  # 12 of the 16 bits are used, and they fill the range
    assert image.min() == 0 and image.max() == 1


def test_tiff_pages_are_channels(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    pages = [Image.fromarray(values // (index + 1)) for index in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    image = ImageReader(4).get_data(str(tmp_path / "a.tif"))[0]
    np.testing.assert_allclose(image[3].T, values // 4 / 255, rtol=1e-6)
    with pytest.raises(InputError, match="4 channels"):
        ImageReader(3).get_data(str(tmp_path / "a.tif"))
