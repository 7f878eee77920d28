# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The pixels of an entry: its image, and its mask or scribble in the same grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel import orientations

from scripts.data.decode import Decoded, decode
from scripts.data.exif import UPRIGHT, size_mend
from scripts.data.prepare.values import NO_LABEL, codes_of
from scripts.data.sources.base import Entry, Label
from scripts.data.sources.series import slice_index
from scripts.data.volumes import PLANES, Volume, check_same_grid, is_volume, read_volume
from scripts.errors import InputError


@dataclass
class Picture:
    """An image as stored.

    Attributes:
        array: (C, X, Y), or (C, X, Y, Z) turned into its plane; transparency is dropped.
        affine: (4, 4).
        volume: for volumes.
        orientation: by EXIF, which has been applied.
    """

    array: np.ndarray
    affine: np.ndarray
    volume: Volume | None = None
    orientation: int = UPRIGHT


class Codes(NamedTuple):
    """The values of a mask: ``array`` (X, Y) or (X, Y, Z), ``lossy``: compression changed them, ``orientation``: by
    EXIF, which has been applied, ``palette`` (256, 3): the colours of its values, where they are indices of one."""

    array: np.ndarray
    lossy: bool = False
    orientation: int = UPRIGHT
    palette: np.ndarray | None = None


def read_picture(entry: Entry, plane: str) -> Picture:
    """The image of an entry; several files are its channels.

    Raises:
        InputError: a file is not readable, or the channels differ in size.
    """
    if is_volume(entry.image[0]):
        volume = read_volume(entry.image, plane)
        return Picture(volume.array, volume.affine, volume)
    parts = [decode(path) for path in entry.image]
    arrays = [_opaque(part) for part in parts]
    for path, array in zip(entry.image, arrays):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path} holds NaN or infinite values: replace them or remove the image.")
        _check_size(path, array.shape[1:], entry.image[0], arrays[0].shape[1:])
    array = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    return Picture(array, parts[0].affine, orientation=parts[0].orientation)


def _opaque(decoded: Decoded) -> np.ndarray:
    return decoded.array[:-1] if decoded.alpha else decoded.array


def _check_size(
    path: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...], orientation: int = UPRIGHT
) -> None:
    """Refuses a size that is not that of the ``other`` file, which was turned by ``orientation``."""
    if shape != expected:
        sizes = [" x ".join(map(str, size)) for size in (shape, expected)]
        mend = size_mend(expected, orientation, shape)
        raise InputError(f"{path} has {sizes[0]} pixels, but {other} has {sizes[1]}: {mend}.")


def read_codes(label: Label, entry: Entry, picture: Picture) -> Codes:
    """The values of a mask in the grid of its image.

    Raises:
        InputError: a file is not readable, has another size, or holds what no mask holds.
    """
    if callable(label):
        codes = Codes(label())
    elif isinstance(label, dict):
        codes = Codes(_stack(label, entry, picture))
    elif picture.volume is not None:
        codes = Codes(_volume_codes(label, entry, picture.volume))
    else:
        codes = _flat_codes(label)
    shapes = codes.array.shape, entry.name, picture.array.shape[1:]
    _check_size(label_name(label, entry), *shapes, picture.orientation)
    return codes


def label_name(label: Label | None, entry: Entry) -> str:
    """The file that stands for a mask in messages."""
    if isinstance(label, str):
        return label
    return next(iter(label.values())) if isinstance(label, dict) else f"the annotation of {entry.name}"


def _flat_codes(path: str) -> Codes:
    decoded = decode(path, indices=True)
    return Codes(_codes(_opaque(decoded), path), decoded.lossy, decoded.orientation, decoded.palette)


def _codes(array: np.ndarray, path: str) -> np.ndarray:
    try:
        return codes_of(array)
    except ValueError as error:
        raise InputError(f"The mask {path} cannot be used ({error}): correct it.") from None


def _volume_codes(path: str, entry: Entry, volume: Volume) -> np.ndarray:
    mask = read_volume(path, volume.plane)
    grids = (volume.source_shape, volume.source_affine), (mask.source_shape, mask.source_affine)
    check_same_grid(entry.name, *grids[0], path, *grids[1])
    return _codes(mask.array, path)


def _stack(paths: dict[str, str], entry: Entry, picture: Picture) -> np.ndarray:
    """The masks of single files of a series as a volume; slices without one have no label."""
    if picture.volume is None:
        raise InputError(f"{entry.name} is no volume, but its mask comes in {len(paths)} files: keep one.")
    volume = picture.volume
    stack = np.full(volume.source_shape, NO_LABEL, dtype=np.int64)
    files = {path.stem: path for path in Path(entry.name).iterdir()}
    for stem, path in paths.items():
        codes = _flat_codes(path).array
        _check_size(path, codes.shape, str(files[stem]), stack.shape[:2])
        stack[..., slice_index(files[stem], volume.source_affine)] = codes
    own = orientations.io_orientation(volume.source_affine)
    turn = orientations.ornt_transform(own, orientations.axcodes2ornt(PLANES[volume.plane]))
    return orientations.apply_orientation(stack, turn)


def spacing_of(picture: Picture, entry: Entry) -> str:
    """Millimetres along X and Y, and between the slices of a volume; empty where nobody says so.

    A lone slice knows the first two alone, so three that the source states come before its own.
    """
    stated = entry.facts.get("spacing", "")
    if picture.volume is not None:
        sizes = picture.volume.spacing
    elif len(stated.split()) == 3 or np.allclose(picture.affine, np.eye(4)):
        return stated
    else:
        sizes = nibabel.affines.voxel_sizes(picture.affine)[:2]
    return " ".join(f"{size:.6g}" for size in sizes)
