# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``KEY=VALUE`` words of a command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from scripts.errors import InputError
from scripts.switches import is_exponent_text


def assignments(words: Iterable[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping of texts, in their order.

    Raises:
        InputError: a word without key or equals sign, or whose value is not YAML; it names ``option``.
    """
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key.strip() or not _is_yaml(value):
            raise InputError(f"{option} {word}: give KEY=VALUE, a key of configs/train.json, such as image_size=128")
        found[key.strip()] = value
    return found


def yaml_assignments(words: Iterable[str], option: str) -> dict[str, Any]:
    """``KEY=VALUE`` words as a mapping of what YAML reads the values as; raises what :func:`assignments` raises."""
    return {key: _as_number(yaml.safe_load(value)) for key, value in assignments(words, option).items()}


def _as_number(value: Any) -> Any:
    """The number that a text such as ``1e-3`` is on a command line of MONAI; YAML wants a point in it."""
    return float(value) if is_exponent_text(value) else value


def _is_yaml(text: str) -> bool:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return True
