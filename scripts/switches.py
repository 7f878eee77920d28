# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Switches, shares and numbers that mean what the user typed."""

from __future__ import annotations

import re
from typing import Any

from scripts.errors import InputError

EXPONENT = re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+")


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


def as_share(value: Any, key: str) -> float:
    """The share, probability or confidence ``key``.

    Raises:
        InputError: no number from 0 to 1; 90 for 90 % is the usual slip, and would quietly accept no pixel at all.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise InputError(f"{key} is {value!r}: give a number from 0 to 1")


def is_exponent_text(value: Any) -> bool:
    """Whether ``value`` is a number with an exponent that YAML reads as a text: without a point, or without a sign in
    the exponent (``1e-3``, ``1.0e3``)."""
    return isinstance(value, str) and EXPONENT.fullmatch(value) is not None
