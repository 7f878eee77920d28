# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Everything there is to know of a data set before it is used: what is wrong with it, and what it holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.checks import Problem, binary_scribble, entries_of, in_threads, listed_twice, mixed_255, open_item
from scripts.data.decode import Decoded
from scripts.data.exif import rotation_note
from scripts.data.files import Item
from scripts.data.listings import noted_class_names, read_json
from scripts.data.reader import IGNORE_INDEX, ImageReader, MaskReader
from scripts.data.selection import names_alike
from scripts.data.tallies import Facts, MaskTally, facts_of
from scripts.data.tolerant import SIDE_OF, all_lists, read_past_faults, shared_groups
from scripts.errors import InputError

UNKNOWN = 255  # classes, as long as their number is not known: every value of 8 bits may be one


@dataclass
class Survey:
    """What :func:`survey` found.

    Attributes:
        lists: the items of ``training``, ``unlabeled``, ``validation``, ``test`` and ``unused``.
        problems: what has to be mended.
        notes: what is worth knowing and may be meant.
        num_classes: as given, as ``datalist.json`` notes, or as the masks' values tell (then ``inferred``).
        class_names: by class, as ``datalist.json`` notes.
        tallies: the sums over the masks of each list.
        images: how often each size, kind, orientation and spacing occurs.
        duplicates: sets of images with the same pixels.
        scribbles: pixels of the scribble files (``pixels``), of their strokes by class (``strokes``); of strokes with
            a mask (``paired``), on their class of it (``agreeing``), and of these masks (``masks``).
        ordered: whether the data set pins the order of its training images.
        ignore_value: value in the mask files that is no class, beside 255.
    """

    dataset: str
    lists: dict[str, list[Item]]
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    num_classes: int = 2
    inferred: bool = False
    class_names: dict[int, str] = field(default_factory=dict)
    tallies: dict[str, MaskTally] = field(default_factory=dict)
    images: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    duplicates: int = 0
    scribbles: dict[str, int | np.ndarray] = field(default_factory=dict)
    ordered: bool = False
    ignore_value: int = IGNORE_INDEX

    def all_sizes(self, unit: str = "pixels") -> dict[int, np.ndarray]:
        """Sizes of the lesions of each class over all lists, ``unit`` being ``pixels`` or ``square_mm``."""
        found: dict[int, list] = defaultdict(list)
        for tally in self.tallies.values():
            for k, sizes in getattr(tally, unit).items():
                found[k].append(np.asarray(sizes, dtype=np.float64))
        return {k: np.concatenate(found[k]) for k in sorted(found) if k < self.num_classes}


def survey(
    dataset: str | Path,
    num_classes: int | None = None,
    in_channels: int | None = None,
    ignore_value: int | None = None,
    group_pattern: str | None = None,
    volume_pattern: str | None = None,
) -> Survey:
    """Opens every image, mask and scribble of a data set once and says everything that is wrong in one go.

    Args:
        dataset: whatever :func:`scripts.data.layouts.read_layout` reads. Images that it puts on no side are split as
            for a training.
        num_classes: the classes, background included; None takes what ``datalist.json`` notes, as ``prepare`` writes
            it, else counts the values from 0 on without a gap.
        in_channels: the network's input channels; None takes images of any number.
        ignore_value: value in the mask files that is no class, beside 255; None takes what ``datalist.json`` notes.
        group_pattern: finds the group in the name of an image.
        volume_pattern: finds the volume in the name of a slice.

    Raises:
        InputError: there is no such path, or it holds no data set, or an argument is wrong.
    """
    if num_classes is not None and not 2 <= num_classes <= 254:
        raise InputError(f"num_classes is {num_classes}: give the classes with background, 2 to 254.")
    problems: list[Problem] = []
    collection = read_past_faults(Path(dataset), group_pattern, volume_pattern, problems)
    found = Survey(str(dataset), all_lists(collection, str(dataset), problems), problems)
    found.problems += [*listed_twice(found.lists, "key"), *listed_twice(found.lists, "image")]
    found.problems += shared_groups(found.lists, collection.source or "the data list")
    if note := names_alike(collection):
        found.notes.append(Problem("names_alike", found.dataset, f"{found.dataset}: {note}"))
    listing = read_json(Path(collection.source)) if collection.source.lower().endswith(".json") else {}
    noted_classes, noted_value = _noted(listing, collection.source, problems)
    found.class_names = noted_class_names(listing)
    if ignore_value is None:
        # of more classes than are noted, the noted value may be one
        named = num_classes is not None and noted_value in range(noted_classes or num_classes, num_classes)
        ignore_value = IGNORE_INDEX if noted_value is None or named else noted_value
    num_classes = num_classes or noted_classes
    found.ordered, found.ignore_value = collection.ordered, ignore_value
    entries = list(entries_of(found.lists))
    images = ImageReader(in_channels) if in_channels else None
    _Census(found, num_classes, ignore_value).take(entries, images)
    return found


