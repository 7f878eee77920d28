# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one door to PyAV, which only those who read or write videos need."""

from __future__ import annotations

from types import ModuleType

from scripts.errors import InputError


def pyav() -> ModuleType:
    """PyAV, which brings FFmpeg's libraries.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("videos need the package av, which is not installed: run pip install av") from error
    return av
