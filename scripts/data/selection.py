# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Who is on which side: group-wise splits, and the choice of the labelled images.

Both are functions of names, not of counts or of a random state: the order is that of a hash. A larger label ratio
therefore keeps the labelled images of a smaller one, and the validation and test images do not depend on the seed, so
that a run evaluated with another seed is never scored on images it was trained on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from scripts.data.files import Collection, Item
from scripts.errors import InputError

logger = logging.getLogger("less_net")

NAME_START = re.compile(r"^(.*?\d[^ _.-]*)[ _.-]")


def hash_order(names: list[str] | set[str], salt: str) -> list[str]:
    """The names in the order of their SHA-256 hash with ``salt``: the same anywhere, and stable under additions."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest())


def complete_split(
    collection: Collection,
    val_share: float,
    test_share: float,
    seed: int = 0,
    classes: Mapping[str, set[int]] | None = None,
) -> dict[str, list[Item]]:
    """The items of ``train``, ``val`` and ``test``, pinned by the folder as far as it goes.

    * Pinned lists, but none to train on (the data of another hospital): as they are, for an evaluation.
    * Nothing pinned: whole groups go to test and to validation until their share of the masks is reached.
    * A pinned validation list without a test list: half of its groups become the test list, so that no image is both
      selected on and reported. Training stays as pinned.
    * No validation list: its share is taken from the training list.

    Images without mask stay in ``train``, except those of a group that is held out: they are left out.

    Args:
        collection: what the folder holds.
        val_share: share of the images with mask for validation, between 0 and 1.
        test_share: the same for test.
        seed: of the order in which groups are taken.
        classes: the classes in the mask of each item, by key. Where they are known, test and validation each get a
            group with every class, as long as another group with that class stays for the others.

    Raises:
        InputError: the shares are out of range, or there are too few images or groups with masks.
    """
    if not (0 < val_share and 0 < test_share and val_share + test_share < 1):
        raise InputError(f"val_share {val_share} and test_share {test_share} must be positive and sum to less than 1.")
    sides = {name: [collection.items[key] for key in keys] for name, keys in collection.split.items()}
    val, test = sides.get("val", []), sides.get("test", [])
    train = sides.get("train", []) if sides else list(collection.items.values())
    if sides and not any("label" in item or "scribble" in item for item in train):
        return {"train": train, "val": val, "test": test}
    if val and not test:
        val, test = _carve(val, 0.5, "test", 1, seed, classes)
        logger.warning("%s: no test list, so %d validation images are kept for testing.", collection.source, len(test))
    elif not test:
        train, test = _carve(train, test_share, "test", 3, seed, classes)
    if not val:
        train, val = _carve(train, val_share / (1 - test_share), "validation", 2, seed, classes)
    return {"train": train, "val": val, "test": test}


def _carve(
    items: list[Item], share: float, purpose: str, keep: int, seed: int, classes: Mapping[str, set[int]] | None
) -> tuple[list[Item], list[Item]]:
    """Moves whole groups, together about ``share`` of the masks, out of ``items``; ``keep`` masks stay at least."""
    sizes: dict[str, int] = defaultdict(int)
    for item in items:
        sizes[item["group"]] += "label" in item
    groups = hash_order({group for group, size in sizes.items() if size}, f"split {seed}" if seed else "split")
    total = sum(sizes.values())
    holders = _Holders(items, classes or {}, max(1, keep - 1))
    quota = max(1, round(share * total))
    taken = holders.one_of_each(groups, sizes, quota)
    count = sum(sizes[group] for group in taken)
    for group in groups:
        if group not in taken and count + sizes[group] <= quota and holders.spares(group, taken):
            taken.add(group)
            count += sizes[group]
    if not taken and groups:
        taken = {min(groups, key=lambda group: sizes[group])}
        count = sum(sizes[group] for group in taken)
    if total - count < keep or not taken:
        raise InputError(
            f"{total} images with a mask, in {len(groups)} groups, are too few to take {purpose} images from: give at "
            "least four masks (two to train on, one to validate, one to test) from three groups or patients."
        )
    held_out = [item for item in items if item["group"] in taken]
    return [item for item in items if item["group"] not in taken], [item for item in held_out if "label" in item]


class _Holders:
    """Which groups hold which class, where that is known; ``stay`` groups of each class are wanted for other sides."""

    def __init__(self, items: list[Item], classes: Mapping[str, set[int]], stay: int) -> None:
        self.groups: dict[int, set[str]] = defaultdict(set)
        self.classes: dict[str, set[int]] = defaultdict(set)
        self.stay = stay
        for item in items:
            for index in classes.get(item["key"], ()) if "label" in item else ():
                self.groups[index].add(item["group"])
                self.classes[item["group"]].add(index)

    def spares(self, group: str, taken: set[str], stay: int = 0) -> bool:
        """Whether enough others hold every class of the group when the group is taken as well."""
        stay = stay or self.stay
        return all(len(self.groups[index] - taken - {group}) >= stay for index in self.classes[group])

    def one_of_each(self, groups: list[str], sizes: Mapping[str, int], quota: int) -> set[str]:
        """Groups that together hold every class, rare classes first; of the able ones the first that fits the quota."""
        taken: set[str] = set()
        for index in sorted(self.groups, key=lambda index: (len(self.groups[index]), index)):
            if self.groups[index] & taken:
                continue
            holders = [group for group in groups if group in self.groups[index]]
            able = [group for group in holders if self.spares(group, taken)]
            able = able or [group for group in holders if self.spares(group, taken, 1)]
            room = quota - sum(sizes[group] for group in taken)
            fitting = next((group for group in able if sizes[group] <= room), None)
            if able:
                taken.add(fitting or min(able, key=lambda group: sizes[group]))
        return taken


def shared_starts(names: Sequence[str]) -> list[str]:
    """How names begin, up to the first piece with a number (``patient001`` of ``patient001_frame01``), sorted.

    Empty unless all names begin so and several share a beginning: then these may be patients or videos.
    """
    starts = {match.group(1) if (match := NAME_START.match(name)) else "" for name in names}
    return sorted(starts) if "" not in starts and 1 < len(starts) < len(names) else []


def names_alike(collection: Collection) -> str:
    """What is to be told of names that look like several images a patient, where nothing tells the groups; else ""."""
    alone = not collection.split and all(item["group"] == key for key, item in collection.items.items())
    starts = shared_starts(list(collection.items)) if alone else []
    if not starts:
        return ""
    return (
        f"the names of its {len(collection.items)} images begin in {len(starts)} ways ({', '.join(starts[:3])}, ...), "
        "but each image is split on its own: if that is one patient or video, add --group_pattern "
        f"'{NAME_START.pattern}', or scores will be too good."
    )


def check_sides(sides: dict[str, list[Item]], source: str) -> None:
    """Sees to it that no group (patient, video, set of duplicates) is on two sides.

    Raises:
        InputError: a group is on two sides.
    """
    side_of: dict[str, str] = {}
    for side, items in sides.items():
        for item in items:
            other = side_of.setdefault(item["group"], side)
            if other != side:
                raise InputError(
                    f"The group '{item['group']}' is in both {other} and {side} ({item['image']}): move all its images "
                    f"to one side in {source or 'the data list'}."
                )


def are_strata(sides: dict[str, list[Item]]) -> bool:
    """Whether the groups of a pinned split are kinds of images (scanner, stain) rather than patients.

    So they are if they are few and large (at most 20, at least 50 images each on average) and 90 % of all images are
    of groups that are on all of the three sides: the split was stratified by them.
    """
    on: dict[str, set[str]] = defaultdict(set)
    for side, items in sides.items():
        for item in items:
            on[item["group"]].add(side)
    everything = [item for items in sides.values() for item in items]
    everywhere = sum(len(on[item["group"]]) == 3 for item in everything)
    return len(on) <= 20 and len(everything) >= 50 * len(on) and everywhere >= 0.9 * len(everything)


def training_order(items: list[Item], pinned: bool, seed: int) -> list[Item]:
    """The training images in the order in which they are labelled: as pinned, else whole groups by hash with seed."""
    if pinned:
        return items
    by_group: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_group[item["group"]].append(item)
    return [item for group in hash_order(set(by_group), f"label {seed}") for item in by_group[group]]


def labelled_count(groups: list[str], label_ratio: float) -> int:
    """How many of the leading training images are labelled.

    A ratio up to 1 is a share, rounded up: of the groups, if they come in one piece each and hold two images or more
    on average (slices of a patient), else of the images. A whole number from 2 on is a count of images.

    Args:
        groups: the group of every training image with a mask, in the pinned order.
        label_ratio: the share or the count.

    Raises:
        InputError: the value is neither, or chooses more images than there are, or fewer than two.
    """
    total = len(groups)
    if total < 2:
        raise InputError(f"{total} training images have a mask, but at least 2 are needed: add masks.")
    if isinstance(label_ratio, bool) or not isinstance(label_ratio, (int, float)) or not label_ratio > 0:
        raise InputError(f"label_ratio {label_ratio!r} must be a share above 0 up to 1, or a count from 2 on.")
    if label_ratio > 1:
        count = int(label_ratio) if float(label_ratio).is_integer() else -1
        if not 2 <= count <= total:
            raise InputError(
                f"label_ratio {label_ratio} is out of range: give a share up to 1, or a count of 2 to {total}."
            )
        return count
    starts = [index for index, group in enumerate(groups) if index == 0 or groups[index - 1] != group]
    by_group = len(starts) == len(set(groups)) and total >= 2 * len(starts)
    # Rounded first: 0.07 * 100 is 7.000000000000001 and would count as 8.
    wanted = math.ceil(round(label_ratio * (len(starts) if by_group else total), 6))
    count = [*starts, total][wanted] if by_group else wanted
    if count < 2:
        raise InputError(
            f"label_ratio {label_ratio} of {total} training masks leaves fewer than 2 labelled images: raise it."
        )
    return count
