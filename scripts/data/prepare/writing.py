# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Writes what training cannot read as it is: slices of volumes, masks with other values; copies the rest on demand."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from tqdm import tqdm

from scripts.data.checks import PATIENCE
from scripts.data.files import is_dicom
from scripts.data.prepare.contents import Picture, read_codes, read_picture
from scripts.data.prepare.planning import Planned
from scripts.data.prepare.values import to_classes
from scripts.data.reader import IGNORE_INDEX
from scripts.data.volumes import channels_last, save_slice, scale_volume
from scripts.errors import InputError

THREADS = "prepare"  # how the names of the threads begin
FOLDERS = {"image": "images", "label": "masks", "scribble": "scribbles"}


@dataclass
class Writer:
    """How the files of one data set are written.

    Attributes:
        folder: where they go.
        names: file name without suffix, by key of the item.
        remade: parts (``label``, ``scribble``) whose values are changed.
        ignore_value: what stands for pixels to be ignored in the masks that are written.
        copy: copy also what could be used where it lies.
    """

    folder: Path
    names: Mapping[str, str]
    remade: frozenset[str]
    ignore_value: int
    copy: bool

    def write(self, items: Sequence[tuple[Planned, Mapping[str, dict[int, int]]]], plane: str) -> None:
        """Writes the files of the items and fills in their paths, volume by volume, in threads.

        Args:
            items: with the class by value of each part of their entry.
            plane: that volumes are cut in.

        Raises:
            InputError: the disk is full, or a file of the source has changed meanwhile.
        """
        by_entry: dict[str, list[Planned]] = {}
        tables = {}
        for one, table in items:
            by_entry.setdefault(one.entry.key, []).append(one)
            tables[one.entry.key] = table
        for name in FOLDERS.values():
            (self.folder / name).mkdir(parents=True, exist_ok=True)

        def write(key: str) -> None:
            self._write_entry(by_entry[key], tables[key], plane)

        try:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix=THREADS) as pool:
                try:
                    for _ in tqdm(pool.map(write, by_entry), "writing", len(by_entry), delay=PATIENCE, leave=False):
                        pass
                except BaseException:
                    # the keyboard may come while a thread is being started: the pool then neither cancels its work nor
                    # waits for it, and it would write into a folder that is being removed
                    pool.shutdown(wait=True, cancel_futures=True)
                    while any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
                        time.sleep(0.01)
                    raise
        except OSError as error:
            raise InputError(
                f"cannot write below {self.folder} ({error.strerror or error}): free space there"
            ) from error
        for name in FOLDERS.values():
            if not any((self.folder / name).iterdir()):
                (self.folder / name).rmdir()

    def _write_entry(self, planned: list[Planned], tables: Mapping[str, dict[int, int]], plane: str) -> None:
        entry = planned[0].entry
        cut, stacked = planned[0].index is not None, len(entry.image) > 1
        made = {part for part in tables if cut or self._must_make(getattr(entry, part), part)}
        picture = read_picture(entry, plane) if cut or stacked or made else None
        scaled = scale_volume(picture.array) if cut else None
        masks = {
            part: to_classes(read_codes(getattr(entry, part), entry, picture).array, tables[part]) for part in made
        }
        for one in planned:
            if cut:
                one.item["image"] = self._save_slice(one, "image", scaled[..., one.index], picture)
            elif stacked:
                one.item["image"] = self._save_channels(one, picture)
            else:
                one.item["image"] = self._place(one, "image", entry.name)
            for part in one.classes:
                one.item[part] = self._write_mask(one, part, masks.get(part), picture)

    def _must_make(self, label: object, part: str) -> bool:
        return part in self.remade or not isinstance(label, str) or is_dicom(label)

    def _write_mask(self, one: Planned, part: str, mask: np.ndarray | None, picture: Picture | None) -> str:
        if mask is None:
            return self._place(one, part, getattr(one.entry, part))
        mask = np.where(mask == IGNORE_INDEX, np.uint8(self.ignore_value), mask)
        if one.index is not None:
            return self._save_slice(one, part, mask[None, ..., one.index], picture)
        path = self._path(one, part, ".png")
        Image.fromarray(np.ascontiguousarray(mask.T)).save(self.folder / path)
        return path

    def _path(self, one: Planned, part: str, suffix: str) -> str:
        return f"{FOLDERS[part]}/{self.names[one.item['key']]}{suffix}"

    def _place(self, one: Planned, part: str, source: str) -> str:
        """The file where it lies, or its copy."""
        if not self.copy:
            return source
        name = source.lower()
        path = self._path(one, part, ".nii.gz" if name.endswith(".nii.gz") else os.path.splitext(name)[1])
        shutil.copyfile(source, self.folder / path)
        return path

    def _save_slice(self, one: Planned, part: str, array: np.ndarray, picture: Picture) -> str:
        """A slice (C, X, Y) as NIfTI; an image is in [0, 1]."""
        path = self._path(one, part, ".nii.gz")
        save_slice(self.folder / path, array, picture.volume, one.index, scaled=part == "image")
        return path

    def _save_channels(self, one: Planned, picture: Picture) -> str:
        """The channels that came in several files, as one NIfTI file with the values as stored."""
        array = picture.array.astype(np.uint8 if picture.array.dtype == bool else picture.array.dtype, copy=False)
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        path = self._path(one, "image", ".nii.gz")
        nibabel.Nifti1Image(channels_last(array), picture.affine).to_filename(self.folder / path)
        return path
