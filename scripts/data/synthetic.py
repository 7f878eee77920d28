# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The embedded synthetic set: a dataset folder of endoscopy-like frames, drawn by our own code."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.data.files import absolute
from scripts.data.synthetic_frames import draw_patient, paint_frame
from scripts.errors import InputError

FRAMES_OF_A_PATIENT = 5
SPLIT_SHARES = {"test": 0.2, "val": 0.1}


def write_synthetic_set(folder: str | Path, count: int = 200, size: int = 256, seed: int = 0) -> Path:
    """Writes the set with ``images/``, ``masks/``, ``pairs.csv`` and ``splits.json``; 200 frames make 140/20/40.

    Five frames are of one patient, who is on one side of the split. The frames are functions of (seed, number). The
    set is written beside ``folder`` and renamed when it is whole, so an interrupted run leaves none that looks whole.

    Args:
        folder: where it goes; must not exist, or be empty.
        count: number of frames, at least 20 (four patients).
        size: their side in pixels, at least 32.
        seed: of all random draws.

    Returns:
        The folder.

    Raises:
        InputError: ``folder`` holds something else or cannot be written, or the numbers are too small.
    """
    folder = absolute(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} already exists and is not empty: name another folder for the synthetic set.")
    if count < 4 * FRAMES_OF_A_PATIENT or size < 32:
        raise InputError(
            f"A synthetic set of {count} frames of {size} pixels is too small: use 20 frames of 32 or more."
        )
    work = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _write_files(work, count, size, seed)
        work.chmod(0o755)  # mkdtemp makes it private
        _move_into_place(work, folder)
    except OSError as error:
        raise InputError(
            f"The synthetic set cannot be written to {folder} ({error.strerror or error}): free space, make "
            f"{folder.parent} writable, or give dataset_dir with images of your own."
        ) from error
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _move_into_place(work: Path, folder: Path) -> None:
    try:
        os.replace(work, folder)
    except OSError:
        # Another process (torchrun starts several) was first; its set is equal.
        if not (folder / "pairs.csv").is_file():
            raise


def _write_files(folder: Path, count: int, size: int, seed: int) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rows = []
    for index in range(count):
        number = index // FRAMES_OF_A_PATIENT
        patient = draw_patient(np.random.default_rng([seed, 0, number]))
        image, mask = paint_frame(np.random.default_rng([seed, 1, index]), patient, size)
        key = f"patient{number + 1:03d}_frame{index % FRAMES_OF_A_PATIENT + 1}"
        paths = f"images/{key}.jpg", f"masks/{key}.png"
        Image.fromarray(image).save(folder / paths[0], quality=92)
        Image.fromarray(mask).save(folder / paths[1])
        rows.append((key, *paths, f"patient{number + 1:03d}", f"{(mask > 0).mean():.5f}"))
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("key", "image", "mask", "group", "fg"), *rows])
    split = _split([(row[0], row[3]) for row in rows], seed)
    (folder / "splits.json").write_text(json.dumps(split, indent=1), encoding="utf-8")


def _split(frames: list[tuple[str, str]], seed: int) -> dict[str, list[str]]:
    """Whole patients to test and validation; the training frames shuffled, so that few labels are of many patients."""
    rng = np.random.default_rng([seed, 2])
    patients = rng.permutation(sorted({group for _, group in frames})).tolist()
    ends = np.cumsum([max(1, round(share * len(patients))) for share in SPLIT_SHARES.values()])
    side_of = {name: "test" if index < ends[0] else "val" for index, name in enumerate(patients[: ends[1]])}
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for key, group in frames:
        split[side_of.get(group, "train")].append(key)
    split["train"] = rng.permutation(split["train"]).tolist()
    return split
