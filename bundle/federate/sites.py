# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The sites of a federation as MONAI datalists, and all of them in one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bundle.benchmark.commands import TRAINING_CONFIG
from bundle.benchmark.lists import data_config
from bundle.benchmark.suite import ROOT
from scripts.data import load_datalist
from scripts.data.files import Item
from scripts.data.selection import labelled_count
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.inputs import images_without_masks, tell_masks

LISTS = ("training", "unlabeled", "validation", "test")
PARTS = ("key", "image", "label", "scribble", "group", "volume", "slice", "spacing")
#: arguments of load_datalist that say how a folder is read; masks are shared out by ``--sites``, not by label_ratio
READING = (
    "num_classes",
    "seed",
    "label_seed",
    "group_pattern",
    "volume_pattern",
    "annotation",
    "val_share",
    "test_share",
)

Lists = dict[str, list[Item]]

logger = logging.getLogger("less_net")


@dataclass(frozen=True)
class Site:
    """One site.

    Attributes:
        name: of its folder.
        datalist: its images, a MONAI datalist.
        counts: images in each of its lists.
    """

    name: str
    datalist: Path
    counts: Mapping[str, int]

    def weight(self, unlabelled: float) -> float:
        """Images, those without mask counting ``unlabelled`` each."""
        return self.counts["training"] + unlabelled * self.counts["unlabeled"]


def write_sites(
    specs: Sequence[str],
    data: str,
    folder: Path,
    settings: Mapping[str, Any],
    files: Sequence[str] = (TRAINING_CONFIG,),
) -> tuple[list[Site], Site]:
    """Writes a datalist for every site, and one with the images of all.

    Args:
        specs: ``FOLDER[:RATIO]``, or with ``data`` ``COUNT[:RATIO]``.
        data: a data set whose training images are dealt out in their order; its validation and test images are those
            of every site with masks.
        folder: of the datalists.
        settings: keys of the bundle; those that say how a data set is read are used.
        files: configs, relative to the bundle, which the settings override.

    Returns:
        The sites, and the site that holds everything.

    Raises:
        InputError: a spec is none, a config does not exist, no site has a mask, or two share images on different sides
            of the split.
    """
    pairs = [split_spec(spec) for spec in specs]
    common = reading(files, settings)
    lists = dealt(pairs, data, common) if data else [own_lists(text, ratio, common) for text, ratio in pairs]
    if not any(one["training"] for one in lists):
        raise InputError("--sites: no site has a mask to learn from: give at least one with masks and a ratio above 0.")
    if not data:
        lists = [named(one, f"site{n}") for n, one in enumerate(lists, 1)]
    everything = joined(lists)
    sites = [write_site(f"site{n}", one, folder) for n, one in enumerate(lists, 1)]
    return sites, write_site("all", everything, folder)


def joined(lists: Sequence[Lists]) -> Lists:
    """The images of all sites, each once: one that has a mask at any of them is no unlabelled one.

    Raises:
        InputError: a site trains on what another holds out.
    """
    everything = {part: {item["image"]: item for one in lists for item in one[part]} for part in LISTS}
    for image in everything["training"]:
        everything["unlabeled"].pop(image, None)
    sides = {"training": everything["training"] | everything["unlabeled"]}
    sides |= {part: everything[part] for part in ("validation", "test")}
    for first, second in combinations(sides, 2):
        for image in sides[first].keys() & sides[second].keys():
            raise InputError(
                f"--sites: {image} is a {first} image at one site and a {second} image at another: give sites that "
                "share no image, or one folder split alike."
            )
    return {part: list(items.values()) for part, items in everything.items()}


