# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one trainer of all rules, and the one for methods that train a network on a single image."""

from scripts.engines.per_image import Fit, PerImageTrainer
from scripts.engines.trainer import SemiSupervisedTrainer

__all__ = ["Fit", "PerImageTrainer", "SemiSupervisedTrainer"]