def _noted(content: Mapping[str, Any], source: str, problems: list[Problem]) -> tuple[int | None, int | None]:
    """``num_classes`` and ``ignore_value`` as the listing notes them; None where it does not, or not rightly."""
    num_classes, ignore_value = content.get("num_classes"), content.get("ignore_value")
    if num_classes is not None and (type(num_classes) is not int or not 2 <= num_classes <= 254):
        message = f"{source} notes num_classes {num_classes!r}: note the classes with background, 2 to 254."
        problems.append(Problem("layout", source, message))
        num_classes = None
    if ignore_value is not None and type(ignore_value) is not int:
        message = (
            f"{source} notes ignore_value {ignore_value!r}: note the whole number that masks hold, or leave it out."
        )
        problems.append(Problem("layout", source, message))
        ignore_value = None
    return num_classes, ignore_value


class _Census:
    """Goes through the opened files, in order, and keeps of each only what the report needs."""

    def __init__(self, found: Survey, num_classes: int | None, ignore_value: int) -> None:
        self.found, self.given, self.ignore_value = found, num_classes, ignore_value
        self.tallies = {name: (MaskTally(), MaskTally()) for name in found.lists}  # plain masks; masks of 0 and 255
        # path of a mask or scribble, which of them, the values it holds, whether it is lossy
        self.present: list[tuple[str, str, bytes, bool]] = []
        self.alike: dict[bytes, list[tuple[str, Item, bytes]]] = defaultdict(list)
        self.strokes = {name: np.zeros(256, dtype=np.int64) for name in ("strokes", "paired", "agreeing", "masks")}
        self.scribbled = self.turned = 0
        self.meanings: dict[str, str] = {}  # the first mask by what 255 is in it
        self.unclear: list[tuple[str, np.ndarray]] = []  # scribbles that two classes would make masks of

    def take(self, entries: Sequence[tuple[str, Item]], images: ImageReader | None) -> None:
        """Opens the files of all entries and completes the survey."""
        masks = MaskReader(self.given or UNKNOWN, self.ignore_value)
        scribbles = _scribbles(self.given or UNKNOWN, self.ignore_value)

        def work(entry: tuple[str, Item]) -> Facts:
            opened = open_item(entry[1], images, masks, scribbles)
            return facts_of(opened, entry[1], guess_binary=self.given is None and not self._holds_ignored(opened.label))

        for (name, item), facts in zip(entries, in_threads(work, entries, "checking files")):
            self._add(name, item, facts)
        self._settle_classes()
        self._judge()

    def _holds_ignored(self, label: Decoded | None) -> bool:
        """Whether a mask holds the ignored value, which is read as 255 and must not pass for a lesion."""
        return (
            label is not None and self.ignore_value != IGNORE_INDEX and bool((label.array == self.ignore_value).any())
        )

    def _add(self, name: str, item: Item, facts: Facts) -> None:
        found, images = self.found, self.found.images
        found.problems += facts.problems
        if facts.size is not None:
            channels, dtype, suffix = facts.kind
            images["sizes"][facts.size] += 1
            images["channels"][channels] += 1
            images["dtypes"][dtype] += 1
            images["formats"][suffix] += 1
            images["orientations"][facts.orientation] += 1
            images["spacings"][facts.spacing or "unknown"] += 1
            self.alike[facts.digest].append((name, item, facts.mask.digest if facts.mask else b""))
        if facts.mask is not None:
            self._add_mask(name, item, facts)
        if facts.scribble is not None:
            self._add_scribble(item["scribble"], facts)

    def _add_scribble(self, path: str, facts: Facts) -> None:
        self.scribbled += int(facts.scribble.sum())
        self.strokes["strokes"] += facts.scribble
        self._remember(path, "scribble", facts.scribble, False)
        if binary_scribble(path, facts.scribble, 2):
            self.unclear.append((path, facts.scribble))
        if facts.mask is not None:
            self.strokes["paired"] += facts.scribble
            self.strokes["agreeing"] += facts.agreeing
            self.strokes["masks"] += facts.mask.counts

    def _remember(self, path: str, what: str, counts: np.ndarray, lossy: bool) -> None:
        """Keeps which values a file holds until the number of classes is known."""
        if self.given is None:
            self.present.append((path, what, np.packbits(counts > 0).tobytes(), lossy))

    def _add_mask(self, name: str, item: Item, facts: Facts) -> None:
        mask = facts.mask
        self.turned += facts.turned
        self.tallies[name][mask.binary].add(mask, facts.area)
        self.meanings.setdefault(mask.meaning, item["label"])
        if not mask.binary:
            self._remember(item["label"], "mask", mask.counts, mask.lossy)
        if mask.lossy:
            message = f"The mask {item['label']} is a JPEG, whose compression blurs classes: save masks as PNG."
            self.found.notes.append(Problem("lossy_mask", item["label"], message))
        if mask.is_image:
            message = f"The mask {item['label']} has the pixels of its image {item['image']}: put the mask there."
            self.found.problems.append(Problem("mask_is_image", item["label"], message))

    def _settle_classes(self) -> None:
        """The number of classes, and the masks with other values once it is known."""
        found = self.found
        found.num_classes, found.inferred = self.given or self._count_classes(), self.given is None
        # the reader judges the values of a mask as if they were one: what it refuses it refuses in its own words
        kinds = {"mask": MaskReader, "scribble": _scribbles}
        readers = {what: reader(found.num_classes, self.ignore_value) for what, reader in kinds.items()}
        for path, what, packed, lossy in self.present:
            values = np.flatnonzero(_unpacked(packed)).astype(np.uint8)
            try:
                readers[what].convert(Decoded(values[None, None], np.eye(4), lossy=lossy), path)
            except InputError as error:
                found.problems.append(Problem(f"{what}_values", path, str(error)))
        for path, counts in self.unclear:
            found.problems += binary_scribble(path, counts, found.num_classes)
        found.problems += mixed_255(self.meanings, found.num_classes)
        for name, (plain, binary) in self.tallies.items():
            found.tallies[name] = plain.join(binary, as_binary=found.num_classes == 2)

    def _count_classes(self) -> int:
        """The values that masks hold, counted from 0 to the first that none does; at least 2."""
        held = np.zeros(256, dtype=bool)
        for packed in {packed for _, what, packed, lossy in self.present if what == "mask" and not lossy}:
            held |= _unpacked(packed)
        held[[0, IGNORE_INDEX]] = True, False
        return max(2, int(np.argmin(held)))

    def _judge(self) -> None:
        """What only shows when all files have been seen."""
        found = self.found
        found.problems += _unlearnable(found)
        found.duplicates = sum(len(same) > 1 for same in self.alike.values())
        for same in self.alike.values():
            if len(same) > 1:
                _judge_alike(same, found)
        for key, what in (("channels", "numbers of channels"), ("orientations", "orientations")):
            kinds = {str(name): count for name, count in found.images[key].items() if name != "square"}
            if len(kinds) > 1:
                message = f"The images have different {what} ({_listed(kinds)}): see that this is meant."
                found.notes.append(Problem(f"mixed_{key}", found.dataset, message))
        if self.turned:
            found.notes.append(Problem("exif_rotation", found.dataset, rotation_note(self.turned)))
        if self.scribbled:
            found.scribbles = {"pixels": self.scribbled, **self.strokes}


