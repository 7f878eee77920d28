# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Items that an application hands over, made fit for training: volumes cut into slices, changed files told apart."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from scripts.data.files import Item, is_nifti, stem
from scripts.data.volumes import Volume, check_same_grid, is_volume, read_volume, save_slice, scale_volume

PARTS = ("image", "label")


def fit_for_training(items: Sequence[Item], folder: str | Path) -> list[Item]:
    """The items with every volume replaced by its slices, written below ``folder``.

    A volume and its label are cut in the plane that inference cuts them in (``auto``). Slices of images are kept for
    the next training, those of labels are written anew. Every item has a ``key``, and tells when its files were
    ``changed``, so that a cache on the disk does not hand out a mask that was drawn over since.

    Raises:
        InputError: a volume is damaged, or its label lies elsewhere in space.
    """
    result: list[Item] = []
    for item in items:
        if is_nifti(item["image"]) and is_volume(item["image"]):
            result += _cut(item, Path(folder) / "slices")
        else:
            result.append(item)
    return [{"key": stem(item["image"])} | item | {"changed": _changed(item)} for item in result]


def _changed(item: Item) -> str:
    return " ".join(str(os.stat(item[part]).st_mtime_ns) for part in PARTS if part in item)


def _cut(item: Item, folder: Path) -> Iterator[Item]:
    """The slices of one volume, with its label where it has one."""
    source = Path(item["image"])
    volume = read_volume(source)
    folder = folder / f"{stem(source)}-{sha256(str(source).encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    label = _label(item, volume)
    scaled = None
    for index in range(volume.array.shape[-1]):
        image = folder / f"image{index:04d}.nii"
        if not image.is_file() or image.stat().st_mtime_ns < source.stat().st_mtime_ns:
            scaled = scale_volume(volume.array) if scaled is None else scaled
            part = image.with_name(f"part-{image.name}")  # a stopped training must not leave half a slice to the next
            save_slice(part, scaled[..., index], volume, index, scaled=True)
            os.replace(part, image)
        cut = {"key": f"{stem(source)}_{index:04d}", "group": stem(source), "image": str(image)}
        if label is not None:
            cut["label"] = str(folder / f"label{index:04d}.nii")
            save_slice(cut["label"], label.array[..., index], volume, index)
        yield cut


def _label(item: Item, volume: Volume) -> Volume | None:
    """The label of a volume in its plane, its values in a type that NIfTI files are written in."""
    if "label" not in item:
        return None
    label = read_volume(item["label"], volume.plane)
    check_same_grid(
        item["image"], volume.source_shape, volume.source_affine, item["label"], label.source_shape, label.source_affine
    )
    label.array = _storable(label.array)
    return label


def _storable(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that holds them: nibabel writes none of 64 bits, as editors often save."""
    if values.dtype.kind not in "iu":
        return values
    low, high = int(values.min()), int(values.max())
    for dtype in (np.uint8, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float64)  # no classes, but the reader is to name them as they are
