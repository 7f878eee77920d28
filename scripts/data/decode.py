# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""From a file to its pixel values, whatever the format; no interpretation of the values yet."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image, ImageOps, ImageSequence

from scripts.data import dicom
from scripts.data.exif import UPRIGHT, orientation_of
from scripts.data.files import is_dicom, is_nifti, reading
from scripts.errors import InputError

# Modes that Pillow hands out as plain arrays of grey values, colours, or colours and a last channel to be dropped.
GREY_MODES = ("L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
ALPHA_MODES = ("LA", "RGBA", "RGBX")
LEAST_PIXELS = 4  # on each side: less is a tracking pixel or a failed export
LOSSY_FORMATS = ("JPEG", "MPO")
# the end of Pillow's name for how PNG and TIFF files store 16 bits a channel, with that of the other order of the bytes
OTHER_ORDER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
# compressed TIFF files with the bytes in Motorola's order, which libtiff hands out in the order of the machine
NATIVE_ORDER = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
PHOTOMETRIC, PLANAR, BITS = 262, 284, 258  # tags of TIFF
WHITE_IS_ZERO, APART = 0, 2  # values of the first two


@dataclass
class Decoded:
    """The values of an image file.

    Attributes:
        array: (C, X, Y), as stored; X runs to the right and Y downwards in a picture.
        affine: (4, 4), from voxels to millimetres; the identity for pictures.
        alpha: whether the last channel is transparency or padding.
        lossy: whether the compression has changed the values.
        eight_bit: whether values are 0 to 255 by the nature of the format.
        window: the values of black and white, where a NIfTI header says them.
        orientation: by EXIF, 1 to 8, which has been applied.
        palette: (256, 3), the colours of the indices that ``array`` holds; None where it holds none.
    """

    array: np.ndarray
    affine: np.ndarray
    alpha: bool = False
    lossy: bool = False
    eight_bit: bool = False
    window: tuple[float, float] | None = None
    orientation: int = UPRIGHT
    palette: np.ndarray | None = None


def decode(path: str | Path, indices: bool = False) -> Decoded:
    """Reads a picture (PNG, JPEG, TIFF, BMP), a DICOM file of one frame or a 2-D NIfTI file.

    The EXIF orientation is applied, so that the array is what a viewer shows. The pages of a TIFF file are channels.

    Args:
        path: the file.
        indices: the file is a mask: hand out the indices of a palette image, not its colours (but see
            :func:`_palette_mask`); and the transparency where that alone holds the shape, the colour being one
            everywhere.

    Raises:
        InputError: the file is missing, damaged, too large, a volume, of a kind that is not read, or an image of less
            than 4 pixels on a side.
    """
    with reading(path):
        if is_dicom(path):
            decoded = _decode_dicom(path)
        else:
            decoded = _decode_nifti(path) if is_nifti(path) else _decode_picture(path, indices)
    width, height = decoded.array.shape[1:]
    if min(width, height) < LEAST_PIXELS and not indices:
        raise InputError(f"{path} has {width} x {height} pixels, too few to segment: replace or remove it.")
    return decoded


def _decode_dicom(path: str | Path) -> Decoded:
    frame = dicom.read_frame(path)
    return Decoded(frame.array, frame.affine, lossy=frame.lossy, eight_bit=frame.eight_bit)


def _decode_picture(path: str | Path, indices: bool) -> Decoded:
    with Image.open(path) as image:
        _check_size(path, image.size)
        stored = _storage(image)  # before the orientation, for which a PNG file is loaded
        lossy, orientation = image.format in LOSSY_FORMATS, orientation_of(image)
        is_tiff = image.format == "TIFF"
        pages = ImageSequence.Iterator(image) if is_tiff else [image]
        modes, arrays, palette = [], [], None
        for number, page in enumerate(pages):  # the same object, moved on: its values are taken before the next one
            if is_tiff:
                _mend_tiff(page, path)
            stored = _storage(page) or stored
            if stored[-4:] in OTHER_ORDER and page.mode not in GREY_MODES:
                modes.append("LA" if stored.startswith("LA") else page.mode)
                arrays.append(_sixteen_bits(path, number, stored))
                continue
            plain = _plain_mode(_upright(page), indices)
            modes.append(plain.mode)
            palette = _palette_of(plain) if plain.mode == "P" else palette
            values = _channels_first(np.asarray(plain))
            negative = is_tiff and plain.mode == "I;16" and page.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
            arrays.append(np.uint16(2**16 - 1) - values if negative else values)  # of 8 bits Pillow does it
    if len({array.shape[1:] for array in arrays}) > 1:
        raise InputError(f"The pages of {path} differ in size, so they cannot be channels: keep one page.")
    array = np.concatenate(arrays)
    array = array.astype(np.uint8) if array.dtype == bool else array
    alpha = len(arrays) == 1 and modes[0] in ALPHA_MODES
    if indices and alpha and _is_constant(array[:-1]) and not _is_constant(array[-1:]):
        array, alpha = array[-1:], False
    eight_bit = array.dtype == np.uint8
    return Decoded(array, np.eye(4), alpha, lossy, eight_bit, orientation=orientation, palette=palette)


def _mend_tiff(page: Image.Image, path: str | Path) -> None:
    """Tells Pillow the order of bytes in which a compressed page really comes, and refuses what it reads as noise.

    Raises:
        InputError: channels of more than 8 bits each, stored apart.
    """
    bits = page.tag_v2.get(BITS, (1,))
    if page.tag_v2.get(PLANAR) == APART and len(bits) > 1 and max(bits) > 8:
        raise InputError(
            f"{path} holds {max(bits)} bits a channel with the channels apart (planar), which are not read: save it "
            "with the channels of a pixel together, or as PNG."
        )
    if (stored := NATIVE_ORDER.get(_storage(page))) and page.tile[0].codec_name == "libtiff":
        page.tile = [tile._replace(args=(stored, *tile.args[1:])) for tile in page.tile]


def _storage(image: Image.Image) -> str:
    """Pillow's name ("raw mode") for how the file of an image stores its pixels; "" once they are loaded."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _sixteen_bits(path: str | Path, number: int, stored: str) -> np.ndarray:
    """The page ``number`` with 16 bits a channel, (C, X, Y) uint16, of which Pillow hands out the high bytes alone.

    Told that the bytes are in the other order it hands out the low ones. Grey with transparency, for which it knows
    only one order, has four bytes a pixel, which are read as four channels.

    Raises:
        InputError: the channels are neither colours, with or without transparency, nor grey with transparency.
    """
    channels, order = stored[:-4], stored[-4:]
    if channels == "LA":
        both = _read_as("RGBA", path, number)
        high, low = both[::2], both[1::2]
    elif channels in ("RGB", "RGBA", "RGBX"):
        high, low = (_read_as(channels + end, path, number) for end in (order, OTHER_ORDER[order]))
    else:
        raise InputError(f"{path} holds 16 bits a channel ({channels}), which are not read: save it as grey or RGB.")
    return high.astype(np.uint16) << 8 | low


def _read_as(storage: str, path: str | Path, number: int) -> np.ndarray:
    """A page of a file as if its pixels were stored in another way, (C, X, Y) uint8."""
    with Image.open(path) as image:
        image.seek(number)
        tiles = [(tile, (storage, *tile.args[1:]) if isinstance(tile.args, tuple) else storage) for tile in image.tile]
        image.tile = [tile._replace(args=arguments) for tile, arguments in tiles]
        return _channels_first(np.asarray(_upright(image)))


def _is_constant(array: np.ndarray) -> bool:
    """Whether each channel of (C, X, Y) has one value."""
    return bool((array == array[:, :1, :1]).all())


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as EXIF says; one that says nothing is not copied."""
    return image if orientation_of(image) == UPRIGHT else ImageOps.exif_transpose(image)


def _check_size(path: str | Path, size: tuple[int, ...]) -> None:
    """Pillow only warns between its limit and twice its limit; here the limit is one."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and size[0] * size[1] > limit:
        raise InputError(f"{path} has {size[0]} x {size[1]} pixels, more than {limit}: reduce or crop it.")


def _plain_mode(image: Image.Image, indices: bool) -> Image.Image:
    """The picture in a mode whose array is what it says: no palette (unless wanted), no CMYK, no premultiplication."""
    if image.mode in GREY_MODES or image.mode in ALPHA_MODES or image.mode == "RGB":
        return image
    if image.mode in ("P", "1") and indices:
        return _palette_mask(image) if image.mode == "P" else image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "La":
        return image.convert("LA")
    transparent = image.mode in ("PA", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def _palette_of(image: Image.Image) -> np.ndarray:
    """The colours of a palette image, (256, 3) uint8; black beyond those that are stored."""
    stored = np.frombuffer(bytes(image.getpalette()), dtype=np.uint8).reshape(-1, 3)[:256]
    return np.concatenate([stored, np.zeros((256 - len(stored), 3), np.uint8)])


def _palette_mask(image: Image.Image) -> Image.Image:
    """A palette mask in the mode whose values tell its classes.

    They are the indices where black, the background, comes first, as in the masks of Pascal VOC and labelme. Programs
    that merely store few colours so (Pillow's ``quantize``) order them as they like, from file to file: where the
    palette is grey its grey values count, and where black is used but does not come first, its colours. Two indices
    in use that look alike can only be told apart as indices.
    """
    palette = _palette_of(image)
    grey = bool((palette == palette[:, :1]).all())
    if not grey and not palette[0].any():
        return image
    used = palette[[index for _, index in image.getcolors()]]
    if len(np.unique(used, axis=0)) < len(used):
        return image
    if grey:
        return image.convert("L")
    return image if used.any(axis=1).all() else image.convert("RGB")


def _channels_first(array: np.ndarray) -> np.ndarray:
    """Pillow's (Y, X) or (Y, X, C) as (C, X, Y)."""
    return array.T[None] if array.ndim == 2 else array.transpose(2, 1, 0)


def _decode_nifti(path: str | Path) -> Decoded:
    image = nibabel.load(path)
    shape = image.shape
    channels = [size for size in shape[2:] if size != 1]
    if len(shape) < 2 or len(channels) > 1:
        raise InputError(
            f"{path} has the shape {shape}, not that of one 2-D image: cut it with 'python -m bundle prepare'."
        )
    if 0 in shape:
        raise InputError(f"{path} has the shape {shape}, so it is empty: replace or remove it.")
    _check_size(path, shape)
    values = np.asanyarray(image.dataobj)
    if values.dtype.names:  # the NIfTI types RGB24 and RGBA32: their colours are channels, transparency is none
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1).reshape(*shape[:2], -1)
    array = np.moveaxis(values.reshape(*shape[:2], -1), -1, 0)
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    window = (low, high) if np.isfinite(high - low) and high > low else None
    return Decoded(array, np.asarray(image.affine, dtype=np.float64), window=window)
