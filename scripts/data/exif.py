# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The rotation that a camera notes in a file: viewers apply it, and so do we, but some drawing programs do not."""

from __future__ import annotations

from PIL import ExifTags, Image

UPRIGHT = 1
ON_THEIR_SIDE = (5, 6, 7, 8)  # the orientations that exchange width and height


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened picture, 1 to 8; 1 is upright, as is one that says nothing."""
    value = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    return value if value in range(1, 9) else UPRIGHT


def size_mend(size: tuple[int, ...], orientation: int, mask_size: tuple[int, ...]) -> str:
    """How to mend a mask whose size (X, Y) is not that of its image, which was turned by ``orientation``."""
    if orientation in ON_THEIR_SIDE and tuple(mask_size) == tuple(size[::-1]):
        return (
            "the image carries an EXIF rotation, which the mask ignores; turn the mask, or remove the EXIF tag from "
            "the image"
        )
    return "replace one of them"


def rotation_note(count: int) -> str:
    """What to look at where ``count`` images were turned and their masks were not."""
    images = "1 image with a mask carries" if count == 1 else f"{count} images with a mask carry"
    return (
        f"{images} an EXIF rotation, which is applied: if the masks were drawn in a program that ignores it, they are "
        "turned; look at samples.png, which 'python -m bundle check' draws with --output."
    )
