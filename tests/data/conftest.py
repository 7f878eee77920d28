# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Small dataset folders, written as real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_pair(root: Path, key: str, size: tuple[int, int] = (12, 8), mask: bool = True) -> None:
    """An image and, where wanted, a 0/255 mask; ``size`` is (width, height)."""
    rng = np.random.default_rng(sum(key.encode()))
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(root / f"images/{key}.png")
    if mask:
        values = np.zeros((size[1], size[0]), dtype=np.uint8)
        values[2:4, 1:6] = 255
        Image.fromarray(values).save(root / f"masks/{key}.png")


@pytest.fixture
def folder_set(tmp_path):
    """Writes images/ and masks/ for the keys; those in ``bare`` have no mask."""

    def write(keys, bare=(), name="set"):
        for key in [*keys, *bare]:
            write_pair(tmp_path / name, key, mask=key not in bare)
        return tmp_path / name

    return write


@pytest.fixture
def pairs_set(folder_set):
    """Writes a set with pairs.csv; ``groups`` maps keys to groups; ``split``, if given, goes to splits.json."""

    def write(groups, split=None, bare=()):
        root = folder_set([key for key in groups if key not in bare], bare)
        lines = ["key,image,mask,group"]
        for key, group in groups.items():
            mask = "" if key in bare else f"masks/{key}.png"
            lines.append(f"{key},images/{key}.png,{mask},{group}")
        (root / "pairs.csv").write_text("\n".join(lines) + "\n")
        if split:
            (root / "splits.json").write_text(json.dumps(split))
        return root

    return write
