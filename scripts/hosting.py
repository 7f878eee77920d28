# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Runs that an application such as MONAI Label starts: it hands over the labelled images, and the folder is its own.

MONAI Label overrides ``train#dataset#data`` and ``validate#dataset#data`` with lists and gives no ``dataset_dir``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.overrides import running_workflow

LISTS = {"training": "train#dataset#data", "validation": "validate#dataset#data"}


def hosted(parser: Any) -> bool:
    """Whether an application runs the bundle: it hands the images over and owns the folder."""
    return not isinstance(parser.get(LISTS["training"], ""), str)


def handed_over() -> dict[str, list[dict]] | None:
    """The lists ``training`` and ``validation`` that the application handed to the running workflow.

    A list that it did not hand over is empty. None where the bundle runs by itself.
    """
    workflow = running_workflow()
    if workflow is None or not hosted(workflow.parser):
        return None
    values = {name: workflow.parser.get(key, []) for name, key in LISTS.items()}
    return {name: [] if isinstance(value, str) else list(value) for name, value in values.items()}


def model_file(bundle_root: str | Path) -> Path | None:
    """Where the application looks for the weights of the bundle; None where the bundle runs by itself."""
    return None if handed_over() is None else Path(bundle_root) / "models" / "model.pt"
