# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are never half written."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scripts.errors import InputError

NAME_BYTES = 255


def atomic_write(path: str | os.PathLike, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that at any moment either the old or the new content is there, whole.

    The bytes go to ``<path>.tmp`` beside it, to the disk, and only then over the old file. (Ignite's ``DiskSaver``
    does the same without the ``fsync``, and a killed process leaves one more file of a random name each time.)

    Raises:
        InputError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    path = Path(path)
    temporary = path.with_name(fitting(path.name, len(".tmp")) + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a virus scanner may hold it; the next try writes over it
            temporary.unlink()
        raise InputError(
            f"cannot write {path} ({error.strerror}), what was there before is unharmed: free space or make the folder "
            "writable, then start again (a training with --resume true)"
        ) from error


def fitting(name: str, room: int = 0) -> str:
    """The name of a file, cut so that ``room`` bytes more fit: most file systems take 255 of UTF-8 in a name."""
    return name.encode("utf-8", "surrogateescape")[: NAME_BYTES - room].decode("utf-8", "ignore")


def check_writable(folder: str | os.PathLike, key: str, make: bool = True) -> None:
    """Make a folder, and see before any work that it takes files.

    Without ``make`` nothing is made, and the nearest folder that is there is looked at instead.

    Raises:
        InputError: it cannot be made or takes none; ``key`` is the parameter that names it.
    """
    try:
        place = Path(folder)
        if make:
            place.mkdir(parents=True, exist_ok=True)
        while not (make or place.exists()):
            place = place.parent
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise InputError(
            f"{key} {folder} cannot be written ({error.strerror}): make it writable, or pass another --{key}"
        ) from error


def png(picture: Image.Image, optimize: bool = False) -> bytes:
    """The picture as the bytes of a PNG file, for :func:`atomic_write`; ``optimize`` takes longer for fewer."""
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=optimize)
    return content.getvalue()


def atomic_save(path: str | os.PathLike, content: Any) -> None:
    """``torch.save`` through :func:`atomic_write`; serialised in memory first, so a full disk shows as one."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write(path, buffer.getvalue())


def load_checkpoint(path: str | os.PathLike) -> Any:
    """``torch.load`` of a file of tensors and plain numbers, on the CPU.

    Raises:
        InputError: missing, truncated, or not a file of that kind.
    """
    if not str(path):  # an unset variable of a shell
        raise InputError("the path of the weights is empty: name the model.pt of a run")
    if not Path(path).is_file():
        raise InputError(f"no checkpoint {path}: check the path, or train first")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for every kind of damage
        raise InputError(
            f"{path} is not a readable checkpoint (truncated, or another kind of file): name the model.pt of a run, "
            "or, if this is one, restore it"
        ) from error
