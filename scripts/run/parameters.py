# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The user's parameters: values that cannot be meant are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scripts.class_names import class_names_or_default
from scripts.errors import InputError
from scripts.losses import SegmentationLoss
from scripts.methods import LearningRule
from scripts.switches import as_bool, is_exponent_text


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse values that cannot be meant.

    Raises:
        InputError: naming the parameter, its value, and what it takes.
    """
    least = {"max_epochs": 1, "epoch_length": 1, "batch_size": 1, "unlabelled_batch_size": 0, "val_interval": 1}
    least |= {"in_channels": 1, "num_classes": 2, "num_workers": 0, "seed": 0, "save_interval": 1}
    least |= {"planned_iterations": 1, "teacher_iterations": 0}
    for name, value in parameters.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        numeric = name in least or name in ("learning_rate", "weight_decay", "max_norm")
        if numeric and is_exponent_text(value):
            raise InputError(f"{name} is {value!r}, a text to YAML: give the number a point and a sign, as in 1.0e-3")
        if name in least and not (whole and value >= least[name]):
            raise InputError(f"{name} is {value!r}: give a whole number of at least {least[name]}")
        if name == "learning_rate" and not (isinstance(value, (int, float)) and 0 < value < 100):
            raise InputError(f"{name} is {value!r}: give a number above 0")
        if name == "weight_decay" and not (isinstance(value, (int, float)) and value >= 0):
            raise InputError(f"{name} is {value!r}: give a number of at least 0")
        # a negative norm would turn the gradient around, and the training climb
        if name == "max_norm" and value is not None and not (isinstance(value, (int, float)) and value >= 0):
            raise InputError(f"{name} is {value!r}: give a number above 0, or 0 for no clipping")
        if name in ("ignore_value", "patience") and value is not None and not whole:
            raise InputError(f"{name} is {value!r}: give a whole number")
        if name in ("group_pattern", "volume_pattern") and not isinstance(value, (str, type(None))):
            raise InputError(f"{name} is {value!r}: give a regular expression")
        if name in ("dataset_dir", "output_dir", "ckpt_path", "initial_weights"):
            check_path(name, value)
        if name == "device":
            check_device(value)
        if name == "resume" or (name == "amp" and str(value).lower() != "auto"):
            as_bool(value, name)
        if name == "image_size":
            sizes = list(value) if isinstance(value, (list, tuple)) else [value]
            if len(sizes) != (2 if isinstance(value, (list, tuple)) else 1) or not all(
                isinstance(size, int) and size >= 32 for size in sizes
            ):
                raise InputError(f"image_size is {value!r}: give one whole number, or [width, height], of at least 32")
    if parameters.get("class_names") is not None:
        class_names_or_default(parameters["class_names"], parameters["num_classes"])


def check_path(name: str, value: Any) -> None:
    """Refuse a path that the command line took for a number or a list, and an empty one.

    An unset variable of a shell is empty. Only ``dataset_dir`` may be, which then is the embedded set.

    Raises:
        InputError: naming the parameter, its value and how to write it.
    """
    if value is not None and not isinstance(value, (str, Path)):
        raise InputError(f"{name} came as {value!r}, for its name looks like a value: put ./ before it")
    if value == "" and name != "dataset_dir":
        raise InputError(f"{name} is empty: give a path, or leave it out")


def check_annotation(annotation: Any, rule: LearningRule | None) -> None:
    """Refuse a rule that takes scribbles for whole masks.

    A Dice over a few strokes measures how much of which class the annotator happened to draw.

    Args:
        annotation: what the labels are, ``mask`` or ``scribble``.
        rule: the learning rule; None: not known.

    Raises:
        InputError: naming the rule and one that is meant for scribbles.
    """
    if annotation != "scribble" or rule is None or "supervised" not in rule.losses:
        return
    if isinstance(rule.loss, SegmentationLoss) and rule.loss.dice_weight:
        raise InputError(
            f"annotation is scribble, but {type(rule).__name__} takes the strokes for whole masks: add a rule for "
            "scribbles, such as configs/methods/scribsd_plus.yaml, to --config_file"
        )


def check_device(value: Any) -> None:
    """Refuse a device that PyTorch does not know or see.

    Raises:
        InputError: naming it.
    """
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError):
        raise InputError(f"device is '{value}': give cpu, cuda or cuda:<number>") from None
    if device.type not in ("cpu", "cuda"):
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError):
            raise InputError(f"device is '{value}', which PyTorch does not have here: pass --device cpu") from None
    seen = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= seen:
        raise InputError(f"device is '{value}', but PyTorch sees {seen} GPUs here: leave it out, or pass --device cpu")
