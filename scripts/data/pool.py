# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The lists of a run that an application started: labelled images handed over, and the unlabelled ones beside them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.data.files import Item, is_image_name, stem

logger = logging.getLogger("less_net")


def datalist_beside(lists: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, list[Item]]:
    """The four lists of a datalist, from labelled images and what lies beside them.

    ``unlabeled`` are the other images in the folders of the training images: without those of ``training`` and
    ``validation``, without any label file, without sub-folders. Paths that lead to one file are the same image.

    Args:
        lists: ``training`` and ``validation``, items with the paths ``image`` and ``label``.

    Returns:
        Lists ``training``, ``unlabeled``, ``validation`` and ``test`` (empty) of items with ``key``, ``group``,
        ``image`` and, but for ``unlabeled``, ``label``.
    """
    known = {os.path.realpath(item[part]) for items in lists.values() for item in items for part in ("image", "label")}
    folders = sorted({Path(item["image"]).parent for item in lists["training"]})
    found = [folder / name for folder in folders for name in sorted(os.listdir(folder)) if is_image_name(name)]
    rest = [str(path) for path in found if os.path.realpath(path) not in known]
    named = {side: [_named(item["image"], label=item["label"]) for item in items] for side, items in lists.items()}
    datalist = {**named, "unlabeled": [_named(path) for path in rest], "test": []}
    logger.info(
        "%d labelled images to train on, %d to validate with, %d unlabelled ones beside them",
        *(len(datalist[name]) for name in ("training", "validation", "unlabeled")),
    )
    return datalist


def _named(path: str, **more: str) -> Item:
    return {"key": stem(path), "group": stem(path), "image": path, **more}
