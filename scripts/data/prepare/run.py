# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The steps of a preparation: list, open, decide, write; nothing is in place before all of it is there."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from scripts.data.exif import rotation_note
from scripts.data.files import absolute, stem
from scripts.data.listings import read_datalist_json
from scripts.data.prepare.duplicates import drop_across_sides, twins_of
from scripts.data.prepare.inspection import Facts, inspect
from scripts.data.prepare.planning import (
    LISTS,
    Planned,
    Split,
    file_names,
    group_hint,
    groups_of,
    items_of,
    settle_groups,
    split_items,
)
from scripts.data.prepare.rules import decide_values
from scripts.data.prepare.state import Options, Progress, Report, drop, refuse
from scripts.data.prepare.values import parse_values
from scripts.data.prepare.writing import Writer
from scripts.data.selection import labelled_count
from scripts.data.sources import PREPARED, Entry, Problem, Source, read_source
from scripts.data.sources.label_server import unapproved
from scripts.data.sources.tables import parse_columns
from scripts.data.sources.words import MASK_ENDINGS, is_numbered_mask
from scripts.data.volumes import check_plane
from scripts.errors import InputError
from scripts.files import atomic_write, check_writable

logger = logging.getLogger("less_net")

MARKER = ".less_net_prepare"  # says that an unfinished folder is ours to remove


