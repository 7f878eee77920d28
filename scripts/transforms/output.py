# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Predicted masks back in the grid of their source, and saved in its format."""

from __future__ import annotations

import gzip
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from monai.utils import ImageMetaKey, MetaKeys
from PIL import Image

from scripts.data.files import is_nifti, stem
from scripts.data.volumes import turn_back
from scripts.files import atomic_write, png
from scripts.metrics import predicted_labels


class ToClassesd(MapTransform):
    """Logits (K, X, Y) or (K, X, Y, Z) as class indices, uint8, with one channel: the largest channel wins.

    (MONAI's ``AsDiscreted`` takes several times as long, since argmax does on the CPU, and four times the memory.)
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Decides on the classes of the keys."""
        result = dict(data)
        for key in self.key_iterator(result):
            logits = result[key]
            classes = predicted_labels(logits.as_tensor()[None], torch.uint8)
            result[key] = MetaTensor(classes).copy_meta_from(logits)
        return result


class ToSourced(MapTransform):
    """Turns the masks (1, X, Y, Z) of volumes from the plane they were predicted in into the axes of their source.

    Masks of pictures (1, X, Y) are handed on. The affine becomes that of the source.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turns the masks of the keys."""
        result = dict(data)
        for key in self.key_iterator(result):
            mask = result[key]
            if mask.ndim == 4:
                affine = np.asarray(mask.meta["source_affine"], dtype=np.float64)
                turned = turn_back(mask[0].cpu().numpy(), affine, mask.meta["plane"])
                back = MetaTensor(torch.as_tensor(turned.copy())[None], meta=dict(mask.meta))
                back.meta[MetaKeys.AFFINE] = torch.as_tensor(affine)
                result[key] = back
        return result


class SaveMaskd(SaveImaged):
    """MONAI's ``SaveImaged`` for label maps (1, X, Y) and (1, X, Y, Z) under the name of their image.

    Pictures and DICOM frames give PNG, NIfTI files and volumes ``.nii.gz``. A PNG of two classes holds 0 and 255, so
    that the mask can be seen; with more classes, and in NIfTI always, the values are the class indices. A NIfTI mask
    has the affine of its image and its axes, without the channels (:class:`ToSourced` comes before). (A subclass of
    ``SaveImaged``, because MONAI Label leaves out whatever is one and saves by itself.)

    Args:
        keys: keys of the masks, each a ``MetaTensor`` that knows the file it comes from.
        output_dir: where to write; made on first use.
        num_classes: number of classes, background included.

    Raises (for each mask):
        InputError: it cannot be written; no part of it is left.
    """

    def __init__(self, keys: KeysCollection, output_dir: str, num_classes: int = 2) -> None:
        names = {"output_dir": output_dir, "output_postfix": "", "separate_folder": False}
        super().__init__(keys, output_ext=".png", output_dtype=np.uint8, print_log=False, **names)
        self.folder, self.scale = Path(output_dir), png_scale(num_classes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Writes every mask and hands the data on unchanged."""
        for key in self.key_iterator(data):
            name = str(data[key].meta[ImageMetaKey.FILENAME_OR_OBJ])
            if data[key].ndim == 4:
                write_volume(self.folder / f"{stem(name)}.nii.gz", data[key][0], data[key].affine)
            elif is_nifti(name):
                mask = data[key][0]
                axes = nibabel.load(name).shape[:3]  # most often X, Y and one slice; the third may hold the channels
                mask = mask.reshape(axes) if math.prod(axes) == mask.numel() else mask
                write_volume(self.folder / f"{stem(name)}.nii.gz", mask, data[key].meta[MetaKeys.ORIGINAL_AFFINE])
            else:
                # not by MONAI's SaveImage: it hides what the disk says, and leaves half a file
                values = data[key][0].cpu().numpy().astype(np.uint8) * np.uint8(self.scale)
                atomic_write(self.folder / f"{stem(name)}.png", png(Image.fromarray(np.ascontiguousarray(values.T))))
        return dict(data)


def png_scale(num_classes: int) -> int:
    """What the classes of a PNG mask are multiplied by: 255 where there is one foreground class, otherwise 1."""
    return 255 if num_classes == 2 else 1


def write_volume(path: Path, mask: torch.Tensor, affine: torch.Tensor) -> None:
    """Writes class indices (two or three axes) as compressed NIfTI, uint8, with the affine (4, 4)."""
    values = mask.cpu().numpy().astype(np.uint8)
    image = nibabel.Nifti1Image(values, np.asarray(affine, dtype=np.float64))
    image.header.set_xyzt_units("mm")
    atomic_write(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