def _scribbles(num_classes: int, ignore_value: int) -> MaskReader:
    """The reader of scribbles, which hold the number of classes, 255 or ``ignore_value`` where there is no stroke.

    A value that fits stays as it is stored: a scribble of 0 and 9 must not pass for one of 0 and 255.
    """
    stays = 0 < ignore_value < IGNORE_INDEX
    reader = MaskReader(num_classes + 1, IGNORE_INDEX if stays else ignore_value)
    reader.known.add(ignore_value)
    return reader


def _unpacked(packed: bytes) -> np.ndarray:
    """Whether each of the 256 values is held."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8)).astype(bool)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _unlearnable(found: Survey) -> Iterator[Problem]:
    """Classes that no mask, or no training mask, holds."""
    masks = sum(tally.masks for tally in found.tallies.values())
    if not any(item.get("label") for _, item in entries_of(found.lists)):
        yield Problem("no_masks", found.dataset, f"{found.dataset} holds no mask at all: add masks.")
    elif not masks:
        return  # each of them has its own problem
    elif masks == sum(tally.empty for tally in found.tallies.values()):
        message = f"All {masks} masks of {found.dataset} are empty: nothing can be learnt or scored."
        yield Problem("all_masks_empty", found.dataset, message)
    elif found.tallies["training"].masks:
        for k in np.flatnonzero(found.tallies["training"].counts[: found.num_classes] == 0).tolist():
            message = (
                f"No training mask of {found.dataset} holds class {k}: add some, or correct the masks or num_classes."
            )
            yield Problem("absent_class", found.dataset, message)


def _judge_alike(same: Sequence[tuple[str, Item, bytes]], found: Survey) -> None:
    """Says what images of equal pixels mean: harmless copies, copies across the split, copies with other masks."""
    (_, first, _), others = same[0], same[1:]
    sides = {SIDE_OF[name]: item for name, item, _ in reversed(same) if name in SIDE_OF}
    if len(sides) > 1:
        files = " and ".join(f"{item['image']} ({side})" for side, item in sorted(sides.items(), reverse=True))
        message = f"{files} have the same pixels on two sides of the split: move them to one side or remove one."
        found.problems.append(Problem("duplicate_on_two_sides", first["image"], message))
    else:
        files = " and ".join([first["image"], *(item["image"] for _, item, _ in others)])
        message = f"{files} have the same pixels: they count twice."
        found.notes.append(Problem("duplicate", first["image"], message))
    masks = {mask: item["label"] for _, item, mask in reversed(same) if mask}
    if len(masks) > 1:
        files = " and ".join(sorted(masks.values()))
        message = f"The masks {files} differ, but their images have the same pixels: keep one of them."
        found.problems.append(Problem("duplicate_with_other_mask", first["image"], message))
