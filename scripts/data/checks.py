# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The check of all data before training: every problem of every file, in one report."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from scripts.data.files import Item
from scripts.data.reader import ImageReader, MaskReader
from scripts.data.selection import check_sides
from scripts.errors import InputError

logger = logging.getLogger("less_net")

LISTS = ("training", "unlabeled", "validation", "test")
LISTED = 5
PATIENCE = 2.0  # seconds after which a progress bar appears


def check_datalist(datalist: Mapping[str, Sequence[Item]], num_classes: int = 2, channels: int = 3) -> None:
    """Opens every image, and every mask that will be used, before anything is trained.

    The masks of unlabelled images are not opened. Decoding runs in threads.

    Args:
        datalist: the lists of :func:`scripts.data.load_datalist`.
        num_classes: the classes, background included.
        channels: the network's input channels.

    Raises:
        InputError: one message with up to five problems and the count of the others: unreadable file, image and mask
            of different size, value outside the classes, key or image twice, group on two sides, missing mask, fewer
            than two labelled images, no validation image.
    """
    datalist = {name: [_named(item) for item in datalist.get(name) or []] for name in LISTS}
    _check_lists(datalist)
    problems, pixels = _open_all(datalist, num_classes, channels)
    _refuse(problems)
    for index in range(1, num_classes):
        if not pixels[index]:
            logger.warning("No labelled training mask holds class %d: it cannot be learnt from these labels.", index)


def _named(item: Item) -> Item:
    """The item with a key and a group, which lists made by others need not have."""
    return {"key": item["image"], "group": item["image"], **item}


def check_images(items: Sequence[Item], num_classes: int | None = None, channels: int = 3) -> None:
    """Opens the images of one list, and with ``num_classes`` their masks, before they are evaluated or predicted.

    Raises:
        InputError: one message with up to five problems, as :func:`check_datalist`.
    """
    name = "unlabeled" if num_classes is None else "test"
    _refuse(_open_all({name: items}, num_classes or 2, channels)[0])


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - LISTED} more." if len(problems) > LISTED else "."
        raise InputError("; ".join(problem.rstrip(".") for problem in problems[:LISTED]) + more)


def _check_lists(datalist: Mapping[str, Sequence[Item]]) -> None:
    labelled = datalist["training"]
    if len(labelled) < 2:
        raise InputError(
            f"There are {len(labelled)} labelled training images, but 2 are needed: add masks or raise label_ratio."
        )
    if not datalist["validation"]:
        raise InputError("There are no validation images: name some in the data list or the split.")
    for name in ("key", "image"):
        seen: dict[str, Item] = {}
        for _, item in _entries(datalist):
            other = seen.setdefault(item[name], item)
            if other is not item:
                raise InputError(
                    f"The {name} '{item[name]}' is listed twice ({other['image']}, {item['image']}): keep one."
                )
    train = [*labelled, *datalist["unlabeled"]]
    sides = {"training": train, "validation": datalist["validation"], "test": datalist["test"]}
    check_sides(sides, "the data list")


def _entries(datalist: Mapping[str, Sequence[Item]]) -> Iterator[tuple[str, Item]]:
    for name in LISTS:
        for item in datalist.get(name) or []:
            yield name, item


def _open_all(datalist: Mapping[str, Sequence[Item]], num_classes: int, channels: int) -> tuple[list[str], np.ndarray]:
    """The problems, and the pixels of each class in the labelled training masks."""
    images, masks = ImageReader(channels), MaskReader(num_classes)
    pixels = np.zeros(256, dtype=np.int64)

    def open_pair(entry: tuple[str, Item]) -> str | np.ndarray | None:
        name, item = entry
        try:
            shape = images.get_data(item["image"])[0].shape[1:]
            return None if name == "unlabeled" else _mask_pixels(item, shape, masks)
        except InputError as error:
            return str(error)

    entries = list(_entries(datalist))
    problems = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = tqdm(pool.map(open_pair, entries), "checking images", len(entries), delay=PATIENCE, leave=False)
        for (name, _), result in zip(entries, results):
            if isinstance(result, str):
                problems.append(result)
            elif name == "training":
                pixels += result
    return problems, pixels


def _mask_pixels(item: Item, shape: tuple[int, ...], masks: MaskReader) -> np.ndarray:
    if not item.get("label"):
        raise InputError(f"{item['image']} has no mask: add one or move the image to 'unlabeled'.")
    mask = masks.get_data(item["label"])[0]
    if mask.shape[1:] != shape:
        sizes = f"{shape[0]} x {shape[1]} pixels, but its mask {item['label']} {mask.shape[1]} x {mask.shape[2]}"
        raise InputError(f"{item['image']} has {sizes}: replace one of them.")
    return np.bincount(mask.ravel(), minlength=256)
