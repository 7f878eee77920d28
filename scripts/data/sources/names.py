# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images and annotations told apart by the names of folders and files, and matched by what is left of the names.

An image and its mask have the same path once the words are taken out that say which of them it is: the nearest folder
such as ``images`` or ``train_masks``, and an ending or a beginning of the file name such as ``_mask`` or ``gt-``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from scripts.data.files import is_nifti, stem
from scripts.data.listings import read_splits_json
from scripts.data.sides import side_of
from scripts.data.sources.base import Entry, Label, Problem, Source
from scripts.data.sources.tree import Tree
from scripts.data.sources.words import NUMBERED, difference, plain, split_word

LOSSY = (".jpg", ".jpeg")
#: folders that annotation programs put beside the masks of classes
DRAWINGS = {
    "segmentationobject": "instances, not classes",
    "segmentationclassvisualization": "masks drawn into images",
    "segmentationobjectvisualization": "masks drawn into images",
}
SPLITS = "splits.json"
#: names of MR sequences as BraTS and others end their files with them
SEQUENCE = re.compile(r"(.+?)[ _.-]+(flair|t1|t1w|t1n|t1c|t1ce|t1gd|t2|t2w|t2f|pd|dwi|adc|swi)$", re.I)

Place = tuple[str, str]  # the folder without its telling word, and a name


@dataclass(frozen=True)
class Part:
    """A file or series: what it is, in which folder, and the names to match it by, the likeliest first."""

    path: str
    role: str
    folder: str
    names: tuple[str, ...]
    guessed: bool = False

    @property
    def places(self) -> list[Place]:
        """Folder and name for each name; one that says the role only (``p1/mask.nii``) leaves the folder's name."""
        return [(self.folder, name) if name else _up(self.folder) for name in self.names]


def _up(folder: str) -> Place:
    path = PurePosixPath(folder)
    return _text(path.parent), path.name


def _text(path: PurePosixPath) -> str:
    return "" if str(path) == "." else str(path)


def _plain(place: Place) -> Place:
    return plain(place[0]), plain(place[1])


def _anywhere(part: Part) -> list[Place]:
    """Its places if the folder does not count."""
    return [("*", name) for _, name in part.places]


def part_of(path: str, name: str, folders: dict[str, str]) -> Part:
    """The part that the file or series at ``path`` is.

    ``folders`` declares the role of some folders; then the words of that role count nowhere else, and what the words
    alone would give that role is ``unused``.
    """
    parents, declared = PurePosixPath(path).parent.parts, set(folders.values())
    own, bare = split_word(name)
    for index in range(len(parents), 0, -1):
        told, rest = split_word(parents[index - 1])
        given = folders.get("/".join(parents[:index]))
        if given or told:
            role = given or ("unused" if told in declared else told)
            kept = [*parents[: index - 1], *([rest] if rest and not given else []), *parents[index:]]
            return Part(path, role, "/".join(kept), (name, bare) if own == role else (name,))
    role = own if own in ("label", "scribble") else "image"
    names = (bare,) if own == role != "image" else (name, bare) if own else (name,)
    return Part(path, "unused" if role in declared else role, "/".join(parents), names, guessed=own is None)


class Matcher:
    """Finds the image that an annotation belongs to."""

    def __init__(self, images: list[Part], series: dict[str, dict[str, str]]) -> None:
        self.exact: dict[Place, Part] = {}
        self.loose: dict[Place, list[Part]] = defaultdict(list)
        self.stacks: dict[str, list[Part]] = defaultdict(list)
        for image in images:
            folder, name = image.places[0]
            self.exact[image.places[0]] = image
            for place in {*image.places[1:], *_anywhere(image)}:
                self.loose[place].append(image)
            for above in [folder, *(_text(path) for path in PurePosixPath(folder).parents)]:
                if above or not folder:
                    self.loose["/", above].append(image)
            if image.path in series:
                for where in {folder, f"{folder}/{name}".strip("/")}:
                    self.stacks[where].append(image)
        self.images, self.series = images, series

    @cached_property
    def alike(self) -> dict[Place, list[Part]]:
        """The images by their places as :func:`~scripts.data.sources.words.plain` writes them."""
        found: dict[Place, list[Part]] = defaultdict(list)
        for image in self.images:
            for place in {_plain(place) for place in (*image.places, *_anywhere(image))}:
                found[place].append(image)
        return found

    def image_of(self, annotation: Part) -> Part | None:
        """The one image with the annotation's place; else the only one of its name; else that below its folder; else
        the only one that is spelt alike."""
        for place in annotation.places:
            if place in self.exact:
                return self.exact[place]
        tries = [*annotation.places, *_anywhere(annotation)]
        tries += [("/", f"{folder}/{name}".strip("/")) for folder, name in annotation.places]
        found = next((self.loose[place] for place in tries if len(self.loose.get(place, ())) == 1), None)
        found = found or self.alike_of(annotation)
        return found[0] if len(found) == 1 else None

    def alike_of(self, annotation: Part) -> list[Part]:
        """The images whose places, or else names, ``plain`` writes as it does the annotation's."""
        tries = map(_plain, (*annotation.places, *_anywhere(annotation)))
        return next((self.alike[place] for place in tries if place in self.alike), [])

    def instance_of(self, annotation: Part) -> tuple[Part, str] | None:
        """The series, and the stem of the file in it, that a single mask of a slice belongs to."""
        for folder, name in annotation.places:
            stacks = self.stacks.get(folder, [])
            if len(stacks) == 1 and name in self.series[stacks[0].path]:
                return stacks[0], name
        return None


