# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The check of all data before training: every problem of every file, in one report."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from scripts.data.decode import Decoded, decode
from scripts.data.exif import size_mend
from scripts.data.files import Item
from scripts.data.reader import IGNORE_INDEX, ImageReader, MaskReader
from scripts.data.selection import check_sides
from scripts.errors import InputError

logger = logging.getLogger("less_net")

LISTS = ("training", "unlabeled", "validation", "test")
LISTED = 5
PATIENCE = 2.0  # seconds after which a progress bar appears
CHUNK = 16  # items a thread takes at once: fewer hand-overs, still a steady progress bar

Entry, Result = TypeVar("Entry"), TypeVar("Result")


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file: a ``kind`` to group by, the file, and a sentence that names it and the mend."""

    kind: str
    file: str
    message: str


@dataclass
class Opened:
    """The files of one item as they were found.

    Attributes:
        problems: what is wrong with them; a part that could not be read is None below.
        image: the image as stored.
        label: the mask as stored, a palette as indices.
        classes: the mask (X, Y) as uint8 class indices, 255 where ignored.
        scribble: the same for the scribble.
    """

    problems: list[Problem] = field(default_factory=list)
    image: Decoded | None = None
    label: Decoded | None = None
    classes: np.ndarray | None = None
    scribble: np.ndarray | None = None


def check_datalist(
    datalist: Mapping[str, Sequence[Item]], num_classes: int = 2, channels: int = 3, ignore_value: int = IGNORE_INDEX
) -> None:
    """Opens every image, and every mask that will be used, before anything is trained.

    The masks of unlabelled images are not opened. Decoding runs in threads.

    Args:
        datalist: the lists of :func:`scripts.data.load_datalist`.
        num_classes: the classes, background included.
        channels: the network's input channels.
        ignore_value: value in the mask files that is no class, beside 255.

    Raises:
        InputError: one message with up to five problems and the count of the others: unreadable file, image and mask
            of different size, value outside the classes, key or image twice, group on two sides, missing mask, fewer
            than two labelled images, no validation image, no mask with any class but the background.
    """
    datalist = {name: [_named(item) for item in datalist.get(name) or []] for name in LISTS}
    _check_lists(datalist)
    problems, pixels = _open_all(datalist, num_classes, channels, ignore_value)
    _refuse(problems)
    _require_classes(pixels, num_classes, datalist["training"][0]["label"])
    for index in range(1, num_classes):
        if not pixels["training"][index]:
            logger.warning("No labelled training mask holds class %d: it cannot be learnt from these labels.", index)


def _require_classes(pixels: Mapping[str, np.ndarray], num_classes: int, mask: str) -> None:
    """Refuses masks of which none, for training or held out, holds a class to be learnt; ``mask`` is one of them.

    The training masks alone may hold none, as a few that ``label_ratio`` chose do where lesions are rare: what is held
    out then tells that the values are read rightly, and a warning is enough.
    """
    held = sum(pixels.values())
    if held[1:num_classes].any():
        return
    if held[IGNORE_INDEX] and num_classes > 2:
        raise InputError(
            f"The masks, such as {mask}, hold 0 and 255, but with num_classes {num_classes} 255 is ignored, so no "
            "class is left to learn: pass --num_classes 2."
        )
    raise InputError(
        f"All masks, such as {mask}, are empty, so nothing can be learnt: see that they are the right files, and let "
        "'python -m bundle check' say what they hold."
    )


def _named(item: Item) -> Item:
    """The item with a key and a group, which lists made by others need not have."""
    return {"key": item["image"], "group": item["image"], **item}


def check_images(
    items: Sequence[Item], num_classes: int | None = None, channels: int = 3, ignore_value: int = IGNORE_INDEX
) -> None:
    """Opens the images of one list, and with ``num_classes`` their masks, before they are evaluated or predicted.

    Raises:
        InputError: one message with up to five problems, as :func:`check_datalist`.
    """
    name = "unlabeled" if num_classes is None else "test"
    _refuse(_open_all({name: items}, num_classes or 2, channels, ignore_value)[0])


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
        for problem in listed_twice(datalist, name):
            raise InputError(problem.message)
    train = [*labelled, *datalist["unlabeled"]]
    sides = {"training": train, "validation": datalist["validation"], "test": datalist["test"]}
    check_sides(sides, "the data list")


def listed_twice(datalist: Mapping[str, Sequence[Item]], name: str) -> Iterator[Problem]:
    """A problem for every item whose ``name`` (``key`` or ``image``) another one before it has."""
    seen: dict[str, Item] = {}
    for _, item in entries_of(datalist):
        other = seen.setdefault(item[name], item)
        if other is not item:
            message = f"The {name} '{item[name]}' is listed twice ({other['image']}, {item['image']}): keep one."
            yield Problem(f"duplicate_{name}", item["image"], message)


def entries_of(datalist: Mapping[str, Sequence[Item]]) -> Iterator[tuple[str, Item]]:
    """The items of all lists in a fixed order, each with the name of its list."""
    for name, items in datalist.items():
        for item in items:
            yield name, item


def _open_all(
    datalist: Mapping[str, Sequence[Item]], num_classes: int, channels: int, ignore_value: int
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The problems, and the pixels of each class in the masks of each list."""
    images, masks = ImageReader(channels), MaskReader(num_classes, ignore_value)

    def open_pair(entry: tuple[str, Item]) -> tuple[list[Problem], np.ndarray | None, str]:
        name, item = entry
        meaning = ""
        opened = open_item(item, images, None if name == "unlabeled" else masks)
        if name != "unlabeled" and not item.get("label"):
            message = f"{item['image']} has no mask: add one or move the image to 'unlabeled'."
            opened.problems.append(Problem("no_mask", item["image"], message))
        if opened.classes is not None and item["label"] == item.get("scribble"):
            stored = class_counts(opened.label.array.astype(np.uint8))
            opened.problems += binary_scribble(item["label"], stored, num_classes)
        elif opened.classes is not None:
            meaning = meaning_of_255(opened.label)
        return opened.problems[:1], None if opened.classes is None else class_counts(opened.classes), meaning

    entries = list(entries_of(datalist))
    messages, pixels = [], {name: np.zeros(256, dtype=np.int64) for name in datalist}
    meanings: dict[str, str] = {}
    for (name, item), (problems, counts, meaning) in zip(entries, in_threads(open_pair, entries, "checking images")):
        messages += [problem.message for problem in problems]
        if counts is not None:
            pixels[name] += counts
            meanings.setdefault(meaning, item["label"])
    return messages + [problem.message for problem in mixed_255(meanings, num_classes)], pixels


