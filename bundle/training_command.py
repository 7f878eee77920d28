# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The bundle's commands as they are printed for a reader to type, and the one that trains on a data set."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.class_names import completed_class_names, default_class_names

PLAIN = "configs/train.json"
#: strokes are no masks: they want a rule that leaves the other pixels open
FOR_SCRIBBLES = (PLAIN, "configs/methods/scribsd_plus.yaml")


def config_list(files: Sequence[str]) -> str:
    """Several config files as one word of the shell."""
    listed = "','".join(files)
    return f"\"['{listed}']\""


def bundle_command(run_id: str, config: str, words: str) -> str:
    """A run of the bundle; ``config`` and ``words`` are quoted already, so that they may hold places to fill in."""
    return f"python -m monai.bundle run {run_id} --config_file {config} {words}"


def training_command(settings: Mapping[str, Any]) -> str:
    """The shell command of a training with these settings, with a rule for scribbles where ``annotation`` says so."""
    config = config_list(FOR_SCRIBBLES) if settings.get("annotation") == "scribble" else PLAIN
    words = shlex.join(word for key, value in settings.items() for word in (f"--{key}", _word(value)))
    return bundle_command("training", config, words)


def names_setting(known: Mapping[int, str], num_classes: int) -> dict[str, list[str]]:
    """``class_names`` as a setting, from the names that a data set knows by class; empty where the default ones do.

    A name that MONAI would take for a reference, an expression or a macro, or in parts, cannot be passed: then none is.
    """
    names = completed_class_names(known, num_classes)
    cannot = any(name.startswith(("@", "$", "%")) or "#" in name for name in names)
    if cannot or names == default_class_names(num_classes):
        return {}
    return {"class_names": names}


def _word(value: Any) -> str:
    """A value as MONAI's command line reads it; JSON has double quotes, which leaves the shell's single ones alone."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
