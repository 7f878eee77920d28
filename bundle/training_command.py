# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The command that trains on a data set, as ``prepare`` and ``scribbles`` print it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

PLAIN = "configs/train.json"
#: strokes are no masks: they want a rule that leaves the other pixels open
FOR_SCRIBBLES = f"\"['{PLAIN}','configs/methods/scribsd_plus.yaml']\""


def training_command(settings: Mapping[str, Any]) -> str:
    """The shell command of a training with these settings, with a rule for scribbles where ``annotation`` says so."""
    files = FOR_SCRIBBLES if settings.get("annotation") == "scribble" else PLAIN
    words = shlex.join(str(word) for key, value in settings.items() for word in (f"--{key}", value))
    return f"python -m monai.bundle run training --config_file {files} {words}"
