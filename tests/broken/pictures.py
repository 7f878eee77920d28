# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Broken pictures and masks, and folders that hold the wrong ones."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
from PIL import Image

from tests.broken.base import COUNT, HEIGHT, WIDTH, case, image, mask


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing: what a decompression bomb looks like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@case()
def truncated_image(root):
    path = image(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


@case()
def truncated_mask(root):
    path = mask(root)
    path.write_bytes(path.read_bytes()[:60])
    return path.name


@case()
def zero_byte_image(root):
    image(root).write_bytes(b"")
    return image(root).name


@case()
def zero_byte_mask(root):
    mask(root).write_bytes(b"")
    return mask(root).name


@case()
def text_named_png(root):
    image(root).write_text("This is not a picture.")
    return image(root).name


@case()
def web_page_named_jpg(root):
    image(root).rename(image(root).with_suffix(".jpg"))
    image(root).with_suffix(".jpg").write_text("<!DOCTYPE html><html>404</html>")
    return "case3.jpg"


@case()
def damaged_in_the_middle(root):
    path = image(root)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(bytes(data))
    return path.name


@case()
def one_pixel(root):
    for path in (image(root), mask(root)):
        Image.open(path).crop((0, 0, 1, 1)).save(path)
    return image(root).name


@case()
def bomb_of_30000_pixels(root):
    image(root).write_bytes(png_header(30_000, 30_000))
    return image(root).name


@case()
def mask_bomb(root):
    mask(root).write_bytes(png_header(60_000, 60_000))
    return mask(root).name


@case()
def mask_of_another_size(root):
    Image.open(mask(root)).resize((WIDTH - 1, HEIGHT), 0).save(mask(root))
    return image(root).name


@case()
def mask_turned_by_90_degrees(root):
    Image.open(mask(root)).transpose(Image.Transpose.ROTATE_90).save(mask(root))
    return image(root).name


@case()
def label_7_of_2(root):
    values = np.asarray(Image.open(mask(root))) // 255
    values[0, 0] = 7
    Image.fromarray(values).save(mask(root))
    return mask(root).name


@case()
def mask_in_colour(root):
    Image.open(mask(root)).convert("RGB").point(lambda v: v).save(mask(root))
    picture = np.asarray(Image.open(mask(root))).copy()
    picture[..., 1:] = 0
    Image.fromarray(picture).save(mask(root))
    return mask(root).name


@case()
def mask_as_jpeg(root):
    rng = np.random.default_rng(0)
    path = mask(root).with_suffix(".jpg")
    values = np.asarray(Image.open(mask(root))).astype(int) + rng.integers(-30, 30, (HEIGHT, WIDTH))
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path, quality=60)
    mask(root).unlink()
    return path.name


@case()
def sixteen_bit_mask(root):
    values = np.asarray(Image.open(mask(root))).astype(np.uint16) * 257
    Image.fromarray(values).save(mask(root))
    return mask(root).name


@case()
def tiff_of_five_channels(root):
    pages = [Image.fromarray(np.full((HEIGHT, WIDTH), n * 20, np.uint8)) for n in range(5)]
    image(root).unlink()
    pages[0].save(image(root).with_suffix(".tif"), save_all=True, append_images=pages[1:])
    return "case3.tif"


@case()
def tiff_pages_of_different_sizes(root):
    pages = [Image.new("L", (WIDTH, HEIGHT)), Image.new("L", (WIDTH, HEIGHT - 2)), Image.new("L", (WIDTH, HEIGHT))]
    image(root).unlink()
    pages[0].save(image(root).with_suffix(".tif"), save_all=True, append_images=pages[1:])
    return "case3.tif"


# ---- names and folders


@case()
def two_images_of_one_stem(root):
    Image.open(image(root)).save(image(root).with_suffix(".bmp"))
    return "case3.bmp"


@case()
def two_masks_of_one_stem(root):
    Image.open(mask(root)).save(mask(root).with_suffix(".bmp"))
    return "case3.bmp"


@case()
def mask_without_image(root):
    image(root).unlink()
    return mask(root).name


@case()
def folder_named_like_an_image(root):
    image(root).unlink()
    image(root).mkdir()
    return image(root).name


@case()
def pipe_named_like_an_image(root):
    image(root).unlink()
    os.mkfifo(image(root))
    return image(root).name


@case()
def link_to_nowhere(root):
    image(root).unlink()
    image(root).symlink_to(root / "gone.png")
    return image(root).name


@case()
def link_to_itself(root):
    image(root).unlink()
    image(root).symlink_to(image(root))
    return image(root).name


@case()
def no_mask_at_all(root):
    for path in (root / "masks").iterdir():
        path.unlink()
    return "mask"


@case()
def no_image_at_all(root):
    for path in (root / "images").iterdir():
        path.unlink()
    return "image"


@case()
def three_masks_only(root):
    for number in range(3, COUNT):
        mask(root, number).unlink()
    return "mask"


@case()
def nothing_in_the_folder(root):
    for folder in ("images", "masks"):
        for path in (root / folder).iterdir():
            path.unlink()
        (root / folder).rmdir()
    return root.name


@case()
def no_such_folder(root):
    root.rename(root.with_name("moved"))
    return root.name
