# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Which folders of DICOM files are one series, and where each of its files lies in the volume."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from scripts.data.dicom import LPS_TO_RAS, read_header
from scripts.errors import InputError

#: what tells slices of a series from single frames
TAGS = ["SeriesInstanceUID", "ImagePositionPatient", "NumberOfFrames"]


def has_magic(path: str | Path) -> bool:
    """Whether a file without suffix starts as DICOM files do (PS3.10: 128 bytes, then DICM)."""
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def is_stack(paths: list[str]) -> bool:
    """Whether the DICOM files of a folder are slices of one volume: one series, and every file has its position.

    Files of one frame each that do not say where they lie (endoscopy, ultrasound, X-ray) are single images.

    Raises:
        InputError: a file is damaged, or there are several series of slices in the folder.
    """
    if len(paths) < 2:
        return False
    headers = [read_header(path, TAGS) for path in paths]
    placed = Counter(str(one.get("SeriesInstanceUID", "")) for one in headers if one.get("ImagePositionPatient"))
    stacks = [series for series, count in placed.items() if count > 1]
    if len(stacks) > 1:
        folder = os.path.dirname(paths[0])
        raise InputError(f"{folder} holds {len(stacks)} DICOM series: give every series a folder of its own.")
    return bool(stacks) and sum(placed.values()) == len(paths)


def slice_index(path: str | Path, affine: np.ndarray) -> int:
    """The number of a file's slice along the third axis of the volume whose affine (4, 4) leads to RAS+ millimetres."""
    position = np.asarray(list(read_header(path, TAGS).ImagePositionPatient), dtype=float) * LPS_TO_RAS
    return int(round((np.linalg.inv(affine) @ [*position, 1.0])[2]))


def may_be_dicom(name: str) -> bool:
    """Whether a name is one of those that scanners give: no suffix, a number for a suffix, or one of DICOM's."""
    suffix = name.lower().rpartition(".")[2] if "." in name else ""
    return name.upper() != "DICOMDIR" and (suffix in ("", "dcm", "dicom", "ima") or suffix.isdigit())
