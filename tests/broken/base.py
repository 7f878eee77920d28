# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A good data set, and the list of the ways to break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, COUNT = 40, 32, 8


@dataclass(frozen=True)
class Broken:
    """A way to break a data set.

    Attributes:
        name: of the case.
        spoil: takes the folder of a good set, breaks it, and returns what a message must hold (a file name, mostly).
        commands: the commands that must refuse it, of ``prepare``, ``check`` and ``train``.
    """

    name: str
    spoil: Callable[[Path], str]
    commands: tuple[str, ...]


CASES: list[Broken] = []
ALL, TOOLS = ("prepare", "check", "train"), ("prepare", "check")


def case(commands: tuple[str, ...] = ALL) -> Callable:
    """Registers a function as a case under its own name."""

    def register(spoil: Callable[[Path], str]) -> Callable:
        CASES.append(Broken(spoil.__name__, spoil, commands))
        return spoil

    return register


def good_set(root: Path) -> Path:
    """``images`` and ``masks``: eight colour pictures of 40 x 32 pixels with a lesion, masks 0/255."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(COUNT):
        picture = rng.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[4 + number : 12 + number, 6:20] = 255
        picture[mask > 0] += 100
        Image.fromarray(picture).save(root / f"images/case{number}.png")
        Image.fromarray(mask).save(root / f"masks/case{number}.png")
    return root


def image(root: Path, number: int = 3) -> Path:
    """An image of the set."""
    return root / f"images/case{number}.png"


def mask(root: Path, number: int = 3) -> Path:
    """A mask of the set."""
    return root / f"masks/case{number}.png"
