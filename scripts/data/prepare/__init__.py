# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""From any folder that a hospital hands over to a dataset folder that training reads."""

from scripts.data.prepare.run import prepare
from scripts.data.prepare.state import Options, Report

__all__ = ["Options", "Report", "prepare"]
