# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Broken NIfTI files and DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from tests.broken.base import HEIGHT, WIDTH, case, image, mask
from tests.data.test_dicom import write_series


def to_nifti(root: Path) -> Path:
    """The set with its images as grey 2-D NIfTI files and masks alike."""
    for name in ("images", "masks"):
        for path in sorted((root / name).iterdir()):
            values = np.asarray(Image.open(path).convert("L")).T[..., None]
            values = (values > 0).astype(np.uint8) if name == "masks" else values.astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path.with_suffix(".nii.gz"))
            path.unlink()
    return root


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> str:
    """Rewrites the values of a NIfTI file and returns its name."""
    volume = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(volume.dataobj)), volume.affine), path)
    return path.name


@case()
def nan_voxels(root):
    def spoil(values):
        values[3, 4] = np.nan
        return values

    return rewrite(to_nifti(root) / "images/case3.nii.gz", spoil)


@case()
def infinite_voxels(root):
    def spoil(values):
        values[3, 4] = np.inf
        return values

    return rewrite(to_nifti(root) / "images/case3.nii.gz", spoil)


@case()
def float_mask_between_the_classes(root):
    return rewrite(to_nifti(root) / "masks/case3.nii.gz", lambda values: values.astype(np.float32) * 0.5)


@case()
def negative_label(root):
    return rewrite(to_nifti(root) / "masks/case3.nii.gz", lambda values: -values.astype(np.int16))


@case()
def truncated_nifti(root):
    path = to_nifti(root) / "images/case3.nii.gz"
    path.write_bytes(path.read_bytes()[:-400])
    return path.name


@case()
def nifti_that_is_not_compressed(root):
    path = to_nifti(root) / "images/case3.nii.gz"
    path.write_bytes(b"n+1\0" * 200)
    return path.name


@case()
def nifti_of_four_dimensions(root):
    to_nifti(root)
    path = root / "images/case3.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((WIDTH, HEIGHT, 6, 20), np.float32), np.eye(4)), path)
    return path.name


@case()
def nifti_mask_of_another_shape(root):
    return rewrite(to_nifti(root) / "masks/case3.nii.gz", lambda values: values[:-3]).replace("masks", "images")


@case()
def nifti_of_one_dimension(root):
    to_nifti(root)
    path = root / "images/case3.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((WIDTH,), np.float32), np.eye(4)), path)
    return path.name


@case(("prepare",))
def volume_whose_mask_has_another_affine(root):
    volumes(root)
    path = root / "masks/case3.nii.gz"
    loaded = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(loaded.dataobj), np.diag([2.0, 3.0, 1.0, 1.0])), path)
    return "case3.nii.gz"


@case(("prepare",))
def volume_with_nan(root):
    volumes(root)

    def spoil(values):
        values[2, 3, 1] = np.nan
        return values

    return rewrite(root / "images/case3.nii.gz", spoil)


def volumes(root: Path) -> Path:
    """The set with NIfTI volumes of five slices for images and masks."""
    to_nifti(root)
    for name in ("images", "masks"):
        for path in (root / name).iterdir():
            rewrite(path, lambda values: np.repeat(values, 5, axis=2))
    return root


def series(root: Path, change: Callable[[list[Path]], None]) -> Path:
    """The set with a DICOM series of six slices in a folder instead of case 3, changed; its mask is a volume."""
    image(root).unlink()
    mask(root).unlink()
    folder = root / "images/case3"
    write_series(folder, count=6)
    change(sorted(folder.iterdir()))
    return folder


@case(("prepare",))
def dicom_cut_off(root):
    series(root, lambda files: files[2].write_bytes(files[2].read_bytes()[:700]))
    return "case3"


@case(("prepare",))
def dicom_series_with_a_missing_slice(root):
    series(root, lambda files: files[2].unlink())
    return "case3"


@case(("prepare",))
def two_dicom_series_in_a_folder(root):
    write_series(series(root, lambda files: None), count=6, uid="9.9.9", names="b{}.dcm")
    return "case3"