def read_names(tree: Tree, folders: dict[str, str] | None = None) -> Source:
    """Reads a folder by its names.

    Args:
        tree: what is in it.
        folders: role (``image``, ``label``, ``scribble``) of folders, by relative path, where the names do not tell it.
    """
    drawn = drawings(tree, folders or {})
    parts = [part_of(path, stem(path), folders or {}) for path in tree.images if path not in drawn]
    parts += [part_of(path or ".", PurePosixPath(path).name or tree.root.name, folders or {}) for path in tree.series]
    parts, problems = _settle_twins(parts, tree)
    images = [part for part in parts if part.role == "image"]
    images, channels, odd = _stack_sequences(images, [part for part in parts if part.role != "image"], tree)
    matcher = Matcher(images, {path or ".": files for path, files in tree.series.items()})
    found, more = _match(parts, matcher, tree)
    entries = _entries(images, channels, found, tree)
    unused = [(tree.path(path), reason) for path, reason in drawn.items()]
    source = Source("names", "", entries, problems=problems + odd + more, left_out=unused)
    pin_by_splits(source, tree.root) if (tree.root / SPLITS).is_file() else pin_by_folders(source)
    masks = sum(entry.label is not None for entry in entries)
    stacked = "".join(f", channels {' '.join(map(_sequence_of, files))}" for files in [*channels.values()][:1])
    source.text = f"images and masks by their names ({len(entries)} images, {masks} with a mask{stacked})"
    return source


def drawings(tree: Tree, folders: dict[str, str]) -> dict[str, str]:
    """The files (relative paths) in folders that hold neither images nor masks, with the reason, unless a role of
    theirs is declared."""
    found = {}
    for path in tree.images:
        parents = PurePosixPath(path).parent.parts
        reason = next((DRAWINGS[name.lower()] for name in parents if name.lower() in DRAWINGS), "")
        if reason and not any("/".join(parents[:depth]) in folders for depth in range(1, len(parents) + 1)):
            found[path] = reason
    return found


def _settle_twins(parts: list[Part], tree: Tree) -> tuple[list[Part], list[Problem]]:
    """Two untold files of one stem in one folder are image and mask, if one of them alone is a JPEG."""
    by_place: dict[Place, list[Part]] = defaultdict(list)
    for part in parts:
        if part.role == "image":
            by_place[part.places[0]].append(part)
    kept, problems = [part for part in parts if part.role in ("label", "scribble")], []
    for twins in by_place.values():
        lossy = [part for part in twins if part.path.lower().endswith(LOSSY)]
        if len(twins) == 2 and len(lossy) == 1 and all(part.guessed for part in twins):
            other = next(part for part in twins if part is not lossy[0])
            kept += [lossy[0], Part(other.path, "label", other.folder, other.names)]
            continue
        kept.append(twins[0])
        reason = (
            f"{twins[0].path} has the same stem: remove one; if one is the mask, put the masks into a folder masks/"
        )
        problems += [(tree.path(part.path), reason) for part in twins[1:]]
    return kept, problems


def _match(parts: list[Part], matcher: Matcher, tree: Tree) -> tuple[dict[str, dict[str, Label]], list[Problem]]:
    """The annotations by the path of the image and by role."""
    found: dict[str, dict[str, Label]] = defaultdict(dict)
    problems: list[Problem] = []
    for part in parts:
        if part.role == "image":
            continue
        path, image, instance = tree.path(part.path), matcher.image_of(part), matcher.instance_of(part)
        if instance is not None and not isinstance(found[instance[0].path].get(part.role, {}), str):
            stack = found[instance[0].path].setdefault(part.role, {})
            stack[instance[1]] = path
        elif image is None:
            problems.append((path, _why_no_image(part, matcher)))
        elif part.role in found[image.path]:
            other = found[image.path][part.role]
            what = "mask" if part.role == "label" else part.role
            problems.append((path, f"{other} is a {what} of the same image: say by --{what}s FOLDER which ones to use"))
        else:
            found[image.path][part.role] = path
    return found, problems


