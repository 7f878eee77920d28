# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""From any dataset folder to the four lists that training and evaluation use."""

from __future__ import annotations

import logging
from pathlib import Path

from scripts import distributed
from scripts.data.files import Collection, Item
from scripts.data.layouts import read_layout
from scripts.data.pool import datalist_beside
from scripts.data.selection import (
    are_strata,
    check_sides,
    complete_split,
    labelled_count,
    names_alike,
    training_order,
)
from scripts.data.synthetic import write_synthetic_set
from scripts.errors import InputError
from scripts.hosting import handed_over

#: the part of an evaluation that is every image with a mask
ALL = "all"
#: the part of an evaluation that is the training images whose masks the training did not use
UNLABELED = "unlabeled"

logger = logging.getLogger("less_net")


def load_datalist(
    dataset_dir: str | Path | None,
    label_ratio: float = 1.0,
    seed: int = 0,
    num_classes: int = 2,
    val_share: float = 0.1,
    test_share: float = 0.2,
    synthetic_dir: str | Path | None = None,
    group_pattern: str | None = None,
    volume_pattern: str | None = None,
    annotation: str = "mask",
    without_masks: bool = False,
    part: str = "",
    label_seed: int | None = None,
) -> dict[str, list[Item]]:
    """Lists the images of a dataset folder; opens none of them.

    The layouts are those of :func:`scripts.data.layouts.read_layout`, the split that of
    :func:`scripts.data.selection.complete_split`. Where an application runs the bundle (:mod:`scripts.hosting`) and
    no folder is given, the lists are those of :func:`scripts.data.pool.datalist_beside`.

    Args:
        dataset_dir: the folder or datalist file; empty for the embedded synthetic set.
        label_ratio: up to 1, the share of the training masks that is used, from 2 on their number. The labelled images
            are the first ones of ``train`` in ``splits.json``, else of an order that ``seed`` gives.
        seed: chooses the labelled images where no order is pinned. The split does not depend on it.
        label_seed: a whole number chooses them instead, pinned or not, in an order of its own.
        num_classes: the number of classes with background; the synthetic set has two.
        val_share: share of validation images where the folder does not pin them.
        test_share: share of test images where the folder does not pin them.
        synthetic_dir: folder that holds, or will hold, the synthetic set.
        group_pattern: regular expression that finds the group (patient, video) in the name of an image.
        volume_pattern: regular expression that finds the volume in the name of a slice; see
            :func:`scripts.data.layouts.read_layout`.
        annotation: what the training images are labelled with: ``mask``, or ``scribble``, then ``label`` is the file
            of the scribble, and an image without one is unlabelled. Validation and test keep their masks.
        without_masks: a folder that holds no mask at all is a list of unlabelled images (a federated site), not an
            error.
        part: what an evaluation scores. Only this part is needed then; with ``all`` every image with a mask is of
            ``test``, however the folder is split; ``training`` and ``unlabeled`` have their masks, whatever they are
            labelled with. Empty: a training.

    Returns:
        Lists ``training``, ``unlabeled``, ``validation`` and ``test`` of items with the strings ``key``, ``group``,
        ``image`` (absolute path) and, but for ``unlabeled`` in a training, ``label``; where known also ``scribble``
        (but for ``unlabeled``), ``volume``, ``slice`` and ``spacing``.

    Raises:
        InputError: the folder or an argument is not as described; the message says what to mend.
    """
    given = None if dataset_dir else handed_over()
    if given is not None:
        return datalist_beside(given)
    annotated = _labelling_part(annotation)
    if isinstance(label_seed, bool) or not isinstance(label_seed, int | None):
        raise InputError(f"label_seed is {label_seed!r}: give a whole number, or leave it out.")
    with distributed.main_first():
        folder = Path(dataset_dir) if dataset_dir else embedded_set(synthetic_dir, num_classes)
    collection = read_layout(folder, group_pattern, volume_pattern)
    check_classes(collection, num_classes)
    if without_masks and not any("label" in item for item in collection.items.values()):
        return {"training": [], "unlabeled": list(collection.items.values()), "validation": [], "test": []}
    if part == ALL:
        return {"training": [], "unlabeled": [], "validation": [], "test": _masked(collection, folder)}
    for needed, what in (("label", "mask"), *([] if part else [(annotated, annotation)])):
        if not any(needed in item for item in collection.items.values()):
            raise InputError(f"{folder} holds no {what} at all: add {what}s for at least four images.")
    drawn = sum("scribble" in item for item in collection.items.values())
    if drawn and annotation == "mask" and not part:
        logger.warning("%s: its %d scribbles are not used: --annotation scribble learns from them.", folder, drawn)
    if note := names_alike(collection):
        logger.warning("%s: %s", folder, note)
    if part and not collection.split:
        logger.info("%s pins no split, so one is drawn: --part all scores every image with a mask instead.", folder)
    sides = complete_split(collection, val_share, test_share)
    if collection.split and are_strata(sides):
        logger.warning(
            "%s: most groups lie in train, val and test alike, so they are taken as kinds of images, not as patients. "
            "If they are patients, remove the pinned split to have it made by group.",
            collection.source,
        )
        sides = {side: [item | {"group": item["key"]} for item in items] for side, items in sides.items()}
    check_sides(sides, collection.source)
    for item in sides["val"] + sides["test"]:
        if "label" not in item:
            raise InputError(f"{item['image']} is a validation or test image without a mask: add one or remove it.")
    if not part and not any(annotated in item for item in sides["train"]):
        raise InputError(
            f"{collection.source} names no image to train on: add training images, or evaluate on these by "
            "configs/evaluate.json with --part all."
        )
    chosen: dict[str, list[Item]] = {"training": [], "unlabeled": []}
    if any(annotated in item for item in sides["train"]):
        pinned = collection.ordered and label_seed is None
        order = training_order(sides["train"], pinned, seed if label_seed is None else label_seed)
        chosen = _choose_labelled(order, label_ratio, annotated)
        if part in chosen:  # scores are of masks, also where the training used scribbles or left masks out
            keys = {item["key"] for item in chosen[part]}
            chosen[part] = [item for item in order if item["key"] in keys and "label" in item]
    datalist = chosen | {"validation": sides["val"], "test": sides["test"]}
    unused = len(collection.items) - sum(map(len, datalist.values()))
    if unused:
        logger.info("%s: %d images are not used (in no list, or without a mask in a held-out group).", folder, unused)
    logger.info("%s: %s", folder, ", ".join(f"{len(items)} {name}" for name, items in datalist.items()))
    return datalist


