# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A small data set without a fault, for the tests of the survey."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

KEYS = [f"k{index:02d}" for index in range(12)]
SPLIT = {"train": KEYS[:8], "val": KEYS[8:10], "test": KEYS[10:]}


def a_good_set(root):
    """Twelve pairs with a pinned split, nothing wrong."""
    for index, key in enumerate(KEYS):
        save(noise(seed=index), root / f"images/{key}.png")
    (root / "splits.json").write_text(json.dumps(SPLIT))
    return root


def save(values, path):
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)


def noise(size=(8, 12), seed=99):
    return np.random.default_rng(seed).integers(0, 200, (*size, 3), dtype=np.uint8)


def kinds(found):
    return sorted({problem.kind for problem in found.problems})