def in_threads(function: Callable[[Entry], Result], entries: Sequence[Entry], title: str) -> Iterator[Result]:
    """``map`` in threads with a progress bar, in order; few results wait at a time, so that memory stays flat.

    Decoders release Python's lock, so threads use all cores and nothing need be copied between processes.
    """

    def work(chunk: Sequence[Entry]) -> list[Result]:
        return [function(entry) for entry in chunk]

    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[list[Result]]] = deque()
    bar = tqdm(desc=title, total=len(entries), delay=PATIENCE, leave=False, unit="image")
    with bar, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(entries), CHUNK):
            waiting.append(pool.submit(work, entries[start : start + CHUNK]))
            if len(waiting) > 2 * workers:
                yield from _shown(waiting.popleft(), bar)
        while waiting:
            yield from _shown(waiting.popleft(), bar)


def _shown(future: Future[list[Result]], bar: tqdm) -> list[Result]:
    results = future.result()
    bar.update(len(results))
    return results


def binary_scribble(path: str, counts: np.ndarray, num_classes: int) -> list[Problem]:
    """A problem if a scribble of two classes (pixels of each of the 256 values) holds 0 and 255 alone, or 255 alone.

    :class:`~scripts.data.reader.MaskReader` would take it for a binary mask: lesion wherever nobody drew.
    """
    if num_classes != 2 or not counts[IGNORE_INDEX] or counts[1:IGNORE_INDEX].any():
        return []
    message = (
        f"The scribble {path} holds no value but 0 and 255, which is how a mask says lesion: store 2 where nobody drew "
        "and pass --ignore_value 2, or let 'python -m bundle prepare' write the set."
    )
    return [Problem("scribble_values", path, message)]


