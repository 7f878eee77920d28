# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Losses: pure functions of tensors, and thin modules that hold their settings."""

from scripts.losses.segmentation import IGNORE_INDEX, SegmentationLoss, cross_entropy, soft_dice_loss

__all__ = ["IGNORE_INDEX", "SegmentationLoss", "cross_entropy", "soft_dice_loss"]
