# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Folders as people hand them over: finds out how the images and masks in it are arranged, and lists them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from scripts.data.files import images_by_stem
from scripts.data.layouts import find_voc, read_voc
from scripts.data.listings import noted_class_names, read_datalist_json, read_json, read_pairs_csv, read_rows
from scripts.data.sides import side_of
from scripts.data.sources.base import Entry, Label, Problem, Source, from_collection, shown
from scripts.data.sources.coco import find_coco, read_coco
from scripts.data.sources.cvat import find_cvat, read_cvat
from scripts.data.sources.label_studio import find_label_studio, read_label_studio
from scripts.data.sources.labelme import find_labelme, read_labelme
from scripts.data.sources.legends import read_legend
from scripts.data.sources.names import read_names
from scripts.data.sources.nnunet import read_nnunet
from scripts.data.sources.tables import find_tables, read_tables
from scripts.data.sources.tree import PREPARED, Tree, scan
from scripts.data.sources.unlisted import UNANNOTATED, is_mask
from scripts.data.sources.via import find_via, read_via
from scripts.errors import InputError

__all__ = ["Entry", "LAYOUTS", "Label", "OPTIONS", "PREPARED", "Problem", "Source", "UNANNOTATED", "read_source"]

#: files that list images with what people drew on them: how each kind is found, and read
ANNOTATIONS = {
    "coco": (find_coco, read_coco),
    "cvat": (find_cvat, read_cvat),
    "labelstudio": (find_label_studio, read_label_studio),
    "via": (find_via, read_via),
}
LAYOUTS = ("pairs", "datalist", "csv", *ANNOTATIONS, "labelme", "voc", "nnunet", "names")
logger = logging.getLogger("less_net")

DATALISTS = ("datalist.json", "dataset.json")
#: the options of `prepare` that give folders a role
OPTIONS = {"image": "--images", "label": "--masks", "scribble": "--scribbles"}
SHOWN = 10  # folders in a message


def read_source(
    path: Path,
    layout: str = "",
    columns: Mapping[str, str] | None = None,
    folders: Mapping[str, str] | None = None,
    skip: Iterable[Path] = (),
    unannotated: str = "",
) -> Source:
    """Recognises the layout of a folder and lists its images; opens headers of DICOM files at most.

    What describes the data in a file comes before what only its names tell:

    1. ``pairs``: ``pairs.csv``; ``datalist``: a MONAI datalist; ``csv``: another table; ``coco``: COCO annotations;
       ``cvat``, ``labelstudio``, ``via`` and ``labelme``: those of these programs;
    2. ``voc``: Pascal VOC; ``nnunet``: ``imagesTr``;
    3. ``names``: any folders and files, told apart by words as ``images``, ``_mask``.

    Args:
        path: the folder; or the table, datalist or annotation file itself, in its folder.
        layout: one of ``LAYOUTS`` if it is not to be recognised.
        columns: column of each role of a table.
        folders: role (``image``, ``label``, ``scribble``) of folders in it, relative to ``path`` or absolute.
        skip: folders to pass over.
        unannotated: one of ``UNANNOTATED``: what the images are that such a file lists without an annotation.

    Raises:
        InputError: no such folder, or none of those with a role; nothing recognised, several layouts at once, or
            ``columns`` or ``unannotated`` for another layout.
    """
    columns = dict(columns or {})
    path = path.expanduser().absolute()
    if unannotated and unannotated not in UNANNOTATED:
        raise InputError(f"--unannotated is '{unannotated}': give {' or '.join(UNANNOTATED)}.")
    if not path.exists():
        raise InputError(f"{path} does not exist: correct the path of the folder to prepare.")
    if layout and layout not in LAYOUTS:
        raise InputError(f"--layout is '{layout}': give one of {', '.join(LAYOUTS)}.")
    tree = scan(path if path.is_dir() else path.parent, skip)
    named = None if path.is_dir() else path.name
    if named is not None:
        tree.whole = False
        tree.listings = [named] if named in tree.listings else []
    roles = _roles(tree, folders or {})
    candidates = _candidates(tree, columns, layout, bool(roles), named)
    chosen = _choose(candidates, layout, path)
    _check_options(path, chosen, columns, unannotated)
    source = _read(tree, chosen, candidates, (columns, roles, unannotated))
    source.problems[:0] = tree.problems
    if not (source.class_names or source.values):
        source.legend_file, source.legend = read_legend(tree)
    _leave_out_foreign(tree, source)
    _tell_keys_apart(source.entries)
    if not source.entries and not source.problems:
        raise InputError(f"{path} holds no image that is read (PNG, JPEG, TIFF, BMP, NIfTI, DICOM): correct the path.")
    return source


