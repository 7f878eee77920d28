# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Folders as people hand them over, written as real files: pictures, volumes, DICOM."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

Pair = tuple[np.ndarray, np.ndarray]  # image (Y, X) or (Y, X, 3) uint8 and mask (Y, X) uint8 of class indices

#: an oblique affine whose third axis runs across the slices and is coarse, with the left-right axis flipped
OBLIQUE = np.array([[-1.4, 0.1, 0.3, 40.0], [0.1, 1.4, -0.5, -60.0], [-0.05, 0.08, 8.0, 12.0], [0, 0, 0, 1]])


def pairs(count: int, size: int = 32, colour: bool = True, classes: int = 2, seed: int = 0) -> list[Pair]:
    """Noise with a bright disc of each class; no two are equal."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    made = []
    for _ in range(count):
        image, mask = rng.integers(0, 90, (size, size, 3)), np.zeros((size, size), np.uint8)
        for index in range(1, classes):
            centre, radius = rng.uniform(0.3, 0.7, 2) * size, size * rng.uniform(0.1, 0.2)
            inside = np.hypot(y - centre[0], x - centre[1]) < radius
            image[inside, index % 3] += 120
            mask[inside] = index
        image = image.astype(np.uint8)
        made.append((image if colour else image.max(-1), mask))
    return made


def save(path: Path, array: np.ndarray) -> str:
    """Writes a picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return str(path)


def save_volume(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> str:
    """Writes an array (X, Y, Z) or (X, Y, Z, C) as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1, 5, 1]) if affine is None else affine), path)
    return str(path)


def volumes(count: int, shape: Sequence[int] = (20, 24, 5), seed: int = 0) -> list[Pair]:
    """Volumes (X, Y, Z) int16 with a bright ball, and their masks uint8."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    made = []
    for _ in range(count):
        mask = np.linalg.norm(grid - rng.uniform(-0.3, 0.3, (3, 1, 1, 1)), axis=0) < 0.5
        made.append(((rng.integers(0, 200, shape) + 800 * mask).astype(np.int16), mask.astype(np.uint8)))
    return made


def save_series(folder: Path, array: np.ndarray, spacing: tuple[float, float, float] = (0.7, 0.7, 5.0)) -> list[Path]:
    """Writes an array (X, Y, Z) int16 as one DICOM series, axial from the feet up; the file names run the other way."""
    import pydicom
    from pydicom.uid import generate_uid

    checked = {"enforce_file_format": True} if pydicom.__version__ >= "3" else {"write_like_original": False}
    folder.mkdir(parents=True, exist_ok=True)
    series, count = generate_uid(), array.shape[-1]
    paths = []
    for index in range(count):
        path = folder / f"IM{count - index:04d}.dcm"
        frame = _dicom(array[..., index].T.astype(np.int16), series, index, spacing)
        frame.save_as(path, **checked)
        paths.append(path)
    return paths


def _dicom(pixels: np.ndarray, series: str, index: int, spacing: tuple[float, float, float]):
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if pydicom.__version__ < "3":
        data.is_little_endian, data.is_implicit_VR = True, False
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.InstanceNumber = series, index + 1
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelSpacing, data.SliceThickness = list(spacing[:2]), spacing[2]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-10.0, -20.0, spacing[2] * index]
    data.PixelData = pixels.tobytes()
    return data


def mixed_folder(root: Path, made: Sequence[Pair], mask_name: Callable[[str], str] = "{}_mask".format) -> Path:
    """Images and 0/255 masks in one folder."""
    for index, (image, mask) in enumerate(made):
        save(root / f"case{index:02d}.png", image)
        save(root / f"{mask_name(f'case{index:02d}')}.png", mask * 255)
    return root


def content_of(root: Path) -> dict[str, bytes]:
    """All files below a folder, to see that nothing of it was changed."""
    return {
        os.path.join(folder, name): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(root)
        for name in names
    }


def image_of(data, key):
    """Path of an image by its key."""
    return next((data / "images").glob(f"{key}.*"))


def mask_of(data, key):
    """Path of a mask by its image's key."""
    return next((data / "masks").glob(f"{key}.*"))