def _masked(collection: Collection, folder: Path) -> list[Item]:
    """The images that have a mask.

    Raises:
        InputError: none has.
    """
    items = [item for item in collection.items.values() if "label" in item]
    if not items:
        raise InputError(f"{folder} holds no mask at all: add the masks to score against.")
    logger.info("%s: all %d images with a mask, whatever list they are in", folder, len(items))
    return items


def check_classes(collection: Collection, num_classes: int) -> None:
    """Refuses a listing that notes more than ``num_classes`` classes, the background included.

    Raises:
        InputError: with the number to pass.
    """
    if collection.num_classes > num_classes:
        raise InputError(
            f"{collection.source} has {collection.num_classes} classes, but num_classes is {num_classes}: pass "
            f"--num_classes {collection.num_classes}."
        )


def _labelling_part(annotation: str) -> str:
    """The entry of an item that labels it for training."""
    parts = {"mask": "label", "scribble": "scribble"}
    if annotation not in parts:
        raise InputError(f"annotation is {annotation!r}: give mask or scribble.")
    return parts[annotation]


def _choose_labelled(train: list[Item], label_ratio: float, part: str) -> dict[str, list[Item]]:
    """The labelled training images, whose ``label`` is their ``part``, and all the others without annotation."""
    usable = [item for item in train if part in item]
    chosen = usable[: labelled_count([item["group"] for item in usable], label_ratio)]
    keys = {item["key"] for item in chosen}
    bare = [
        {name: value for name, value in item.items() if name not in ("label", "scribble")}
        for item in train
        if item["key"] not in keys
    ]
    return {"training": [item | {"label": item[part]} for item in chosen], "unlabeled": bare}


def embedded_set(folder: str | Path | None, num_classes: int = 2) -> Path:
    """The folder of the embedded synthetic set, which is written on first use.

    Raises:
        InputError: no folder is given, or another number of classes than two is wanted.
    """
    if not folder:
        raise InputError("dataset_dir is empty: give a dataset folder, or synthetic_dir to have the synthetic set.")
    if num_classes != 2:
        raise InputError(
            f"num_classes is {num_classes}, but the synthetic set has 2: give dataset_dir or num_classes 2."
        )
    if not (Path(folder) / "pairs.csv").is_file():
        logger.info("No dataset_dir given: writing the embedded synthetic set to %s.", folder)
        return write_synthetic_set(folder)
    logger.info("No dataset_dir given: using the embedded synthetic set in %s.", folder)
    return Path(folder)
