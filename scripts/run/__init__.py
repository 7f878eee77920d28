# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What stands first in the run list of every config: the run is guarded and recorded."""

from scripts.run.guard import RunGuard
from scripts.run.record import RunRecord

__all__ = ["RunGuard", "RunRecord"]
