# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The images that nobody has annotated yet: those that no annotation file names, and those listed without a shape."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from scripts.data.files import stem
from scripts.data.sides import side_of
from scripts.data.sources.base import Entry, Problem, folder_below
from scripts.data.sources.names import drawings, part_of
from scripts.data.sources.tree import Tree
from scripts.data.sources.words import split_word

MASKS = ("label", "scribble")
SIDE_WORDS = {"val": "validate", "test": "test"}
UNANNOTATED = ("background", "unlabelled")

logger = logging.getLogger("less_net")


def masks_beside(tree: Tree, listings: Collection[str]) -> list[str]:
    """The image files that are masks or scribbles by their names, relative to the tree.

    Args:
        tree: what is in the folder.
        listings: annotation files of one image each; images that lie beside them, in a folder ``annotations``, are none
            unless their own names say so.
    """
    annotated = {Path(name).parent for name in listings}
    told = [path for path in tree.images if part_of(path, stem(path), {}).role in MASKS]
    return [path for path in told if Path(path).parent not in annotated or split_word(stem(path))[0] in MASKS]


def unlisted_images(
    tree: Tree, listings: Collection[str], used: Collection[str], kind: str
) -> tuple[list[Entry], list[Problem]]:
    """The other images of the folder, unlabelled, and what is left out: masks, drawings, images to be tested on.

    Args:
        tree: what is in the folder.
        listings: see :func:`masks_beside`.
        used: the images (absolute paths) that the annotation files name.
        kind: whose files they are, for people.
    """
    reasons = {path: f"a mask, but {kind} files are read" for path in masks_beside(tree, listings)}
    reasons |= drawings(tree, {})
    twins = {(str(Path(path).parent), stem(path)) for path in used}
    entries, left_out = [], []
    for name in (*tree.images, *tree.series):
        path = tree.path(name)
        if path in used:
            continue
        folder, reason = folder_below(path, tree.root), reasons.get(name, "")
        if not reason and (str(Path(path).parent), stem(path)) in twins:
            reason = f"an image of the same name is in {kind} files"
        if not reason and side_of(folder) in ("val", "test"):
            reason = f"in a folder to validate or test on, but in none of {kind} files"
        if reason:
            left_out.append((path, reason))
        else:
            entries.append(Entry(stem(path), (path,), folder=folder))
    return entries, left_out


def settle_unannotated(
    entries: list[Entry], bare: list[Entry], unannotated: str, told: str
) -> tuple[list[Entry], list[Problem]]:
    """The entries of files that list every image, looked at or not, and what is left out.

    Args:
        entries: all of them, with their sides where the split is pinned.
        bare: those without an annotation, whose mask would be of nothing but background.
        unannotated: one of ``UNANNOTATED``; where it is empty, they stay background, and a warning says so if they are
            the most.
        told: the files, for people.
    """
    if unannotated != "unlabelled":
        if not unannotated and 2 * len(bare) > len(entries):
            logger.warning(
                "%d of the %d images in %s have no annotation, so they count as nothing but background. If nobody has "
                "looked at them, add --unannotated unlabelled; if that is what they are, --unannotated background.",
                len(bare),
                len(entries),
                told,
            )
        return entries, []
    for entry in bare:
        entry.label = None
    unused = [entry for entry in bare if entry.side in ("val", "test")]
    kept = [entry for entry in entries if entry.label is not None or entry.side not in ("val", "test")]
    return kept, [(entry.name, f"to {SIDE_WORDS[entry.side]} on, but not annotated") for entry in unused]
