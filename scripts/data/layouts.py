# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Dataset folders: finds out which of the four layouts a folder has and reads it without opening any image."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from scripts.data.files import Collection, Item, absolute, collect, images_by_stem, is_image, stem
from scripts.data.listings import read_datalist_json, read_pairs_csv, read_splits_json
from scripts.errors import InputError

DATALIST_NAMES = ("datalist.json", "dataset.json")
PAIRS = "pairs.csv"
VOC_LISTS = Path("ImageSets/Segmentation")

logger = logging.getLogger("less_net")


def read_layout(
    dataset_dir: str | Path, group_pattern: str | None = None, volume_pattern: str | None = None
) -> Collection:
    """Reads a dataset folder of any of the four layouts.

    Looked for in this order, the most explicit first: ``pairs.csv`` (with or without ``splits.json``), a MONAI
    datalist (``dataset_dir`` is a ``.json`` file, or holds ``datalist.json`` or ``dataset.json``), Pascal VOC
    (``JPEGImages``, here or below ``VOCdevkit``), ``images`` and ``masks``.

    Args:
        dataset_dir: the folder, or the datalist file.
        group_pattern: a regular expression; what it finds in an image's stem (its first group, if it has one) is the
            group (patient, video) of images for which the folder names none. By default each is its own group, and
            the slices of a volume are one.
        volume_pattern: the same for the volume of slices, such as ``(.*)_slice_\\d+``; the index of a slice is the
            number at the end of its stem.

    Raises:
        InputError: there is no such folder, it has none of the layouts, or a pattern finds nothing in it.
    """
    return named_groups(named_volumes(read_listing(dataset_dir), volume_pattern), group_pattern)


def read_listing(dataset_dir: str | Path) -> Collection:
    """:func:`read_layout` without patterns: groups and volumes are those that the folder names.

    Raises:
        InputError: there is no such folder, or it has none of the layouts.
    """
    path = absolute(dataset_dir)
    if path.is_file() and path.suffix.lower() == ".json":
        return read_datalist_json(path)
    if path.is_dir():
        return _read_folder(path)
    raise InputError(f"The dataset folder {path} does not exist: correct dataset_dir.")


def _read_folder(path: Path) -> Collection:
    if (path / PAIRS).is_file():
        return read_pairs_csv(path)
    for name in DATALIST_NAMES:
        if (path / name).is_file():
            return read_datalist_json(path / name)
    voc = find_voc(path)
    if voc is not None:
        return read_voc(voc)
    if (path / "images").is_dir():
        return read_images_and_masks(path)
    raise InputError(
        f"{path} is not a dataset folder: it needs images/ and masks/, or pairs.csv, or datalist.json, or the Pascal "
        "VOC folders JPEGImages/ and SegmentationClass/; 'python -m bundle prepare' reads many other layouts."
    )


def is_listed(dataset_dir: str | Path) -> bool:
    """Whether a file names the images: ``dataset_dir`` is a datalist, or holds one or ``pairs.csv``."""
    path = absolute(dataset_dir)
    if path.is_file():
        return path.suffix.lower() == ".json"
    return any((path / name).is_file() for name in (PAIRS, *DATALIST_NAMES))


def named_groups(collection: Collection, group_pattern: str | None) -> Collection:
    """The collection with a group for every item: its own, else what ``group_pattern`` finds, its volume, its key.

    Raises:
        InputError: see :func:`found_by`.
    """
    found = _found_without("group", collection, group_pattern)
    for key, item in collection.items.items():
        if not item.get("group"):
            item["group"] = found.get(key) or item.get("volume") or key
    return collection


def named_volumes(collection: Collection, volume_pattern: str | None) -> Collection:
    """The collection with ``volume`` and ``slice`` for the items in whose key ``volume_pattern`` finds a volume.

    Raises:
        InputError: see :func:`found_by`; or no number ends the key of a slice.
    """
    for key, volume in _found_without("volume", collection, volume_pattern).items():
        item = collection.items[key]
        number = re.search(r"\d+$", item["key"])
        if number is None:
            raise InputError(
                f"volume_pattern finds the volume '{volume}' in '{item['key']}', but no number ends that name, so the "
                "order of the slices is unknown: rename the slices or drop volume_pattern."
            )
        item |= {"volume": volume, "slice": str(int(number.group()))}
    return collection


def _found_without(fact: str, collection: Collection, pattern: str | None) -> dict[str, str]:
    """What the pattern of a fact, ``group`` or ``volume``, finds in the keys of the items that lack it.

    It may find nothing where no image is annotated, as at a federated site: what is not split leaks nowhere.
    """
    items = collection.items
    annotated = any("label" in item or "scribble" in item for item in items.values())
    lacking = [key for key, item in items.items() if not item.get(fact)]
    return found_by(pattern, lacking, f"{fact}_pattern", annotated)


