# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one door to PyAV, which only those who read or write videos need."""

from __future__ import annotations

from types import ModuleType

from scripts.errors import InputError

LEAST = 17  # with the FFmpeg of 16 the colours of a film are off by up to 20 of 255


def pyav() -> ModuleType:
    """PyAV, which brings FFmpeg's libraries.

    Raises:
        InputError: it is not installed, or too old.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("videos need the package av, which is not installed: run pip install av") from error
    if int(av.__version__.split(".")[0]) < LEAST:
        raise InputError(
            f"videos need the package av from version {LEAST} on, here is {av.__version__}: run pip install -U av"
        )
    return av
