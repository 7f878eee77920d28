# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Volumes as stacks of slices: reading, turning into a plane, and back into the grid of the source.

A volume is cut across one anatomical axis. Its voxels are only permuted and flipped, never resampled, so that the slice
axis comes last and a slice with X to the right and Y downwards is the radiological view of its plane. The axis codes
are those of nibabel: the anatomical direction in which an axis runs, in the RAS+ millimetres of NIfTI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel import orientations
from nibabel.affines import voxel_sizes
from PIL import Image

from scripts.data import dicom
from scripts.data.files import is_dicom, is_nifti, reading
from scripts.errors import InputError

PLANES = {"axial": ("L", "P", "S"), "coronal": ("L", "I", "P"), "sagittal": ("P", "I", "L")}
ACROSS = ("sagittal", "coronal", "axial")  # the plane across the anatomical axes left-right, front-back, up-down
ANISOTROPIC = 1.5
PERCENTILES = (0.5, 99.5)
MOST_VOXELS = 2**30
TOLERANCE = 1e-3
FULL = 65535  # of the 16 bits in which slices are stored

Source = str | Path


@dataclass
class Volume:
    """A volume, oriented for its plane.

    Attributes:
        array: (C, X, Y, Z), values as stored; Z runs across the slices.
        affine: (4, 4), from the voxels of ``array`` to RAS+ millimetres.
        spacing: millimetres along X, Y and Z.
        source_shape: the three axes as stored.
        source_affine: (4, 4), of the stored voxels.
        plane: axial, coronal or sagittal.
    """

    array: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    source_shape: tuple[int, int, int]
    source_affine: np.ndarray
    plane: str


def is_volume(path: Source) -> bool:
    """Whether a path is a volume: NIfTI or DICOM file with more than one slice, or a folder with DICOM files.

    Reads headers only.

    Raises:
        InputError: the header is damaged.
    """
    if Path(path).is_dir():
        return dicom.is_series(path)
    if is_dicom(path):
        return dicom.frame_count(path) > 1
    if not is_nifti(path):
        return False
    with reading(path):
        return any(size > 1 for size in nibabel.load(path).shape[2:3])


