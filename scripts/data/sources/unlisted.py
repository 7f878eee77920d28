# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The images that nobody has annotated yet: those that no annotation file names, and those listed without a shape."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from scripts.data.files import stem
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sides import side_of
from scripts.data.sources.base import Entry, Problem, Source, folder_below
from scripts.data.sources.names import drawings, part_of
from scripts.data.sources.tree import Tree
from scripts.data.sources.words import split_word

MASKS = ("label", "scribble")
HELD_OUT = {"val": "validate", "test": "test"}
UNANNOTATED = ("background", "unlabelled")

logger = logging.getLogger("less_net")


class Listed(NamedTuple):
    """An image that an annotation file lists.

    Attributes:
        entry: with its side where subset or file tell one.
        file: that lists it, relative to the tree.
        drawn: whether it has a shape; else its mask is of nothing but background.
    """

    entry: Entry
    file: str
    drawn: bool


def settle(
    tree: Tree,
    kind: str,
    listed: list[Listed],
    failed: Collection[str],
    names: Mapping[int, str],
    problems: list[Problem],
    unannotated: str,
    waiting: Collection[Listed] = (),
) -> Source:
    """The source made of files that list every image of a task, looked at or not.

    An image that several files list counts once, with the shapes that one of them has. The sides pin the split where
    every image has one and some are to train on. Images of the folder that no file lists are unlabelled. Then
    those to validate or test on that have no mask are left out.

    Args:
        tree: what is in the folder.
        kind: whose files they are.
        listed: the images.
        failed: names of those that are listed, but cannot be used.
        names: of the classes, without the background.
        problems: with the files.
        unannotated: one of ``UNANNOTATED``: what images without a shape are; where it is empty they are background, and
            a warning says so if they are the most.
        waiting: images that are listed as not annotated yet.
    """
    listed, more = _one_an_image(listed)
    sides = {one.entry.side for one in listed}
    pinned = None not in sides and "train" in sides and len(sides) > 1
    entries, files = [one.entry for one in listed], dict.fromkeys(one.file for one in (*listed, *waiting))
    known = {entry.name for entry in entries}
    ahead = {one.entry.name: one.entry for one in waiting if one.entry.name not in known}
    others, left_out = unlisted_images(tree, files, [*known, *ahead], kind, failed)
    others += ahead.values()
    for entry in others:
        entry.side = side_of(entry.folder) or "train"
    bare = [one.entry for one in listed if not one.drawn]
    told = ", ".join(files)
    if unannotated == "unlabelled":
        for entry in bare:
            entry.label = None
    elif not unannotated and 2 * len(bare) > len(entries):
        logger.warning(
            "%d of the %d images in %s have no annotation, so they count as nothing but background. If nobody has "
            "looked at them, add --unannotated unlabelled; if that is what they are, --unannotated background.",
            len(bare),
            len(entries),
            told,
        )
    text = (
        f"{kind} annotations in {told} ({len(entries) - len(bare)} images with shapes, {len(bare)} without any, "
        f"{len(others)} not listed{' or not annotated' if ahead else ''})"
    )
    if not pinned:
        for entry in entries + others:
            entry.side = None
    kept, unused = leave_out_held_out(entries + others)
    class_names = {0: "background", **names}
    return Source(
        kind.lower().replace(" ", ""),
        text,
        kept,
        class_names=class_names,
        values={value: value for value in (*class_names, IGNORE_INDEX)},
        problems=problems + more,
        left_out=left_out + unused,
    )


def _one_an_image(listed: list[Listed]) -> tuple[list[Listed], list[Problem]]:
    """Each image once, and those with shapes in several files, which are left to people."""
    found: dict[str, Listed] = {}
    problems = []
    for one in listed:
        first = found.setdefault(one.entry.name, one)
        if first is not one and one.drawn and first.drawn:
            reason = f"{first.file} and {one.file} both have shapes of it: remove them from one of the two"
            problems.append((one.entry.name, reason))
        elif one.drawn:
            found[one.entry.name] = one
    return list(found.values()), problems


def unlisted_images(
    tree: Tree, listings: Collection[str], used: Collection[str], kind: str, failed: Collection[str] = ()
) -> tuple[list[Entry], list[Problem]]:
    """The other images of the folder, unlabelled, and what is left out: masks, drawings, twins of listed images.

    None where one file of the folder was named as the source, for others may list them.

    Args:
        tree: what is in the folder.
        listings: the annotation files, relative to it; see :func:`is_mask`.
        used: the images (absolute paths) that they name.
        kind: whose files they are, for people.
        failed: further names that stand in them.
    """
    if not tree.whole:
        return [], []
    known, twins = set(used), {(os.path.dirname(path), stem(path)) for path in used}
    linked = {os.path.realpath(path) for path in used if not path.startswith(f"{tree.root}/")}
    broken, annotated = {PurePosixPath(name).name for name in failed}, {str(Path(name).parent) for name in listings}
    drawn = drawings(tree, {})
    entries, left_out = [], []
    for name in (*tree.images, *tree.series):
        path = tree.path(name)
        if path in known or (linked and os.path.realpath(path) in linked):
            continue
        if name in drawn:
            left_out.append((path, drawn[name]))
        elif is_mask(name, annotated):
            left_out.append((path, f"a mask, but {kind} files are read"))
        elif (os.path.dirname(path), stem(path)) in twins or os.path.basename(path) in broken:
            left_out.append((path, f"an image of the same name is in {kind} files"))
        else:
            entries.append(Entry(stem(path), (path,), folder=folder_below(path, tree.root)))
    return entries, left_out


def is_mask(name: str, annotated: Collection[str]) -> bool:
    """Whether an image file (relative path) is a mask or scribble by its name.

    Images beside annotation files (in the folders ``annotated``) are none unless their own names say so, as these may
    lie in a folder ``annotations``.
    """
    own = stem(name)
    return part_of(name, own, {}).role in MASKS and (
        str(Path(name).parent) not in annotated or split_word(own)[0] in MASKS
    )


def leave_out_held_out(entries: list[Entry]) -> tuple[list[Entry], list[Problem]]:
    """Without the images to validate or test on that have no mask: to train on them would be to peek."""
    unused = [entry for entry in entries if entry.label is None and entry.side in HELD_OUT]
    kept = [entry for entry in entries if entry.label is not None or entry.side not in HELD_OUT]
    return kept, [(entry.name, f"to {HELD_OUT[entry.side]} on, but without a mask") for entry in unused]
