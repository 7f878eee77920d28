# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The images that no annotation file names: nobody has annotated them yet, so they are the unlabelled ones."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from scripts.data.files import stem
from scripts.data.sides import side_of
from scripts.data.sources.base import Entry, Problem, folder_below
from scripts.data.sources.names import drawings, part_of
from scripts.data.sources.tree import Tree
from scripts.data.sources.words import split_word

MASKS = ("label", "scribble")


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
