# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The files below a folder: found by ``os.scandir``, safe against loops of links, and with the DICOM series in it."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from tqdm import tqdm

from scripts.data.checks import PATIENCE
from scripts.data.files import absolute, is_dicom, is_image, is_utf8, printable, stem
from scripts.data.sources.base import Problem
from scripts.data.sources.series import has_magic, is_stack, may_be_dicom
from scripts.data.sources.words import composed
from scripts.errors import InputError

JUNK = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
LISTINGS = (".csv", ".json", ".xml")
#: images and arrays that are not read: they must not be missed in silence
FOREIGN = tuple(
    ".gif .webp .jp2 .jfif .heic .avif .tga .pgm .ppm .pnm .psd .xcf .svg .svs .nrrd .nhdr .mha .mhd .mgz .mat .npy "
    ".npz .h5 .hdf5 .mp4 .avi .mov .mkv".split()
)
PREPARED = "prepared_from"  # an entry of the datalist.json that ``prepare`` writes


@dataclass
class Tree:
    """What lies below a folder; all paths are relative to it, with ``/``.

    Attributes:
        root: the folder.
        images: image files outside of series, sorted.
        series: each folder that is a DICOM series, with its files by stem.
        foreign: files with images of a kind that is not read, sorted.
        listings: CSV, JSON and XML files, sorted.
        folders: all folders.
        problems: what cannot be opened or named.
        whole: False where one file of the folder was named as the source, and ``listings`` has it alone.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    series: dict[str, dict[str, str]] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    listings: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    whole: bool = True

    def path(self, relative: str) -> str:
        """The absolute path."""
        return f"{self.root}/{relative}" if relative else str(self.root)

    def folder(self, named: str) -> str | None:
        """The folder below the root that a person names, relative to the root or as an absolute path."""
        path = absolute(self.root / Path(named).expanduser())
        real = os.path.relpath(os.path.realpath(path), os.path.realpath(self.root))  # if links lead to the root
        tries = [Path(name).as_posix() for name in (os.path.relpath(path, self.root), real, named.strip("/"))]
        return next((relative for relative in tries if relative and relative in self.folders), None)

    def holding(self, suffix: str, marks: Iterable[bytes], size: int = -1) -> list[str]:
        """The listings of a suffix that hold all marks in their first ``size`` bytes (-1: anywhere), not parsed."""
        found = []
        for name in self.listings:
            if name.lower().endswith(suffix):
                try:
                    with open(self.path(name), "rb") as stream:
                        content = stream.read(size)
                except OSError:
                    continue
                if all(mark in content for mark in marks):
                    found.append(name)
        return found


def scan(root: Path, skip: Iterable[Path] = ()) -> Tree:
    """Lists everything below ``root``; hidden files, the ``skip`` folders and prepared data sets are passed over.

    Files are not looked at one by one, so 100,000 of them take about a second. A folder that can be reached by several
    links is listed once.

    Raises:
        InputError: the path of the folder is no text.
    """
    if not is_utf8(str(root)):
        raise InputError(f"The path {printable(root)} is not valid UTF-8: rename the folder.")
    tree = Tree(root)
    dicoms: dict[str, list[str]] = defaultdict(list)
    seen = {_identity(path) for path in skip if path.exists()}
    folders, links = [""], []
    bar = tqdm(desc="listing files", unit=" files", delay=PATIENCE, leave=False)
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        bar.update(_list_folder(tree, folder, seen, (folders, links), dicoms))
    bar.close()
    _find_series(tree, dicoms)
    tree.images.sort()
    tree.foreign.sort()
    tree.listings.sort()
    return tree


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _list_folder(
    tree: Tree,
    folder: str,
    seen: set[tuple[int, int]],
    ahead: tuple[list[str], list[str]],
    dicoms: dict[str, list[str]],
) -> int:
    """Sorts the content of one folder into ``tree``, ``ahead`` (folders, links to folders) and ``dicoms``."""
    try:
        identity = _identity(tree.path(folder))
        if identity in seen:
            return 0
        seen.add(identity)
        with os.scandir(tree.path(folder)) as listing:
            found = [entry for entry in listing if not entry.name.startswith(".") and entry.name not in JUNK]
    except OSError as error:
        tree.problems.append((tree.path(folder), f"the folder cannot be opened ({error.strerror})"))
        return 0
    if folder and any(entry.name == "datalist.json" and _is_prepared(entry.path) for entry in found):
        return len(found)
    tree.folders.add(folder)
    for entry in found:
        relative = f"{folder}/{entry.name}" if folder else entry.name
        if _is_folder(entry):
            ahead[entry.is_symlink()].append(relative)
        elif not is_utf8(entry.name):
            tree.problems.append((printable(relative), "its name is not valid UTF-8: rename it"))
        else:
            _sort_file(tree, folder, relative, entry, dicoms)
    return len(found)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_prepared(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return f'"{PREPARED}"'.encode() in stream.read()
    except OSError:
        return False


def _sort_file(tree: Tree, folder: str, relative: str, entry: os.DirEntry, dicoms: dict[str, list[str]]) -> None:
    known = is_image(entry.name)
    if entry.name.lower().endswith(LISTINGS):
        tree.listings.append(relative)
    elif known and entry.is_symlink() and not os.path.isfile(entry.path):
        tree.problems.append((entry.path, "it is a link to a file that does not exist"))
    elif is_dicom(entry.name) or (not known and may_be_dicom(entry.name) and has_magic(entry.path)):
        dicoms[folder].append(relative)
    elif known:
        tree.images.append(relative)
    elif entry.name.lower().endswith(FOREIGN):
        tree.foreign.append(relative)


def _find_series(tree: Tree, dicoms: dict[str, list[str]]) -> None:
    """Folders of one series become one image; all other DICOM files are single images."""
    for folder in tqdm(sorted(dicoms), "reading DICOM headers", delay=PATIENCE, leave=False):
        files = sorted(dicoms[folder])
        try:
            stacked = is_stack([tree.path(name) for name in files])
        except InputError as error:
            tree.problems.append((tree.path(folder), str(error)))
            continue
        if stacked:
            tree.series[folder] = {stem(name): tree.path(name) for name in files}
        else:
            tree.images += [name for name in files if is_dicom(name)]
            reason = "a single DICOM image without the suffix .dcm: rename it"
            tree.problems += [(tree.path(name), reason) for name in files if not is_dicom(name)]


class Finder:
    """Looks up the paths that a table or a COCO file names."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.known = tree, {*tree.images, *tree.series}
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.known:
            last = path.rsplit("/", 1)[-1]
            for name in {last, stem(last)}:
                self.by_name[composed(name)].append(path)
        self.folders = {composed(folder) for folder in tree.folders}

    def __call__(self, name: str, beside: str = "", but: str | None = None) -> str | None:
        """The absolute path: in the folder ``beside``, below the root or its ``images``, else elsewhere.

        An absolute path is taken as it is where it exists; where it does not, its last parts tell the file. It is never
        the file ``but`` (an absolute path), as the mask of an image is not the image.
        """
        name = name.replace("\\", "/")
        if name.startswith("/") and os.path.exists(name) and name != but:
            return name
        for folder in (beside, "", "images"):
            relative = posixpath.normpath(f"{folder}/{name}".lstrip("/"))  # os.path would write \ on Windows
            if relative in self.known and self.tree.path(relative) != but:
                return self.tree.path(relative)
        return self._elsewhere(name, but)

    def _elsewhere(self, name: str, but: str | None) -> str | None:
        """The one file of a name, whatever form its accents are stored in, that lies in the most of the folders named.

        Where the folder named is there, what lies in another one is not meant: it is the same frame of another patient.
        """
        *folders, last = composed(name).split("/")

        def shared(path: str) -> int:
            own = composed(path).split("/")[:-1]
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(own), reversed(folders))))

        paths = [path for path in self.by_name.get(last, []) if self.tree.path(path) != but]
        most = max(map(shared, paths), default=0)
        found = [path for path in paths if shared(path) == most]
        ends = filter(None, ("/".join(folders[first:]) for first in range(len(folders))))
        there = next((f"/{end}/" for end in ends if end in self.folders), "/")
        return self.tree.path(found[0]) if len(found) == 1 and there in f"/{composed(found[0])}" else None
