# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Saving of predicted masks in the format of their image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data.image_writer import NibabelWriter
from monai.transforms import SaveImage, SaveImaged
from monai.utils import ImageMetaKey


class PlaneWriter(NibabelWriter):
    """Writes a 2-D mask that lies in the grid of its image already: the image's own affine, nothing to resample.

    (MONAI's writer compares affines in three dimensions and fails on a plane.)
    """

    def set_metadata(self, meta_dict: Mapping | None, **options: Any) -> None:
        """Takes over the affine that the image file has."""
        self.affine, _, _ = self.get_meta_info(meta_dict)


class SaveMaskd(SaveImaged):
    """MONAI's ``SaveImaged`` for label maps (1, X, Y): PNG for pictures, ``.nii.gz`` for NIfTI, under the same stem.

    A PNG of two classes holds 0 and 255, so that the mask can be seen; with more classes, and in NIfTI always, the
    values are the class indices. A NIfTI mask has the affine of its image. (A subclass of ``SaveImaged``, because
    MONAI Label leaves out whatever is one and saves by itself.)

    Args:
        keys: keys of the masks, each a ``MetaTensor`` that knows the file it comes from.
        output_dir: where to write; made on first use.
        num_classes: number of classes, background included.
    """

    def __init__(self, keys: KeysCollection, output_dir: str, num_classes: int = 2) -> None:
        names = {"output_dir": output_dir, "output_postfix": "", "separate_folder": False}
        super().__init__(keys, output_ext=".png", output_dtype=np.uint8, print_log=False, **names)
        scale = 255 if num_classes == 2 else None
        common = {"output_dtype": np.uint8, "print_log": False, **names}
        self.savers = {
            ".png": SaveImage(output_ext=".png", writer="PILWriter", scale=scale, **common),
            ".nii.gz": SaveImage(output_ext=".nii.gz", writer=PlaneWriter, **common),
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Writes every mask and hands the data on unchanged."""
        for key in self.key_iterator(data):
            name = str(data[key].meta[ImageMetaKey.FILENAME_OR_OBJ]).lower()
            self.savers[".nii.gz" if name.endswith((".nii", ".nii.gz")) else ".png"](data[key])
        return dict(data)