def read_volume(path: Source | Sequence[Source], plane: str = "auto") -> Volume:
    """Reads a volume and turns it into a plane.

    Args:
        path: NIfTI file (a fourth axis holds channels), DICOM file with several frames, or folder with one DICOM
            series; or a sequence of them, of which each gives its channels.
        plane: ``axial``, ``coronal``, ``sagittal``, or ``auto``: the plane across the axis with the coarsest spacing
            if it is at least 1.5 times the finest one, else axial.

    Raises:
        InputError: a file is missing, damaged, too large, empty, or holds NaN; the files of a sequence differ in grid;
            there is no such plane.
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    sources = [_read_source(one) for one in paths]
    array, affine = sources[0]
    for other, (values, its_affine) in zip(paths[1:], sources[1:]):
        check_same_grid(paths[0], array.shape[1:], affine, other, values.shape[1:], its_affine)
    array = array if len(sources) == 1 else np.concatenate([values for values, _ in sources])
    shape = array.shape[1:]
    plane = choose_plane(shape, affine, plane, paths[0])
    turn = orientations.ornt_transform(_axes(affine, paths[0]), orientations.axcodes2ornt(PLANES[plane]))
    turned = affine @ orientations.inv_ornt_aff(turn, shape)
    spacing = tuple(float(size) for size in voxel_sizes(turned))
    return Volume(_turn(array, turn), turned, spacing, tuple(map(int, shape)), affine, plane)


def check_plane(plane: str, name: str = "plane") -> None:
    """Refuses a name that is neither a plane's nor ``auto``; ``name`` is the option that gives it.

    Raises:
        InputError: there is no such plane.
    """
    if plane not in ("auto", *PLANES):
        raise InputError(f"{name} is '{plane}': give one of auto, {', '.join(PLANES)}.")


def choose_plane(shape: Sequence[int], affine: np.ndarray, plane: str, path: Source) -> str:
    """The name of the plane; ``auto`` decides on the spacing, and on a volume of one slice takes that slice.

    Raises:
        InputError: there is no such plane, or the affine has none.
    """
    check_plane(plane)
    if plane != "auto":
        return plane
    anatomical = _axes(affine, path)[:, 0].astype(int)
    single = [axis for axis, size in enumerate(shape) if size == 1]
    spacing = voxel_sizes(affine)
    if len(single) == 1:
        return ACROSS[anatomical[single[0]]]
    coarse = spacing.max() >= ANISOTROPIC * spacing.min()
    return ACROSS[anatomical[int(spacing.argmax())]] if coarse else "axial"


def check_same_grid(
    path: Source,
    shape: Sequence[int],
    affine: np.ndarray,
    other: Source,
    other_shape: Sequence[int],
    other_affine: np.ndarray,
) -> None:
    """Refuses two volumes whose voxels do not lie on each other.

    Raises:
        InputError: the shapes (three axes, as stored) differ, or the affines by more than 1e-3 of their largest entry.
    """
    if tuple(shape) != tuple(other_shape):
        first, second = (" x ".join(map(str, sizes)) for sizes in (shape, other_shape))
        raise InputError(f"{path} has {first} voxels, but {other} has {second}: replace one of them.")
    if not np.allclose(affine, other_affine, rtol=0, atol=TOLERANCE * np.abs(affine).max()):
        raise InputError(
            f"{path} and {other} lie differently in space (their affines differ): resample one to the other."
        )


def turn_back(array: np.ndarray, source_affine: np.ndarray, plane: str) -> np.ndarray:
    """An array (X, Y, Z) of a plane turned into the axes that have ``source_affine`` (4, 4)."""
    axes = orientations.io_orientation(source_affine)
    back = orientations.ornt_transform(orientations.axcodes2ornt(PLANES[plane]), axes)
    return orientations.apply_orientation(array, back)


def turn_forward(array: np.ndarray, source_affine: np.ndarray, plane: str) -> np.ndarray:
    """An array with three axes as stored turned into (X, Y, Z) of a plane."""
    axes = orientations.io_orientation(source_affine)
    turn = orientations.ornt_transform(axes, orientations.axcodes2ornt(PLANES[plane]))
    return orientations.apply_orientation(array, turn)


def has_colours(array: np.ndarray) -> bool:
    """Whether the channels of a volume (C, X, Y, Z) are red, green and blue: three of eight bits."""
    return len(array) == 3 and array.dtype == np.uint8


def scale_volume(array: np.ndarray) -> np.ndarray:
    """(C, X, Y, Z) as float32 in [0, 1]: the 0.5th and 99.5th percentile of each channel become 0 and 1, clipped.

    Three channels of eight bits are colours, as of a film stored as DICOM: they are divided by 255, as those of
    pictures are, for stretched one by one they would be other colours.
    """
    if has_colours(array):
        return array / np.float32(255)
    return scale_by_percentiles(array, (1, 2, 3))


def scale_by_percentiles(array: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """float32 in [0, 1]: the 0.5th and 99.5th percentile over ``axes`` become 0 and 1; what is constant becomes 0."""
    array = array.astype(np.float32)
    low, high = np.percentile(array, PERCENTILES, axis=axes, keepdims=True).astype(np.float32)
    span = np.where(high > low, high - low, np.float32(1))
    array -= low
    array /= span
    return np.clip(array, 0, 1, out=array)


def slice_affine(volume: Volume, index: int) -> np.ndarray:
    """The affine (4, 4) of slice ``index`` as a NIfTI file of shape (X, Y, 1)."""
    affine = volume.affine.copy()
    affine[:3, 3] += index * affine[:3, 2]
    return affine


def save_slice(path: Source, array: np.ndarray, volume: Volume, index: int, scaled: bool = False) -> None:
    """Writes slice ``index`` of a volume as NIfTI, (X, Y, 1) or (X, Y, 1, C), with its place in space.

    Args:
        path: the file.
        array: (C, X, Y); integers as they are to be stored, or with ``scaled`` floats in [0, 1].
        volume: where the slice lies.
        index: which one it is.
        scaled: store 16 bits, and in the header that 0 is black and 1 white.
    """
    if scaled:
        array = (array * FULL + 0.5).astype(np.uint16)
    image = nibabel.Nifti1Image(channels_last(array), slice_affine(volume, index))
    image.header.set_xyzt_units("mm")
    if scaled:
        image.header.set_slope_inter(1 / FULL, 0)
        image.header["cal_min"], image.header["cal_max"] = 0, 1
    image.to_filename(path)


def channels_last(array: np.ndarray) -> np.ndarray:
    """(C, X, Y) as the axes of a NIfTI file: X, Y, one slice, and channels if there are several."""
    return array[0][..., None] if len(array) == 1 else np.moveaxis(array, 0, -1)[:, :, None]


def _read_source(path: Source) -> tuple[np.ndarray, np.ndarray]:
    """The array (C, three axes as stored) and its affine."""
    if Path(path).is_dir():
        array, affine = dicom.read_series(path)
    elif is_dicom(path):
        array, affine = dicom.read_frames(path)
    else:
        with reading(path):
            array, affine = _read_nifti(path)
    if array.dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers: save their magnitude.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path} holds NaN or infinite values: replace them or remove the volume.")
    return array, affine


def _read_nifti(path: Source) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.load(path)
    shape = (*image.shape, 1, 1)[: max(3, len(image.shape))]
    if len(image.shape) < 2 or sum(size != 1 for size in shape[3:]) > 1:
        raise InputError(f"{path} has the shape {image.shape}: give volumes of three axes, or four with the channels.")
    check_voxels(path, shape)
    values = np.asanyarray(image.dataobj)
    if values.dtype.names:  # the NIfTI types RGB24 and RGBA32: their colours are channels, transparency is none
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    array = np.moveaxis(values.reshape(*shape[:3], -1), -1, 0)
    return array, np.asarray(image.affine, dtype=np.float64)


def check_voxels(path: Source, shape: Sequence[int]) -> None:
    """Refuses what is empty, and what no honest scanner makes, before memory is taken for it.

    Raises:
        InputError: naming the shape.
    """
    sizes, count = " x ".join(map(str, shape)), int(np.prod([int(size) for size in shape], dtype=object))
    if count < 1:
        raise InputError(f"{path} has {sizes} voxels, so it is empty: replace or remove it.")
    limit = Image.MAX_IMAGE_PIXELS or MOST_VOXELS
    largest = max(int(a) * int(b) for a, b in zip(shape[:3], (*shape[1:3], shape[0])))
    if count > MOST_VOXELS or largest > limit:
        raise InputError(
            f"{path} has {sizes} voxels, more than {MOST_VOXELS} or more than {limit} in a slice: reduce or crop it."
        )


def _axes(affine: np.ndarray, path: Source) -> np.ndarray:
    """nibabel's orientation (3, 2) of an affine: the anatomical axis and the direction of each array axis."""
    valid = np.isfinite(affine).all() and (voxel_sizes(affine) > 0).all()
    axes = orientations.io_orientation(affine) if valid else np.full((3, 2), np.nan)
    if np.isnan(axes).any():
        raise InputError(f"{path} does not say how its axes lie in space (its affine is singular): correct its header.")
    return axes


def _turn(array: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """nibabel turns the leading axes, so the channels go last meanwhile."""
    return np.moveaxis(orientations.apply_orientation(np.moveaxis(array, 0, -1), turn), -1, 0)
