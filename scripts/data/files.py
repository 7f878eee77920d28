# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Image files and their names: which suffixes count, what a stem is, and what a folder reader hands on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from scripts.errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
DICOM_SUFFIXES = (".dcm",)
IMAGE_SUFFIXES = PICTURE_SUFFIXES + NIFTI_SUFFIXES + DICOM_SUFFIXES

Item = dict[str, str]


@dataclass
class Collection:
    """What a dataset folder holds, before the labelled images are chosen.

    Attributes:
        items: one dictionary an image, by key, in a fixed order: ``key``, ``image``, ``group``; ``label`` where there
            is a mask; ``scribble`` where there is one.
        split: the keys of ``train``, ``val`` and ``test`` as far as the folder pins them; empty where it does not.
        ordered: whether the order of ``train`` is pinned, so that the labelled images are its first ones.
        source: what pins the split, for messages.
        num_classes: the classes, background included, where the folder tells them; else 0.
    """

    items: dict[str, Item]
    split: dict[str, list[str]]
    ordered: bool = False
    source: str = ""
    num_classes: int = 0


def is_nifti(path: str | Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return str(path).lower().endswith(NIFTI_SUFFIXES)


def is_dicom(path: str | Path) -> bool:
    """Whether the name is that of a DICOM file."""
    return str(path).lower().endswith(DICOM_SUFFIXES)


def is_image(path: str | Path) -> bool:
    """Whether the name is that of an image this bundle reads; hidden files (``._a.png``) are not."""
    return is_image_name(os.path.basename(path))


def is_image_name(name: str) -> bool:
    """:func:`is_image` of a file's name without its folder."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def stem(path: str | Path) -> str:
    """The file name without its image suffix; ``a.nii.gz`` gives ``a``, ``a.b.png`` gives ``a.b``; folders whole."""
    name = Path(path).name
    return name if Path(path).is_dir() else stem_of_name(name)


def stem_of_name(name: str) -> str:
    """:func:`stem` of a file's name, without a look at the disk."""
    lower = name.lower()
    for suffix in IMAGE_SUFFIXES:
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def is_utf8(name: str) -> bool:
    """Whether the name of a file can be written in UTF-8, as results are; on Linux it may be any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(path: str | Path) -> str:
    """A path whose bytes that are not UTF-8 are written out, as in ``l\\xe9sion.png``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def not_utf8(path: str | Path) -> str:
    """What is said of a file whose name is not :func:`is_utf8`."""
    return f"The name of {printable(path)} is not valid UTF-8: rename the file."


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Around the decoding of a file: whatever the decoder raises becomes one sentence about the file.

    Raises:
        InputError: the file is missing, no regular file (a folder, a pipe), or cannot be decoded.
    """
    if not Path(path).exists():
        raise InputError(f"The file {path} does not exist: add it or correct the entry that names it.")
    if not Path(path).is_file():
        raise InputError(f"{path} has the name of an image but is no regular file: rename or remove it.")
    with decoding(path):
        yield


@contextmanager
def decoding(path: str | Path) -> Iterator[None]:
    """:func:`reading` of what need not be one file, such as the folder of a series."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, zlib.error and more on damaged files
        reason = " ".join(str(error).replace(str(path), "the file").split()).rstrip(".") or type(error).__name__
        raise InputError(f"The image {path} cannot be read ({reason}): replace or remove it.") from error


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images directly inside ``folder`` by stem, sorted.

    Raises:
        InputError: the folder is missing, the name of an image is not in UTF-8, or two files share a stem.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file: pass the folder that holds it.")
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist: create it or correct dataset_dir.")
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(folder)):  # names, not paths: a folder may hold 100,000
        if not is_image_name(name):
            continue
        if not is_utf8(name):
            raise InputError(not_utf8(folder / name))
        key, path = stem_of_name(name), folder / name
        if key in found:
            raise InputError(f"{found[key]} and {path} share the stem '{key}': rename or remove one.")
        found[key] = path
    return found


def absolute(path: str | Path) -> Path:
    """The absolute path of a user's ``path``, ``~`` and ``..`` followed, so that files below it are told to be so."""
    found = Path(path).expanduser().absolute()
    return found.resolve() if ".." in found.parts else found


def inside(root: Path, relative: str, named_in: str | Path) -> Path:
    """The absolute path of ``relative`` under ``root``.

    Raises:
        InputError: the path leaves ``root``; ``named_in`` is the file that names it.
    """
    if "\0" in relative:
        raise InputError(f"{named_in} names '{relative!a}', which holds a null character: correct the file.")
    path = Path(os.path.normpath(root / relative))
    if not path.is_relative_to(root):
        raise InputError(f"{named_in} names '{relative}', which lies outside {root}: keep the files inside the folder.")
    return path


def collect(items: Iterable[Item], source: str | Path) -> dict[str, Item]:
    """The items by key.

    Raises:
        InputError: two items share a key, one leads out of a folder, or there is no item.
    """
    by_key: dict[str, Item] = {}
    for item in items:
        path = PureWindowsPath(item["key"])  # results are files of that name; splits at both kinds of slashes
        if path.root or ".." in path.parts:
            raise InputError(
                f"{source} has the key '{item['key']}', which leads out of the folder that results are written to: "
                "give that image a key without '..' that does not begin with a slash."
            )
        other = by_key.setdefault(item["key"], item)
        if other is not item:
            raise InputError(
                f"{source} lists the key '{item['key']}' twice ({other['image']} and {item['image']}): "
                "give every image its own key."
            )
    if not by_key:
        raise InputError(f"{source} holds no image ({', '.join(IMAGE_SUFFIXES)}): add images or correct dataset_dir.")
    return by_key