def found_by(pattern: str | None, keys: Sequence[str], option: str, needed: bool = True) -> dict[str, str]:
    """What a pattern finds, by key: its first group if it has one, else all of it; warns where some keys hold nothing.

    Raises:
        InputError: it is no regular expression, or, where it is ``needed``, finds nothing in any of the keys: a pattern
            with a slip would have the images of a patient on several sides.
    """
    if not pattern:
        return {}
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:  # a pattern of digits alone arrives as a number
        raise InputError(f"{option} '{pattern}' is not a regular expression ({error}): correct it.") from None
    matches = {key: compiled.search(key) for key in keys}
    found = {key: match.group(min(1, compiled.groups)) for key, match in matches.items() if match}
    lost = [key for key in keys if not found.get(key)]
    if needed and lost and len(lost) == len(keys):
        raise InputError(
            f"{option} '{pattern}' finds nothing in any of the {len(keys)} names, such as {lost[0]}: correct it (small "
            "and capital letters differ), or leave it out."
        )
    if needed and lost:
        logger.warning(
            "%s '%s' finds nothing in %d of the %d names, such as %s: each of these is split on its own, so correct it "
            "if some are of one patient or video.",
            *(option, pattern, len(lost), len(keys), lost[0]),
        )
    return {key: value for key, value in found.items() if value}


def read_images_and_masks(root: Path) -> Collection:
    """Reads ``images/`` and ``masks/``: a mask has its image's stem; an image without mask is unlabelled.

    ``splits.json`` pins the split where there is one.

    Raises:
        InputError: ``masks`` is missing or empty, or a mask has no image.
    """
    images, masks = images_by_stem(root / "images"), images_by_stem(root / "masks")
    _require_masks(masks, root / "masks")
    _refuse_strays(masks, images, root / "images")
    items = collect((_item(name, path, masks) for name, path in images.items()), root / "images")
    return read_splits_json(root, items)


def _item(key: str, image: Path, masks: dict[str, Path]) -> Item:
    item = {"key": key, "image": str(image)}
    if key in masks:
        item["label"] = str(masks[key])
    return item


def _refuse_strays(masks: dict[str, Path], images: dict[str, Path], folder: Path) -> None:
    """Refuses masks without an image in ``folder``: that image would count as unlabelled."""
    for name, path in masks.items():
        if name not in images:
            raise InputError(
                f"The mask {path} has no image of that stem in {folder}: rename one, or let 'python -m bundle "
                "prepare' pair them."
            )


def _require_masks(masks: dict[str, Path], folder: Path) -> None:
    if not masks:
        raise InputError(
            f"{folder} holds no mask: add masks named like their images, at least four, or let 'python -m "
            "bundle prepare' find them."
        )


def find_voc(root: Path) -> Path | None:
    """The folder with ``JPEGImages``: ``root`` or one folder at most two levels below, such as VOCdevkit/VOC2007.

    Raises:
        InputError: there are several such folders below ``root``.
    """
    if (root / "JPEGImages").is_dir():
        return root
    found = sorted(path.parent for depth in ("*", "*/*") for path in root.glob(f"{depth}/JPEGImages") if path.is_dir())
    if len(found) > 1:
        raise InputError(f"{root} holds several data sets ({found[0]}, {found[1]}): name one of them as dataset_dir.")
    return found[0] if found else None


def read_voc(root: Path, strays: bool = False) -> Collection:
    """Reads the Pascal VOC segmentation layout.

    ``ImageSets/Segmentation/{train,val,test}.txt`` give the split. A missing ``train.txt`` is ``trainval.txt`` without
    the keys of the other two; images that are in no list are not used. Without lists all images are split.
    A listed training image without a mask in ``SegmentationClass`` is unlabelled.

    Args:
        root: the folder that holds ``JPEGImages``.
        strays: pass over masks without an image.

    Raises:
        InputError: no mask, a mask without an image, or a list names an image that is not there.
    """
    images, masks = images_by_stem(root / "JPEGImages"), images_by_stem(root / "SegmentationClass")
    _require_masks(masks, root / "SegmentationClass")
    if not strays:
        _refuse_strays(masks, images, root / "JPEGImages")
    lists = {
        name: _read_list(root / VOC_LISTS / f"{name}.txt", images) for name in ("train", "val", "test", "trainval")
    }
    held_out = {*lists["val"], *lists["test"]}
    trainval = [key for key in lists.pop("trainval") if key not in held_out]
    lists["train"] = lists["train"] or trainval
    split = {side: keys for side, keys in lists.items() if keys}
    used = [key for keys in split.values() for key in keys] or list(images)
    items = collect((_item(key, images[key], masks) for key in used), root / VOC_LISTS)
    return Collection(items, split, source=str(root / VOC_LISTS))


def _read_list(path: Path, images: dict[str, Path]) -> list[str]:
    if not path.is_file():
        return []
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    keys = [stem(name) if is_image(name) else name for name in names]
    for key in keys:
        if key not in images:
            raise InputError(f"{path} lists '{key}', but JPEGImages/ has no such image: add it or remove the line.")
    return keys