def _roles(tree: Tree, folders: Mapping[str, str]) -> dict[str, str]:
    """The role of each folder that has one, relative to the tree.

    Raises:
        InputError: there is no such folder below the tree; the message names those that there are.
    """
    roles = {}
    for named, role in folders.items():
        if (found := tree.folder(named)) is None:
            known = sorted(tree.folders - {""}, key=lambda folder: (folder.count("/"), folder))
            has = f"name one of its folders, {shown(known, SHOWN)}" if known else "it has none, so leave the option out"
            raise InputError(f"{OPTIONS[role]} {named} is no folder in {tree.root}: {has}.")
        roles[found] = role
    return roles


def _check_options(path: Path, layout: str, columns: Mapping[str, str], unannotated: str) -> None:
    """Refuses options that the layout would pass over.

    Raises:
        InputError: naming the option.
    """
    if unannotated and layout not in ANNOTATIONS:
        raise InputError(
            f"--unannotated is for COCO, CVAT, Label Studio and VIA files, but {path} is read as the layout '{layout}'"
            ": leave it out."
        )
    if columns and layout != "csv":
        raise InputError(
            f"--columns is for a table with the columns {', '.join(columns.values())}, but {path} is read as the "
            f"layout '{layout}': correct --columns or leave it out."
        )


def _leave_out_foreign(tree: Tree, source: Source) -> None:
    """Says which files may be images or masks but are of a kind that is not read."""
    source.left_out += [
        (tree.path(name), "of a kind that is not read: save it as PNG or NIfTI") for name in tree.foreign
    ]
    if tree.foreign:
        one, first = len(tree.foreign) == 1, tree.path(tree.foreign[0])
        kinds = ", ".join(sorted({PurePosixPath(name).suffix.lower() for name in tree.foreign}))
        logger.warning(
            "%s (%s) %s: save %s as PNG, TIFF or NIfTI.",
            "1 file of a kind that is not read" if one else f"{len(tree.foreign)} files of kinds that are not read",
            kinds,
            f"is left out, {first}" if one else f"are left out, such as {first}",
            "it" if one else "them",
        )


def _candidates(
    tree: Tree, columns: dict[str, str], layout: str, declared: bool, named: str | None
) -> dict[str, list[str]]:
    """The layouts of the first rank that has any, with the files that describe them."""
    wanted = (lambda name: layout in ("", name)) if not declared else (lambda name: layout == name)
    training = next((name for name in tree.folders if name == "imagesTr"), None)
    found: dict[str, list[str]] = {}
    pairs = [name for name in tree.listings if name == "pairs.csv"] if not columns else []
    annotations = {name: find(tree) for name, (find, _) in ANNOTATIONS.items()}
    datalists = [name for name in tree.listings if name in DATALISTS or name == named and name.endswith(".json")]
    datalists = [name for name in datalists if not any(name in files for files in annotations.values())]
    datalists = [name for name in datalists if wanted("datalist") and not (training and name == "dataset.json")]
    datalists = [name for name in datalists if isinstance(read_json(Path(tree.path(name))).get("training"), list)]
    tables = find_tables(tree, columns) if wanted("csv") and (layout == "csv" or not pairs) else []
    described = {"pairs": pairs, "datalist": datalists, "csv": tables, **annotations}
    found |= {name: files for name, files in described.items() if files and wanted(name)}
    if not found and wanted("labelme") and (labelme := find_labelme(tree)):
        found["labelme"] = labelme
        beside = {str(Path(name).parent) for name in labelme}
        if not layout and any(
            is_mask(name, beside) for name in tree.images
        ):  # made of these shapes, or drawn otherwise
            found |= {"voc": ["JPEGImages"]} if find_voc(tree.root) else {"names": ["images, masks"]}
    if "pairs" in found and not layout:  # the order in which training itself looks
        found.pop("datalist", None)
    if not found and not declared:
        voc = find_voc(tree.root) if wanted("voc") else None
        found |= {"voc": [str(voc)]} if voc else {}
        found |= {"nnunet": ["imagesTr"]} if training and wanted("nnunet") else {}
        found |= {"names": ["images, masks"]} if found and {"images", "masks"} <= tree.folders and not layout else {}
    return found


