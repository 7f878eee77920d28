# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Switches that mean what the user typed."""

from __future__ import annotations

from typing import Any

from scripts.errors import InputError


def as_bool(value: Any, key: str) -> bool:
    """The switch ``key``: the command line hands ``--resume true`` over as the word.

    Raises:
        InputError: neither true nor false.
    """
    word = str(value).strip().lower()
    if word in ("true", "1", "yes"):
        return True
    if word in ("false", "0", "no", "none", ""):
        return False
    raise InputError(f"{key} is {value!r}: give true or false")
