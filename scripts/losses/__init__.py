# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Losses: pure functions of tensors, and thin modules that hold their settings."""

from scripts.losses.consistency import weighted_cross_entropy, weighted_dice_loss
from scripts.losses.contrast import class_info_nce, class_means, full_product, sample_per_class
from scripts.losses.cross_contrast import patch_contrast, pixel_contrast, pool_patches
from scripts.losses.distillation import class_vectors, distillation_loss, multi_scale_distillation
from scripts.losses.partial import PartialCrossEntropy, entropy
from scripts.losses.pseudo import gate, pseudo_label_loss
from scripts.losses.ranked import distances, inter_patch_loss, intra_patch_loss, local_contrast, ranked_hinge
from scripts.losses.regions import boundary_band, class_shares, patch_classes, tile
from scripts.losses.segmentation import IGNORE_INDEX, SegmentationLoss, cross_entropy, soft_dice_loss
from scripts.losses.spatial import drawn_edge_difference, edge_difference, neighbour_difference, sobel

__all__ = [
    "IGNORE_INDEX",
    "PartialCrossEntropy",
    "SegmentationLoss",
    "boundary_band",
    "class_info_nce",
    "class_means",
    "class_shares",
    "class_vectors",
    "cross_entropy",
    "distances",
    "distillation_loss",
    "drawn_edge_difference",
    "edge_difference",
    "entropy",
    "full_product",
    "gate",
    "inter_patch_loss",
    "intra_patch_loss",
    "local_contrast",
    "multi_scale_distillation",
    "neighbour_difference",
    "patch_classes",
    "patch_contrast",
    "pixel_contrast",
    "pool_patches",
    "pseudo_label_loss",
    "ranked_hinge",
    "sample_per_class",
    "sobel",
    "soft_dice_loss",
    "tile",
    "weighted_cross_entropy",
    "weighted_dice_loss",
]