def _choose(candidates: dict[str, list[str]], layout: str, path: Path) -> str:
    """The one layout.

    Raises:
        InputError: there are several, or the wanted one is not there.
    """
    if layout == "names":
        return layout
    if layout:
        if layout not in candidates:
            raise InputError(f"{path} has no files of the layout '{layout}': correct --layout or leave it out.")
        return layout
    if len(candidates) > 1:
        choices = "; ".join(f"--layout {name} ({', '.join(files[:3])})" for name, files in candidates.items())
        raise InputError(f"{path} can be read in several ways: choose one by {choices}.")
    name = next(iter(candidates), "names")
    files = candidates.get(name, [])
    if name == "csv" and len(files) > 1 and not _tell_sides(files):
        raise InputError(f"{path} holds several tables ({', '.join(files[:5])}): name one of them as the source.")
    return name


def _tell_sides(files: list[str]) -> bool:
    sides = [side_of(PurePosixPath(name).stem) for name in files]
    return None not in sides and "train" in sides and len(set(sides)) == len(sides)


def _read(
    tree: Tree,
    layout: str,
    candidates: dict[str, list[str]],
    options: tuple[dict[str, str], dict[str, str], str],
) -> Source:
    files, (columns, folders, unannotated) = candidates.get(layout, []), options
    if layout == "csv":
        return read_tables(tree, files, columns)
    if layout in ANNOTATIONS:
        return ANNOTATIONS[layout][1](tree, files, unannotated)
    if layout == "labelme":
        return read_labelme(tree, files)
    if layout == "nnunet":
        return read_nnunet(tree)
    if layout == "voc":
        return _read_voc(Path(files[0]))
    if layout == "pairs":
        source = from_collection(read_pairs_csv(tree.root), tree.root, layout, "the table pairs.csv")
        rows = read_rows(tree.root / "pairs.csv")
        by_image = {str(tree.root / row.get("image", "").replace("\\", "/")): row for row in rows}
        for entry in source.entries:
            entry.columns = by_image.get(entry.name.replace("\\", "/"), {})
        return source
    if layout == "datalist":
        path = Path(tree.path(files[0]))
        source = from_collection(read_datalist_json(path), tree.root, layout, f"the MONAI datalist {files[0]}")
        source.class_names = noted_class_names(read_json(path))
        return source
    return read_names(tree, folders)


def _read_voc(root: Path) -> Source:
    collection = read_voc(root, strays=True)
    source = from_collection(collection, root, "voc", f"the Pascal VOC layout in {root}")
    images, masks = images_by_stem(root / "JPEGImages"), images_by_stem(root / "SegmentationClass")
    reason = "there is no image of that name in JPEGImages: rename one of them as the other, or remove it"
    source.problems += [(str(path), reason) for key, path in masks.items() if key not in images]
    unlisted = [path for key, path in images.items() if key not in collection.items]
    source.left_out += [(str(path), "in no list of the split") for path in unlisted]
    return source


def _tell_keys_apart(entries: list[Entry]) -> None:
    """Keys that repeat get the folder before them, and a number where that is not enough."""
    repeated = Counter(entry.key for entry in entries)
    used = {key for key, count in repeated.items() if count == 1}
    for entry in entries:
        if repeated[entry.key] == 1:
            continue
        base = "_".join(part for part in (entry.folder.replace("/", "_"), entry.key) if part)
        key, number = base, 2
        while key in used:
            key, number = f"{base}_{number}", number + 1
        used.add(key)
        entry.key = key
