# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What every reader of a handed-over folder hands on: one entry an image or volume, nothing opened yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from scripts.data.files import Collection, Item
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources.words import split_word
from scripts.errors import InputError

#: A file or series folder; a function that draws the mask (X, Y) uint8; or files by the stem of the DICOM instance.
Label = str | Callable[[], np.ndarray] | dict[str, str]
MOST_CLASSES = 254  # beside background, of objects that are drawn
MOST_PIXELS = 2**30  # of an image that they are drawn for
#: names of labels, in small letters, that are no classes of their own
RESERVED = {"background": 0, "ignore": IGNORE_INDEX}
Problem = tuple[str, str]  # the file and what is wrong with it
Key = TypeVar("Key")


@dataclass
class Entry:
    """An image or volume with its annotations.

    Attributes:
        key: unique name.
        image: the file or series folder; several, if each holds one channel.
        label: where there is a mask.
        scribble: where there is one.
        side: train, val or test, if the source pins it.
        folder: the sub-folder it lies in, without the parts that all images share; empty if there is none.
        facts: ``group``, ``volume``, ``slice``, ``spacing`` as far as the source names them.
        columns: all cells of its row in a table.
    """

    key: str
    image: tuple[str, ...]
    label: Label | None = None
    scribble: Label | None = None
    side: str | None = None
    folder: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The path that stands for the entry in messages."""
        return self.image[0]


@dataclass
class Source:
    """A folder that was recognised.

    Attributes:
        layout: name of the layout, as ``--layout`` takes it.
        text: what was recognised, for people.
        entries: in a fixed order.
        ordered: whether that order is the one in which training images are labelled.
        class_names: by class index, where known.
        values: classes by mask value, where the source defines other values than class indices.
        legend: names by mask value (85 or #ff0000), as a file beside the masks gives them; what it is worth shows when
            the masks are opened.
        legend_file: that file.
        problems: what is wrong with the listing.
        left_out: files that are not used, for a reason that is no fault.
    """

    layout: str
    text: str
    entries: list[Entry]
    ordered: bool = False
    class_names: dict[int, str] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)
    legend: dict[str, str] = field(default_factory=dict)
    legend_file: str = ""
    problems: list[Problem] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)


def shown(texts: Sequence[str], most: int) -> str:
    """The first of many texts, for a message."""
    return ", ".join([*texts[:most], *(["..."] if len(texts) > most else [])])


def is_reserved(name: str) -> bool:
    """Whether a label is no class of its own, however it is capitalised."""
    return name.strip().lower() in RESERVED


def classes_of(names: Mapping[Key, str], source: str) -> dict[Key, int]:
    """The class of each label by its key: 1, 2, ... in their order, but those of ``RESERVED``.

    Args:
        names: of the labels.
        source: who names them, for messages.

    Raises:
        InputError: there is none to be a class, or more than can be.
    """
    own = [key for key, name in names.items() if not is_reserved(name)]
    if not 0 < len(own) <= MOST_CLASSES:
        raise InputError(
            f"{source} {len(own)} labels beside {' and '.join(RESERVED)}, but 1 to {MOST_CLASSES} can be classes."
        )
    known = {key: k for k, key in enumerate(own, start=1)}
    return known | {key: RESERVED[name.strip().lower()] for key, name in names.items() if key not in known}


def class_names(classes: Mapping[Key, int], names: Mapping[Key, str]) -> dict[int, str]:
    """The names of the classes of :func:`classes_of`, by class, without background and what is ignored."""
    return {k: names[key] for key, k in classes.items() if 0 < k < IGNORE_INDEX}


def from_collection(collection: Collection, root: Path, layout: str, text: str) -> Source:
    """A source of what the readers of ``scripts.data.layouts`` read; images in no list of the split are left out."""
    side_of = {key: side for side, keys in collection.split.items() for key in keys}
    order = [key for keys in collection.split.values() for key in keys] or list(collection.items)
    entries = [entry_of(collection.items[key], side_of.get(key), root) for key in order]
    unused = [
        (item["image"], "in no list of the split") for key, item in collection.items.items() if key not in side_of
    ]
    return Source(layout, text, entries, collection.ordered, left_out=unused if side_of else [])


def entry_of(item: Item, side: str | None, root: Path) -> Entry:
    """The entry of an item."""
    parts = {name: item.get(name) for name in ("label", "scribble")}
    facts = {name: value for name, value in item.items() if name not in ("key", "image", "label", "scribble")}
    return Entry(
        item["key"], (item["image"],), side=side, folder=folder_below(item["image"], root), facts=facts, **parts
    )


def folder_below(image: str, root: Path) -> str:
    """The folder of an image relative to ``root``, without parts such as ``images``; empty for what lies elsewhere."""
    parent = Path(image).parent
    parts = parent.relative_to(root).parts if parent.is_relative_to(root) else ()
    return "/".join(part for part in parts if split_word(part)[1])
