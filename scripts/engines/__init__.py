# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one trainer."""

from scripts.engines.trainer import SemiSupervisedTrainer

__all__ = ["SemiSupervisedTrainer"]
