# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Opens every file once and keeps what the plan needs: sizes, values, and a fingerprint of the pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from scripts.data.checks import PATIENCE
from scripts.data.exif import UPRIGHT
from scripts.data.prepare.contents import label_name, read_codes, read_picture, spacing_of
from scripts.data.prepare.values import count_codes, palette_codes
from scripts.data.sources.base import Entry, Problem
from scripts.errors import InputError


@dataclass
class Facts:
    """What is known of an entry once it was opened.

    Attributes:
        channels: of the image.
        slices: their number; 0 for an image that is no volume.
        plane: of a volume.
        spacing: as items hold it; empty where unknown.
        fingerprint: equal for equal pixels; None for an image of one value, which says nothing.
        label: pixels by value, slice by slice (one "slice" for a lone image); None without a mask.
        scribble: the same.
        lossy: whether compression has changed the mask's values.
        turned: whether EXIF turned the image, but not its mask.
        palettes: the values that a palette shows for the indices counted in ``label`` and ``scribble``, by part.
    """

    channels: int
    slices: int = 0
    plane: str = ""
    spacing: str = ""
    fingerprint: bytes | None = None
    label: list[dict[int, int]] | None = None
    scribble: list[dict[int, int]] | None = None
    lossy: dict[str, bool] = field(default_factory=dict)
    turned: bool = False
    palettes: dict[str, dict[int, int]] = field(default_factory=dict)


def inspect(entries: Sequence[Entry], plane: str) -> tuple[dict[str, Facts], list[Problem]]:
    """Opens all entries in threads.

    Returns:
        the facts by key, and what is wrong: each broken file with its reason.
    """

    def look(entry: Entry) -> tuple[Facts | None, list[Problem]]:
        return inspect_entry(entry, plane)

    facts, problems = {}, []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = tqdm(pool.map(look, entries), "opening images", len(entries), delay=PATIENCE, leave=False)
        for entry, (found, wrong) in zip(entries, results):
            problems += wrong
            if found is not None and not wrong:
                facts[entry.key] = found
    return facts, problems


def inspect_entry(entry: Entry, plane: str) -> tuple[Facts | None, list[Problem]]:
    """The facts of one entry, or what is wrong with its files."""
    try:
        picture = read_picture(entry, plane)
        facts = Facts(len(picture.array), spacing=spacing_of(picture, entry), fingerprint=fingerprint(picture.array))
    except (InputError, MemoryError) as error:
        return None, [(entry.name, str(error) or "there is not enough memory for it")]
    if picture.volume is not None:
        facts.slices, facts.plane = picture.array.shape[-1], picture.volume.plane
    problems = []
    for part in ("label", "scribble"):
        label = getattr(entry, part)
        if label is None:
            continue
        try:
            codes = read_codes(label, entry, picture)
            facts.lossy[part] = codes.lossy
            facts.turned |= part == "label" and codes.orientation == UPRIGHT != picture.orientation
            slices = np.moveaxis(codes.array, -1, 0) if facts.slices else [codes.array]
            counts = [count_codes(one) for one in slices]
            setattr(facts, part, counts)
            if codes.palette is not None:
                facts.palettes[part] = palette_codes(codes.palette, set().union(*counts))
        except (InputError, MemoryError) as error:
            problems.append((label_name(label, entry), str(error) or "there is not enough memory for it"))
    return facts, problems


def fingerprint(array: np.ndarray) -> bytes | None:
    """A number (16 bytes) of the pixels (C, ...) that does not depend on the format or type they were stored in."""
    if array.min() == array.max():
        return None
    if len(array) == 3 and (array[1:] == array[:1]).all():
        array = array[:1]
    values = np.ascontiguousarray(array, dtype=np.float32)
    return hashlib.blake2b(values.tobytes() + str(values.shape).encode(), digest_size=16).digest()