def reading(files: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """How a training with these configs and settings reads a data set, as arguments of ``load_datalist``.

    The written datalists pin groups and parts, so what is not used here has no effect in the trainings any more.

    Raises:
        InputError: a config does not exist.
    """
    missing = next((name for name in files if not (ROOT / name).is_file()), None)
    if missing:
        raise InputError(f"--configs {missing}: there is no file {ROOT / missing}: correct the path.")
    parser = data_config(files, settings)
    return {key: parser.get_parsed_content(f"datalist#{key}") for key in READING if key in parser["datalist"]}


def read_lists(source: str, common: Mapping[str, Any]) -> Lists:
    """The lists of a data set, read as all sites are.

    Raises:
        InputError: of the data set; where it names the option of a training, the setting that is meant here.
    """
    try:
        return load_datalist(source, **common)
    except InputError as error:
        raise InputError(str(error).replace("--num_classes ", "--settings num_classes=")) from error


def split_spec(spec: str) -> tuple[str, float | None]:
    """``A:0.5`` as (A, 0.5); without a ratio (A, None).

    Raises:
        InputError: the ratio is beyond 0 to 1.
    """
    match = re.fullmatch(r"(.+):(\d*\.?\d+)", spec)
    if not match:
        return spec, None
    ratio = float(match[2])
    if ratio > 1:
        raise InputError(f"--sites {spec}: the ratio {ratio:g} is beyond 0 to 1.")
    return match[1], ratio


def dealt(pairs: Sequence[tuple[str, float | None]], data: str, common: Mapping[str, Any]) -> list[Lists]:
    """The training images of one data set, dealt out in their order, those of a group (patient, video) one after the
    other; a group that two sites share all the same is told."""
    whole = read_lists(data, common)
    groups: dict[str, list[Item]] = {}
    for item in whole["training"] + whole["unlabeled"]:
        groups.setdefault(item["group"], []).append(item)
    images, lists, start = [item for items in groups.values() for item in items], [], 0
    for number, (text, ratio) in enumerate(pairs, start=1):
        if not text.isdigit() or int(text) < 1:
            raise InputError(f"--sites {text}: with --data give a number of training images.")
        part, start = images[start : start + int(text)], start + int(text)
        if start > len(images):
            raise InputError(
                f"--sites want {start} training images, but {data} has {len(images)}: give smaller numbers."
            )
        if number < len(pairs) and images[start:] and images[start]["group"] == part[-1]["group"]:
            logger.warning(
                "%s ends within the images of '%s', which are at two sites now: another number keeps them together.",
                text,
                part[-1]["group"],
            )
        lists.append(labelled_part(part, ratio) | held_out(whole, ratio))
    return lists


def own_lists(text: str, ratio: float | None, common: Mapping[str, Any]) -> Lists:
    """The lists of a site that has a folder; with ratio 0 a folder of images, or a list without masks, will do."""
    folder = Path(text)
    if ratio == 0 and folder.is_dir():
        images = folder / "images" if (folder / "images").is_dir() else folder
        found, masks = images_without_masks(images)
        if found and not (folder / "masks").is_dir():
            tell_masks(masks)
            bare = [{"key": key, "image": str(path.absolute()), "group": key} for key, path in found.items()]
            return {"training": [], "unlabeled": bare, "validation": [], "test": []}
    lists = read_lists(text, {**common, "without_masks": ratio == 0})
    if ratio is None:
        return lists
    return labelled_part(lists["training"] + lists["unlabeled"], ratio) | held_out(lists, ratio)


def held_out(lists: Lists, ratio: float | None) -> Lists:
    """The validation and test images of a site; one that uses no mask has none, so that its training needs none."""
    return {name: lists[name] if ratio != 0 else [] for name in ("validation", "test")}


def labelled_part(items: Sequence[Item], ratio: float | None) -> Lists:
    """Items as ``training``, the first ones with a mask up to the share ``ratio`` of those, and ``unlabeled``."""
    usable = [item for item in items if "label" in item]
    count = labelled_count([item["group"] for item in usable], 1.0 if ratio is None else ratio) if ratio != 0 else 0
    chosen = {item["key"] for item in usable[:count]}
    bare = [{part: value for part, value in item.items() if part not in ("label", "scribble")} for item in items]
    return {"training": usable[:count], "unlabeled": [item for item in bare if item["key"] not in chosen]}


def named(lists: Lists, site: str) -> Lists:
    """The lists with keys and groups that no other site has."""
    owned = ("key", "group", "volume")
    return {
        name: [{part: f"{site}_{value}" if part in owned else value for part, value in item.items()} for item in items]
        for name, items in lists.items()
    }


def write_site(name: str, lists: Lists, folder: Path) -> Site:
    """Writes one datalist."""
    content: dict[str, Any] = {"ordered": True}
    for part in LISTS:
        content[part] = [{key: item[key] for key in PARTS if key in item} for item in lists[part]]
    path = folder / f"{name}.json"
    atomic_write(path, json.dumps(content, indent=1).encode())
    return Site(name, path, {part: len(lists[part]) for part in LISTS})
