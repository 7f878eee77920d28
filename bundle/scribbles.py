# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle scribbles DATASET --output DIR``: scribbles from dense masks, as a data set of their own."""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.group_option import add_group_pattern
from bundle.training_command import names_setting, training_command
from scripts.class_names import completed_class_names
from scripts.data.checks import LISTS, entries_of, in_threads
from scripts.data.files import Item, absolute
from scripts.data.reader import IGNORE_INDEX, ImageReader, MaskReader
from scripts.data.survey import Survey, survey
from scripts.errors import InputError
from scripts.files import atomic_write, png
from scripts.switches import as_bool

HELP = "draw scribbles into the dense masks of a dataset; the output folder is a dataset that lists them"
FATAL = ("missing", "unreadable", "size", "mask_values", "duplicate_key")
MEASURES = {"coverage": "coverage", "share": "of strokes", "strokes": "strokes", "width": "width", "depth": "depth"}
SHOWN = 6

logger = logging.getLogger("less_net")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="dataset folder or datalist JSON with dense masks")
    parser.add_argument("--output", required=True, help="new folder for scribbles/*.png and datalist.json")
    parser.add_argument("--length", type=float, default=0.75, help="share of a contour that a stroke covers, up to 1")
    parser.add_argument("--width", type=int, default=0, help="of a stroke in pixels (default: as the image's size)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same strokes (default: 0)")
    parser.add_argument(
        "--num-classes",
        type=int,
        help="classes with background (default: as datalist.json notes, else as the masks' values tell)",
    )
    parser.add_argument(
        "--ignore-value", type=int, help="mask value that is no class (default: as datalist.json notes, else 255)"
    )
    add_group_pattern(parser, "none")
    parser.add_argument("--volume-pattern", help="regular expression that finds the volume in the name of a slice")
    parser.add_argument("--background", default="true", help="true or false: strokes in the background too")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="measure the strokes against the data set's own scribbles, with a picture",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the scribbles and their list, and prints what they are like.

    Raises:
        InputError: no data set, a mask that cannot be used, a wrong argument, or an output folder that is in use.
    """
    output = _new_folder(arguments.output, arguments.dataset)
    _check_arguments(arguments)
    found = survey(
        arguments.dataset,
        arguments.num_classes,
        ignore_value=arguments.ignore_value,
        group_pattern=arguments.group_pattern,
        volume_pattern=arguments.volume_pattern,
    )
    _refuse(found)
    for note in found.notes:
        if note.kind == "names_alike":  # the list that is written pins the split, so a training could not tell any more
            logger.warning("%s", note.message)
    blank = _blank(found)
    items = [item for _, item in entries_of(found.lists) if item.get("label")]
    if arguments.compare and not any(item.get("scribble") for item in items):
        raise InputError(f"{arguments.dataset} has no scribbles of its own to compare with: leave out --compare")
    paths = _paths(items, output)
    measured = list(_write_all(items, paths, found, arguments))
    write_datalist(found, paths, output)
    print(f"{len(items)} scribbles of {found.num_classes} classes in {output / 'scribbles'}")
    settings = {"dataset_dir": output, "annotation": "scribble", "ignore_value": blank}
    settings |= {"num_classes": found.num_classes, "in_channels": _in_channels(found)}
    settings |= names_setting(found.class_names, found.num_classes) | {"output_dir": f"output/{output.name}"}
    print(f"{output / 'datalist.json'} lists them; train with\n  {training_command(settings)}")
    print("\n".join(as_table(measured, found.num_classes)))
    if arguments.compare:
        _draw(items, paths, found, output)


def _new_folder(name: str, dataset: str) -> Path:
    output = absolute(name)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output} already exists and is not empty: name another folder")
    if Path(dataset).is_dir() and output.resolve().is_relative_to(Path(dataset).resolve()):
        raise InputError(f"--output {output} lies in the data set {dataset}: name a folder outside of it")
    return output


def _check_arguments(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.length <= 1:
        raise InputError(f"--length is {arguments.length}: give a share above 0, up to 1")
    if arguments.width < 0 or arguments.seed < 0:
        raise InputError("--width and --seed must not be negative: correct them")
    as_bool(arguments.background, "--background")


def _refuse(found: Survey) -> None:
    problems = [problem for problem in found.problems if problem.kind in FATAL]
    if problems:
        raise InputError(
            f"{problems[0].message.rstrip('.')} ({len(problems)} such problems: `python -m bundle check` lists them)"
        )
    if not any(tally.masks for tally in found.tallies.values()):
        raise InputError(f"{found.dataset} holds no mask to draw scribbles into: add masks")


def _blank(found: Survey) -> int:
    """What scribbles hold where nobody drew.

    A training has one such value for masks and scribbles, so it is the one that the masks hold already.
    """
    if found.ignore_value == IGNORE_INDEX:
        return found.num_classes
    if not found.num_classes <= found.ignore_value < IGNORE_INDEX:
        raise InputError(
            f"the ignored value {found.ignore_value} of {found.dataset} cannot mark where nobody drew: give one from "
            f"{found.num_classes} to 254, or let `python -m bundle prepare --values` translate the masks"
        )
    return found.ignore_value


def _in_channels(found: Survey) -> int:
    """The network's input channels: those of most images; grey images beside colour ones are repeated to three."""
    counts = found.images["channels"]
    return max(counts, default=3) if counts.keys() <= {1, 3} else counts.most_common(1)[0][0]


