# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Losses: pure functions of tensors, and thin modules that hold their settings."""

from scripts.losses.consistency import weighted_cross_entropy, weighted_dice_loss
from scripts.losses.contrast import class_info_nce, class_means, sample_per_class
from scripts.losses.distillation import class_vectors, distillation_loss, multi_scale_distillation
from scripts.losses.partial import PartialCrossEntropy, entropy
from scripts.losses.pseudo import gate, pseudo_label_loss
from scripts.losses.segmentation import IGNORE_INDEX, SegmentationLoss, cross_entropy, soft_dice_loss
from scripts.losses.spatial import drawn_edge_difference, edge_difference, neighbour_difference, sobel

__all__ = [
    "IGNORE_INDEX",
    "PartialCrossEntropy",
    "SegmentationLoss",
    "class_info_nce",
    "class_means",
    "class_vectors",
    "cross_entropy",
    "distillation_loss",
    "drawn_edge_difference",
    "edge_difference",
    "entropy",
    "gate",
    "multi_scale_distillation",
    "neighbour_difference",
    "pseudo_label_loss",
    "sample_per_class",
    "sobel",
    "soft_dice_loss",
    "weighted_cross_entropy",
    "weighted_dice_loss",
]
