# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a folder of clusterings says that was run, so that another clustering does not go on in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.data.reader import IGNORE_INDEX
from scripts.errors import InputError
from scripts.files import atomic_write

RECORD = "clustering.json"
#: the key of the record that holds where the images lie and how their masks are read, which says nothing of how the
#: images are clustered
PLACES = "places"
#: how masks were read before a record said so
MASKS_BEFORE = {"num_classes": 2, "ignore_value": IGNORE_INDEX}


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Writes what is run, or compares it with what the folder holds.

    Args:
        folder: of the clusterings.
        settings: what decides about them, as JSON can hold it, with :data:`PLACES`.

    Raises:
        InputError: the folder holds results of something else.
    """
    path = folder / RECORD
    if path.is_file():
        record = read_record(path)
        # a record of before there were places goes on with those of now
        places = settings[PLACES] | MASKS_BEFORE | record[PLACES]
        before, now = flat(record | {PLACES: places}), flat(settings)
        name = next((name for name in now if before.get(name) != now[name]), None)
        if name:
            raise InputError(
                f"{folder} holds a clustering with {name} {before.get(name)}, now it is {now[name]}: "
                "run it as it was to go on, or pass another --output_dir"
            )
    elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"output_dir {folder} is not an empty folder: pass another --output_dir")
    atomic_write(path, json.dumps(settings, indent=1).encode())


def read_record(path: Path) -> dict[str, Any]:
    """What was run.

    Raises:
        InputError: the file is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("no record of a clustering")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return {PLACES: {}} | record


def damaged(path: Path, error: Exception) -> InputError:
    """The sentence for a file of an earlier run that cannot be gone on with."""
    return InputError(f"{path} is damaged ({error}): restore it to go on, or pass another --output_dir")


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of what was run with its places among the other keys, as they are named to people."""
    return {key: value for key, value in record.items() if key != PLACES} | record[PLACES]