def _readers(found: Survey) -> tuple[MaskReader, MaskReader]:
    """Of the masks, and of scribbles, which may also hold the number of classes where nobody drew."""
    return MaskReader(found.num_classes, found.ignore_value), MaskReader(found.num_classes + 1, found.ignore_value)


def _paths(items: Sequence[Item], output: Path) -> dict[str, Path]:
    """Where the scribble of each key goes: its name, in characters that a file name may have."""
    names: dict[str, str] = {}
    for item in items:
        name = re.sub(r"[^\w.-]", "_", item["key"]).lstrip(".") or "_"
        other = names.setdefault(name.lower(), item["key"])
        if other != item["key"]:
            raise InputError(f"the keys '{other}' and '{item['key']}' give the same file name: rename one")
    return {key: output / "scribbles" / f"{name}.png" for name, key in names.items()}


def _write_all(
    items: Sequence[Item], paths: dict[str, Path], found: Survey, arguments: argparse.Namespace
) -> Iterator[dict[str, dict[int, dict[str, float]]]]:
    """Writes one PNG an item and yields the measures of what was ``made`` and, to compare, of the ``expert``'s."""
    from scripts.data.scribbles import draw_scribble, measure_scribble, rng_of

    num_classes, blank = found.num_classes, np.uint8(_blank(found))
    masks, own = _readers(found)
    background = as_bool(arguments.background, "--background")

    def work(item: Item) -> dict[str, dict[int, dict[str, float]]]:
        mask = masks.get_data(item["label"])[0][0]
        rng = rng_of(arguments.seed, item["key"])
        scribble = draw_scribble(mask, num_classes, rng, arguments.length, arguments.width, background)
        stored = np.where(scribble == num_classes, blank, scribble)
        atomic_write(paths[item["key"]], png(Image.fromarray(np.ascontiguousarray(stored.T))))
        measures = {"made": measure_scribble(scribble, mask, num_classes)}
        if arguments.compare and item.get("scribble"):
            measures["expert"] = measure_scribble(own.get_data(item["scribble"])[0][0], mask, num_classes)
        return measures

    yield from in_threads(work, items, "drawing scribbles")


def write_datalist(found: Survey, paths: dict[str, Path], output: Path) -> None:
    """Writes ``datalist.json``: the lists of the source with absolute paths and the scribbles beside the masks."""
    lists = {
        name: [item | ({"scribble": str(paths[item["key"]])} if item["key"] in paths else {}) for item in items]
        for name, items in found.lists.items()
        if name in LISTS
    }
    noted = {
        "num_classes": found.num_classes,
        "in_channels": _in_channels(found),
        "class_names": {str(k): name for k, name in found.class_names.items()},
        "ignore_value": _blank(found),
        "ordered": found.ordered,
    }
    atomic_write(output / "datalist.json", json.dumps(noted | lists, indent=1).encode())


def as_table(measured: Sequence[dict[str, dict[int, dict[str, float]]]], num_classes: int) -> Iterator[str]:
    """Medians over the images that hold the class, by class; the data set's own scribbles beside the made ones.

    ``coverage``: strokes over the class's pixels; ``of strokes``: the class's share of all strokes; ``strokes``: how
    many (mean); ``width`` in pixels (mean); ``depth``: 0 at the border of the class, 1 in its middle.
    """
    kinds = [kind for kind in ("expert", "made") if any(kind in one for one in measured)]
    yield "class  scribble " + "".join(f"{title:>12}" for title in MEASURES.values())
    for k in range(num_classes):
        for kind in kinds:
            numbers = [one[kind][k] for one in measured if k in one.get(kind, {})]
            yield f"{k:<6} {kind:<9}" + "".join(_entry(name, numbers) for name in MEASURES)


def _entry(name: str, numbers: Sequence[dict[str, float]]) -> str:
    values = [number[name] for number in numbers if name in number]
    if not values:
        return f"{'-':>12}"
    if name in ("coverage", "share"):
        return f"{np.median(values):>12.2%}"
    return f"{np.mean(values) if name in ('strokes', 'width') else np.median(values):>12.2f}"


def _draw(items: Sequence[Item], paths: dict[str, Path], found: Survey, output: Path) -> None:
    """Writes ``comparison.png``: the data set's own scribble on the left, the made one on the right."""
    from scripts import pictures
    from scripts.data_pictures import scribble_sheet

    masks, own = _readers(found)
    both = [item for item in items if item.get("scribble")]
    cases = []
    for place in np.linspace(0, len(both) - 1, min(SHOWN, len(both)) + 2).round().astype(int)[1:-1]:
        item = both[place]
        image = ImageReader(3).get_data(item["image"])[0]
        mask, expert = masks.get_data(item["label"])[0][0], own.get_data(item["scribble"])[0][0]
        cases.append((item["key"], image, mask, expert, own.get_data(str(paths[item["key"]]))[0][0]))
    names = completed_class_names(found.class_names, found.num_classes)
    pictures.save(scribble_sheet(cases, names), output / "comparison.png")
    print(f"Picture: {output / 'comparison.png'}")