def meaning_of_255(mask: Decoded) -> str:
    """What 255 is in a mask of two classes: "lesion" beside nothing but 0, "ignored" beside 1, else ""."""
    values = mask.array[0]
    if mask.lossy or not (values == IGNORE_INDEX).any():  # the blur of a JPEG holds every value
        return ""
    if (values == 1).any():
        return "ignored"
    return "" if ((values != 0) & (values != IGNORE_INDEX)).any() else "lesion"


def mixed_255(masks: Mapping[str, str], num_classes: int) -> list[Problem]:
    """A problem if 255 is ignored in some masks of two classes, but a lesion in others; one mask by its meaning.

    So it is where a border is ignored, as in Pascal VOC: it would be a lesion wherever there is none.
    """
    if num_classes != 2 or not {"ignored", "lesion"} <= masks.keys():
        return []
    message = (
        f"The mask {masks['ignored']} holds 1 and 255, which is ignored there, but {masks['lesion']} holds 255 without "
        "1, which is class 1: let 'python -m bundle prepare' write the set, so that 255 is ignored in all masks."
    )
    return [Problem("mixed_255", masks["lesion"], message)]


def class_counts(classes: np.ndarray) -> np.ndarray:
    """Pixels of each of the 256 values."""
    return np.bincount(classes.ravel(), minlength=256)


def open_item(
    item: Item, images: ImageReader | None, masks: MaskReader | None, scribbles: MaskReader | None = None
) -> Opened:
    """Opens the files of one item once and says all that is wrong with each of them.

    Args:
        item: its ``image`` is opened, its ``label`` with ``masks``, its ``scribble`` with ``scribbles``.
        images: the reader the image must suit; without one any number of channels does.
        masks: the reader the mask must suit; without one it is not opened.
        scribbles: the same for the scribble.
    """
    opened = Opened()
    opened.image = _decoded(item["image"], False, opened.problems)
    if opened.image is not None:
        _check_image(opened.image, item["image"], images, opened.problems)
    if masks is not None and item.get("label"):
        opened.label = _decoded(item["label"], True, opened.problems)
        opened.classes = _read_classes(opened.label, item["label"], "mask", item, masks, opened)
    if scribbles is not None and item.get("scribble"):
        strokes = _decoded(item["scribble"], True, opened.problems)
        opened.scribble = _read_classes(strokes, item["scribble"], "scribble", item, scribbles, opened)
    return opened


def _decoded(path: str, indices: bool, problems: list[Problem]) -> Decoded | None:
    try:
        return decode(path, indices)
    except InputError as error:
        problems.append(Problem("unreadable" if Path(path).exists() else "missing", path, str(error)))
    return None


def _check_image(image: Decoded, path: str, images: ImageReader | None, problems: list[Problem]) -> None:
    """Lets the reader judge the values, of which one pixel is enough unless a value can be NaN."""
    finite = image.array.dtype.kind != "f" or bool(np.isfinite(image.array).all())
    if finite and images is None:
        return
    try:
        judged = replace(image, array=image.array[:, :1, :1]) if finite else image
        (images or ImageReader(len(image.array))).convert(judged, path)
    except InputError as error:
        problems.append(Problem("channels" if finite else "nan", path, str(error)))


def _read_classes(
    mask: Decoded | None, path: str, what: str, item: Item, reader: MaskReader, opened: Opened
) -> np.ndarray | None:
    """The mask as classes (X, Y), unless it cannot be read, does not fit the classes or does not fit the image."""
    if mask is None:
        return None
    try:
        classes = reader.convert(mask, path)[0]
    except InputError as error:
        opened.problems.append(Problem(f"{what}_values", path, str(error)))
        return None
    if opened.image is None or classes.shape == opened.image.array.shape[1:]:
        return classes
    size = width, height = opened.image.array.shape[1:]
    across, down = classes.shape
    mend = size_mend(size, opened.image.orientation, classes.shape)
    sizes = f"{width} x {height} pixels, but its {what} {path} {across} x {down}"
    opened.problems.append(Problem("size", item["image"], f"{item['image']} has {sizes}: {mend}."))
    return None
