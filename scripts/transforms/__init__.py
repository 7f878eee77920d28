# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Random views of whole batches, on the training device; resizing; saving of predicted masks."""

from scripts.transforms.compose import FlatCompose
from scripts.transforms.mix import another, cut_mix, random_boxes
from scripts.transforms.output import SaveMaskd, ToClassesd, ToSourced
from scripts.transforms.resize import ResizePlaned
from scripts.transforms.strong import StrongView, gaussian_blur
from scripts.transforms.weak import IGNORE_INDEX, WeakView

__all__ = [
    "IGNORE_INDEX",
    "FlatCompose",
    "ResizePlaned",
    "SaveMaskd",
    "StrongView",
    "ToClassesd",
    "ToSourced",
    "WeakView",
    "another",
    "cut_mix",
    "gaussian_blur",
    "random_boxes",
]