def prepare(source: str | Path, output: str | Path, options: Options) -> Report:
    """Makes ``output`` a dataset folder with the images of ``source``, of which nothing is changed.

    Args:
        source: any folder with images, or a table, datalist or COCO file.
        output: a new or empty folder.
        options: all settings.

    Raises:
        InputError: nothing is recognised, files are broken (all are named), the mask values need to be told, there are
            too few masks, or the folder cannot be written; then ``output`` is as it was.
    """
    source, output = absolute(source), absolute(output)
    output = output.resolve() if output.is_symlink() else output  # a link is not replaced, but what it leads to
    part = _check_output(source, output)
    check_plane(options.plane, "--plane")
    given = {"label": parse_values(options.values) if options.values else {}}
    given["scribble"] = parse_values(options.scribble_values, "--scribble-values") if options.scribble_values else {}
    skipped = (output, part, *_unapproved(source, options))
    columns = parse_columns(options.columns)
    found = read_source(source, options.layout, columns, _folders(options), skipped, options.unannotated)
    logger.info("%s is read as %s.", source, found.text)
    data = _inspect(found, options)
    _require_masks(data, source)
    decide_values(data, given, options)
    lists = _split(data, options).lists
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / MARKER).touch()
        _write(data, lists, part, options)
        report = _report(data, lists, output)
        _write_listings(data, lists, report, part, source, options)
        _check_result(part, output, report)
        (part / MARKER).unlink()
        if output.exists():
            output.rmdir()
        os.replace(part, output)
    except OSError as error:
        raise InputError(
            f"cannot write {output} ({error.strerror or error}): free space or name another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return report


def _check_output(source: Path, output: Path) -> Path:
    """The folder in which the set is built, beside ``output``.

    Raises:
        InputError: ``output`` is the source, not empty or a mount point, the folder to build in is somebody else's, or
            nothing can be written there.
    """
    if output.resolve() == source.resolve():
        raise InputError(f"--output {output} is the folder to prepare: name a new folder.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output} is not empty: name a new folder.")
    if os.path.ismount(output):  # as of a container: it cannot be replaced by the finished folder
        raise InputError(f"--output {output} is a mounted folder: name a new folder in it.")
    part = output.with_name(output.name + ".part")
    if part.exists() and not (part / MARKER).is_file():
        raise InputError(f"{part} is in the way: remove it or name another folder as --output.")
    check_writable(part.parent, "output", make=False)  # opening all files takes long
    return part


def _unapproved(source: Path, options: Options) -> list[Path]:
    """The server's own masks in the studies of a MONAI Label server, unless ``--masks`` says which to take."""
    folders = [] if options.masks else unapproved(source)
    for folder in folders:
        logger.warning("%s holds masks that nobody has approved, so it is left out: --masks takes it.", folder)
    return folders


def _folders(options: Options) -> dict[str, str]:
    roles = {"image": options.images, "label": options.masks, "scribble": options.scribbles}
    return {folder: role for role, folder in roles.items() if folder}


def _inspect(source: Source, options: Options) -> Progress:
    """Opens all files and settles the number of channels.

    Raises:
        InputError: something is broken, and broken files are not to be skipped.
    """
    facts, broken = inspect(source.entries, options.plane)
    channels, odd = _settle_channels(source.entries, facts)
    problems = source.problems + broken + odd
    refuse(problems, options.skip_broken)
    data = Progress(source, facts, source.left_out + problems, channels=channels)
    drop(data, {name for name, _ in problems})
    if turned := sum(data.facts[entry.key].turned for entry in data.source.entries):
        logger.warning("%s", rotation_note(turned))
    return data


def _require_masks(data: Progress, source: Path) -> None:
    """Refuses a set without any mask or scribble.

    Raises:
        InputError: naming the options that tell where they are.
    """
    entries = data.source.entries
    if any(entry.label is not None or entry.scribble is not None for entry in entries):
        return
    numbered = next((Path(entry.name).name for entry in entries if is_numbered_mask(stem(entry.name))), None)
    if numbered is not None:
        raise InputError(
            f"{source} is read as {data.source.text}, so nothing can be learnt, but {numbered} seems to be one of "
            "several masks of an image: merge them into one mask, each class a value, and end its name in _mask."
        )
    raise InputError(
        f"{source} is read as {data.source.text}, so nothing can be learnt: say where the masks are by "
        "--masks FOLDER, or by --columns image=COLUMN,mask=COLUMN for a table; beside its image a mask is known by an "
        f"ending of its name, {MASK_ENDINGS}."
    )


def _settle_channels(entries: Sequence[Entry], facts: Mapping[str, Facts]) -> tuple[int, list[Problem]]:
    """The network's input channels, and the images that have another number; grey and colour may be mixed."""
    counts = Counter(one.channels for one in facts.values())
    volumes = any(one.slices for one in facts.values())  # whose three channels may be points in time
    if len(counts) < 2 or (set(counts) <= {1, 3} and not volumes):
        return max(counts, default=3), []
    usual = counts.most_common(1)[0][0]
    odd = [entry for entry in entries if entry.key in facts and facts[entry.key].channels != usual]
    reason = "it has {} channels, but most images have {}"
    return usual, [(entry.name, reason.format(facts[entry.key].channels, usual)) for entry in odd]


def _split(data: Progress, options: Options) -> Split:
    """Groups, duplicates and the four lists."""
    entries = data.source.entries
    if any(entry.side for entry in entries):
        for entry in entries:
            entry.side = (entry.side if entry.label is not None else None) or "train"
    groups = groups_of(entries, options.group_by)
    marks = {key: facts.fingerprint for key, facts in data.facts.items()}
    entries, dropped = drop_across_sides(entries, twins_of(entries, marks))
    merged = settle_groups(entries, groups, twins_of(entries, marks))
    if merged or dropped:
        logger.info("Equal images: %d groups made one, %d images left out.", merged, len(dropped))
    planned = [
        one
        for entry in entries
        for one in items_of(entry, data.facts[entry.key], groups[entry.key], data.tables.get(entry.key, {}))
    ]
    split = split_items(planned, (options.val_share, options.test_share), options.seed, data.source.text)
    data.left_out += dropped + split.left_out
    if hint := group_hint(entries, options.group_by):
        logger.warning("%s", hint)
    return split


def _write(data: Progress, lists: Mapping[str, list[Planned]], part: Path, options: Options) -> None:
    items = [one for planned in lists.values() for one in planned]
    names = file_names([one.item["key"] for one in items])
    remade = frozenset(name for name, rule in data.rules.items() if rule.classes is not None)
    remade -= {"scribble"} if data.marked else set()
    writer = Writer(part, names, remade, data.ignore_value, options.copy)
    writer.write([(one, data.tables.get(one.entry.key, {})) for one in items], options.plane)


def _report(data: Progress, lists: Mapping[str, list[Planned]], output: Path) -> Report:
    count = max(rule.num_classes for rule in data.rules.values())
    masked = sum("label" in one.item for one in lists["training"])
    scribbles = bool(lists["training"]) and not masked
    only = sum("scribble" in one.item and "label" not in one.item for one in lists["training"])
    if masked and only:
        logger.warning(
            "%d training images have a scribble alone, so a training from masks, of which there are %d, does not use "
            "them: folders named train, val and test keep the masks for validation and test.",
            only,
            masked,
        )
    return Report(
        output=str(output),
        layout=data.source.layout,
        recognised=data.source.text,
        images={name: len(planned) for name, planned in lists.items()},
        classes={
            index: {
                name: sum(index in one.classes.get("label", ()) for one in planned)
                for name, planned in lists.items()
                if name != "unlabeled"
            }
            for index in range(count)
        },
        class_names={index: name for index, name in sorted(data.source.class_names.items()) if index < count},
        num_classes=count,
        in_channels=data.channels,
        ignore_value=data.ignore_value,
        annotation="scribble" if scribbles else "mask",
        planes=sorted({facts.plane for facts in data.facts.values() if facts.plane}),
        left_out=len(data.left_out),
    )


def _write_listings(
    data: Progress, lists: Mapping[str, list[Planned]], report: Report, part: Path, source: Path, options: Options
) -> None:
    """Writes ``datalist.json`` and, where files are left out, ``left_out.csv``."""
    content = {
        "num_classes": report.num_classes,
        "in_channels": report.in_channels,
        "class_names": {str(index): name for index, name in report.class_names.items()},
        "ignore_value": report.ignore_value,
        PREPARED: str(source),
        "layout": report.layout,
        "settings": asdict(options),
        "plane": report.planes[0] if len(report.planes) == 1 else None,
        "ordered": data.source.ordered,
        **{name: [one.item for one in lists[name]] for name in LISTS},
    }
    atomic_write(part / "datalist.json", json.dumps(content, indent=1, ensure_ascii=False).encode())
    if data.left_out:
        table = io.StringIO(newline="")
        csv.writer(table).writerows([("file", "reason"), *dict.fromkeys(data.left_out)])
        atomic_write(part / "left_out.csv", table.getvalue().encode())


def _check_result(part: Path, output: Path, report: Report) -> None:
    """Reads the list as training will, if it holds images to train on.

    Raises:
        InputError: it cannot be trained on; the message names ``output``.
    """
    wanted = "label" if report.annotation == "mask" else "scribble"
    try:
        collection = read_datalist_json(part / "datalist.json")
        if not report.images["training"]:
            return
        train = [collection.items[key] for key in collection.split["train"]]
        labelled_count([item["group"] for item in train if wanted in item], 1.0)
    except InputError as error:
        raise InputError(str(error).replace(str(part), str(output))) from None
