# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The naming of nnU-Net and of the Medical Segmentation Decathlon: ``imagesTr``, ``labelsTr``, ``imagesTs``.

Sources: nnU-Net documentation, "dataset format"; Antonelli et al., The Medical Segmentation Decathlon, 2022.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

from scripts.data.files import stem
from scripts.data.sources.base import Entry, Source
from scripts.data.sources.tree import Tree
from scripts.errors import InputError

CHANNEL = re.compile(r"(.*)_(\d{4})$")


def read_nnunet(tree: Tree) -> Source:
    """Reads the folders; ``case_0000``, ``case_0001`` are the channels of ``case`` if all images are named so.

    Images of ``imagesTs`` are test images where ``labelsTs`` holds their masks, and unlabelled ones else. Class names
    come from ``dataset.json``; a class called ignore becomes the ignore index.

    Raises:
        InputError: ``dataset.json`` is damaged.
    """
    entries, problems = [], []
    for ending, side in (("Tr", "train"), ("Ts", "test")):
        cases, labels = _cases(tree, f"images{ending}"), _files(tree, f"labels{ending}")
        for case, channels in cases.items():
            label = labels.pop(case, [None])[0]
            entries.append(Entry(case, tuple(channels), label, side=side if side == "test" and label else None))
        problems += [(paths[0], f"there is no image of that name in images{ending}") for paths in labels.values()]
    if any(entry.side for entry in entries):
        for entry in entries:
            entry.side = entry.side or "train"
    names, values = _classes(tree)
    masks = sum(entry.label is not None for entry in entries)
    text = f"the nnU-Net or Decathlon layout ({len(entries)} cases, {masks} with a mask)"
    return Source("nnunet", text, entries, class_names=names, values=values, problems=problems)


def _files(tree: Tree, folder: str) -> dict[str, list[str]]:
    """Files and series of a folder by stem."""
    found: dict[str, list[str]] = {}
    for path in [*tree.images, *tree.series]:
        if str(PurePosixPath(path).parent) == folder:
            found.setdefault(stem(path), []).append(tree.path(path))
    return found


def _cases(tree: Tree, folder: str) -> dict[str, list[str]]:
    """The channels of each case, in order."""
    files = _files(tree, folder)
    matches = {name: CHANNEL.match(name) for name in files}
    if not all(matches.values()):
        return files
    cases: dict[str, list[str]] = {}
    for name in sorted(files):
        cases.setdefault(matches[name].group(1), []).extend(files[name])
    return cases


def _classes(tree: Tree) -> tuple[dict[int, str], dict[int, int]]:
    """The class names, and the mask values if one of them is to be ignored."""
    path = tree.root / "dataset.json"
    if not path.is_file():
        return {}, {}
    try:
        labels: Any = json.loads(path.read_text(encoding="utf-8-sig")).get("labels", {})
        pairs = [(key, value) if str(key).isdigit() else (value, key) for key, value in labels.items()]
        names = {int(index): str(name) for index, name in pairs if not isinstance(index, list)}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} does not describe a data set ({error}): correct or remove it.") from None
    ignored = [index for index, name in names.items() if name.lower() == "ignore"]
    kept = {index: name for index, name in names.items() if index not in ignored}
    return kept, {**{index: index for index in kept}, ignored[0]: 255} if ignored else {}
