# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Losses: pure functions of tensors, and thin modules that hold their settings."""

from scripts.losses.consistency import weighted_cross_entropy, weighted_dice_loss
from scripts.losses.contrast import class_info_nce, class_means, sample_per_class
from scripts.losses.segmentation import IGNORE_INDEX, SegmentationLoss, cross_entropy, soft_dice_loss

__all__ = [
    "IGNORE_INDEX",
    "SegmentationLoss",
    "class_info_nce",
    "class_means",
    "cross_entropy",
    "sample_per_class",
    "soft_dice_loss",
    "weighted_cross_entropy",
    "weighted_dice_loss",
]