def _why_no_image(part: Part, matcher: Matcher) -> str:
    """The reason for which an annotation has no image, and the mend."""
    matches = [match.group(1) for name in part.names if (match := NUMBERED.match(name))]
    names = tuple(dict.fromkeys(name for whole in matches for name in (whole, split_word(whole)[1])))
    image = matcher.image_of(replace(part, names=names)) if names else None
    if image is not None:
        return f"it seems to be one of several masks of {image.path}: merge them into one mask, each class a value"
    alike = [image for image in matcher.alike_of(part) if not {*image.names} & {*part.names}]
    if len(alike) > 1:
        told = [f"{image.path} (in {difference(part.names, image.names)})" for image in alike[:2]]
        return f"the names of several images differ little from it, {' and '.join(told)}: rename it as its image is"
    return "there is no image of that name, or there are several: add or rename one"


def _stack_sequences(
    images: list[Part], annotations: list[Part], tree: Tree
) -> tuple[list[Part], dict[str, tuple[str, ...]], list[Problem]]:
    """MR sequences in files of their own (``case_flair``, ``case_t1``) become the channels of ``case``.

    Only where all images are named so, and no annotation belongs to one sequence alone.

    Returns:
        the images, the files of each (by its path, in the order of the sequences), and the incomplete cases.
    """
    cases: dict[Place, dict[str, str]] = defaultdict(dict)
    for image in images:
        match = SEQUENCE.match(image.names[0]) if is_nifti(image.path) else None
        if match is None:
            return images, {}, []
        cases[image.folder, match.group(1)][match.group(2).lower()] = image.path
    wanted = {place for part in annotations for place in part.places}
    if not wanted & cases.keys() or wanted & {image.places[0] for image in images}:
        return images, {}, []
    usual = Counter(frozenset(found) for found in cases.values()).most_common(1)[0][0]
    kept, channels, problems = [], {}, []
    for (folder, name), found in cases.items():
        files = tuple(found[word] for word in sorted(found))
        kept.append(Part(files[0], "image", folder, (name,)))
        channels[files[0]] = files
        if set(found) != usual:
            has, expected = (", ".join(sorted(words)) for words in (found, usual))
            problems.append((tree.path(files[0]), f"the case {name} has {has}, but most have {expected}"))
    return kept, channels, problems


def _sequence_of(path: str) -> str:
    return SEQUENCE.match(stem(path)).group(2)


def _entries(
    images: list[Part], channels: dict[str, tuple[str, ...]], found: dict[str, dict[str, Label]], tree: Tree
) -> list[Entry]:
    entries = []
    for image in images:
        folder, name = image.places[0]
        key = "_".join(part for part in (folder.replace("/", "_"), name or tree.root.name) if part)
        paths = [tree.path("" if path == "." else path) for path in channels.get(image.path, (image.path,))]
        entries.append(Entry(key, tuple(paths), folder=folder, **found.get(image.path, {})))
    return sorted(entries, key=lambda entry: entry.key)


def pin_by_splits(source: Source, root: Path) -> None:
    """Takes sides and order from ``splits.json``; images in none of its lists are left out."""
    by_key = {entry.key: entry for entry in source.entries}
    collection = read_splits_json(root, {key: {"key": key, "image": entry.name} for key, entry in by_key.items()})
    listed = [(side, key) for side, keys in collection.split.items() for key in keys]
    for side, key in listed:
        by_key[key].side = side
    source.entries, source.ordered = [by_key[key] for _, key in listed], collection.ordered
    source.left_out += [(entry.name, f"in no list of {SPLITS}") for entry in by_key.values() if entry.side is None]


def pin_by_folders(source: Source) -> None:
    """Takes the sides from folders named train, val and test, if all annotated images lie in such folders."""
    sides = [side_of(entry.folder) for entry in source.entries]
    annotated = [entry.label is not None or entry.scribble is not None for entry in source.entries]
    labelled = {side for side, known in zip(sides, annotated) if known}
    if None in labelled or "train" not in labelled or len(labelled) < 2:
        return
    for side, entry in zip(sides, source.entries):
        entry.side = side or "train"
