# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle check DATASET``: opens every file of a data set, says all that is wrong and what it holds."""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.group_option import add_group_pattern
from scripts.data.survey import Survey, survey
from scripts.data.survey_report import report
from scripts.errors import InputError
from scripts.files import check_writable

HELP = "open every file of a dataset and report what is wrong and what it holds (exit code 1 where something is wrong)"
LISTED = 20  # lines of one kind of problem
HEADINGS = {
    "layout": "the listing of the data set",
    "no_image": "masks or scribbles without image",
    "no_mask": "held-out images without mask",
    "no_masks": "no mask",
    "duplicate_key": "names twice",
    "duplicate_image": "files listed twice",
    "split": "the split",
    "group_on_two_sides": "groups on two sides of the split",
    "missing": "missing files",
    "unreadable": "unreadable files",
    "nan": "values that are not finite",
    "channels": "numbers of channels that do not fit",
    "size": "masks of another size than their image",
    "mask_values": "masks with values that are no class",
    "mixed_255": "masks that differ in what 255 is",
    "scribble_values": "scribbles with values that are no class",
    "mask_is_image": "masks that are their image",
    "all_masks_empty": "empty masks",
    "absent_class": "classes without training mask",
    "duplicate_on_two_sides": "equal images on two sides of the split",
    "duplicate_with_other_mask": "equal images with different masks",
    "duplicate": "equal images",
    "lossy_mask": "masks stored as JPEG",
    "names_alike": "names that begin alike",
    "mixed_channels": "mixed numbers of channels",
    "mixed_orientations": "mixed orientations",
    "exif_rotation": "images that are turned",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="dataset folder or datalist JSON")
    parser.add_argument(
        "--num-classes",
        type=int,
        help="classes with background (default: as datalist.json notes, else as the masks' values tell)",
    )
    parser.add_argument("--in-channels", type=int, help="channels the network takes (default: any)")
    parser.add_argument(
        "--ignore-value", type=int, help="mask value that is no class (default: as datalist.json notes, else 255)"
    )
    parser.add_argument("--volume-pattern", help="regular expression that finds the volume in the name of a slice")
    add_group_pattern(parser, "none")
    parser.add_argument("--output", help="folder for pictures: samples, lesion sizes, class shares")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Prints the report.

    Returns:
        0 where all is well, 1 where something is wrong.

    Raises:
        InputError: there is no such path, it is no data set, or an argument is wrong.
    """
    if arguments.output:
        check_output(Path(arguments.output), Path(arguments.dataset))  # opening all images takes long
    found = survey(
        arguments.dataset,
        arguments.num_classes,
        arguments.in_channels,
        arguments.ignore_value,
        arguments.group_pattern,
        arguments.volume_pattern,
    )
    pictures = write_pictures(found, Path(arguments.output)) if arguments.output else []
    numbers = report(found) | {"pictures": [str(path) for path in pictures]}
    print(json.dumps(numbers, allow_nan=False) if arguments.json else "\n".join(as_text(numbers)))
    return 1 if found.problems else 0


def check_output(output: Path, dataset: Path) -> None:
    """Sees that the pictures can be written.

    Raises:
        InputError: it lies in the data set, or cannot be written.
    """
    if output.resolve().is_relative_to(dataset.resolve()):
        raise InputError(f"--output {output} lies in the data set {dataset}: name a folder outside of it")
    check_writable(output, "output", make=False)


def write_pictures(found: Survey, output: Path) -> list[Path]:
    """Writes ``samples.png``, ``lesion_sizes.png`` and ``class_shares.png``, as far as there is something to show."""
    from scripts.data_pictures import draw_survey  # matplotlib only when there is something to draw

    return draw_survey(found, output)


def as_text(numbers: Mapping[str, Any]) -> Iterator[str]:
    """The report in lines for people."""
    yield f"Data set {numbers['dataset']}"
    yield ""
    yield from _image_lines(numbers)
    yield from _mask_lines(numbers)
    yield from _scribble_lines(numbers["scribbles"])
    for title, findings in (("Problems", numbers["problems"]), ("Notes", numbers["notes"])):
        if findings:
            yield f"\n{title}: {len(findings)}"
            yield from _grouped(findings, Path(numbers["dataset"]).absolute())
    yield ""
    if numbers["pictures"]:
        yield from (f"Picture: {path}" for path in numbers["pictures"])
    else:
        yield "Pictures (samples with outlines, lesion sizes, class shares): add --output DIR"
    total = len(numbers["problems"])
    yield f"{total} problem{'s' * (total != 1)} found." if total else "No problem found."


def _row(name: str, text: str) -> str:
    return f"  {name:<12} {text}"


def _counted(counts: Mapping[str, int]) -> str:
    """``a`` where all are alike, else ``a (12), b (3)``."""
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{name} ({count})" for name, count in counts.items())


def _spread(numbers: Mapping[str, float] | None, unit: str = "") -> str:
    if numbers is None:
        return "none"
    low, middle, high, most = (f"{numbers[name]:g}" for name in ("p5", "median", "p95", "max"))
    return f"median {middle}{unit}, 90 % in {low} to {high}, largest {most}"


def _image_lines(numbers: Mapping[str, Any]) -> Iterator[str]:
    images = numbers["images"]
    yield "Images"
    yield _row("lists", ", ".join(f"{count} {name}" for name, count in numbers["counts"].items() if count))
    for name, text in (("sizes", ""), ("channels", ""), ("dtypes", ""), ("formats", ""), ("spacings", " mm")):
        counts = {key: count for key, count in images[name].items() if key != "unknown"}
        if counts:
            yield _row(name, _counted(counts) + text)
    for name in ("groups", "volumes"):
        members = numbers[name]
        if 0 < members["count"] < sum(numbers["counts"].values()):
            yield _row(name, f"{members['count']}, images each: {_spread(members['images'])}")


def _mask_lines(numbers: Mapping[str, Any]) -> Iterator[str]:
    how = " (as the values tell; --num-classes sets it)" if numbers["num_classes_inferred"] else ""
    yield f"Masks: {numbers['num_classes']} classes with background{how}"
    for name, masks in numbers["lists"].items():
        if masks["masks"]:
            parts = ", ".join(f"{k}: {share:.2%}" for k, share in enumerate(masks["class_shares"]))
            other = "".join(f", {count} pixels of {value}" for value, count in masks["other_values"].items())
            yield _row(name, f"{masks['masks']} masks, {masks['empty_masks']} empty; pixels by class {parts}{other}")
    for k, lesions in numbers["lesions"].items():
        square_mm = f"; {_spread(lesions['square_mm'], ' mm2')}" if lesions["square_mm"] else ""
        yield _row(f"class {k}", f"{lesions['count']} lesions: {_spread(lesions['pixels'], ' pixels')}{square_mm}")


def _scribble_lines(scribbles: Mapping[str, Any] | None) -> Iterator[str]:
    if not scribbles:
        return
    yield f"Scribbles: on {scribbles['coverage']:.2%} of the pixels"
    for name, key in (("of strokes", "stroke_shares"), ("of class", "class_coverage"), ("off class", "off_class")):
        if scribbles[key]:
            yield _row(name, ", ".join(f"{k}: {share:.2%}" for k, share in enumerate(scribbles[key])))


def _grouped(findings: Sequence[Mapping[str, str]], root: Path) -> Iterator[str]:
    """The messages by kind, with paths from the data set's folder on."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        by_kind[finding["kind"]].append(finding["message"].replace(f"{root}{os.sep}", ""))
    for kind, messages in by_kind.items():
        yield f"  {HEADINGS.get(kind, kind)} ({len(messages)})"
        yield from (f"    {message}" for message in messages[:LISTED])
        if len(messages) > LISTED:
            yield f"    and {len(messages) - LISTED} more"
