# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle prepare SRC --output DIR``: makes a dataset folder of whatever a hospital hands over."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

from bundle.training_command import PLAIN, bundle_command, config_list, names_setting, training_command
from scripts.data.prepare import Options, Report, prepare
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources import LAYOUTS, UNANNOTATED

HELP = "turn any folder with images and masks into a dataset folder that training reads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "source",
        metavar="SRC",
        help="folder with images; or a table, datalist or annotation file (COCO, CVAT, ...) in it",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="new or empty folder for the data set")
    parser.add_argument(
        "--layout",
        default="",
        choices=("", *LAYOUTS),
        metavar="NAME",
        help=f"how SRC is arranged (default: recognised): {', '.join(LAYOUTS)}",
    )
    parser.add_argument("--columns", default="", help="columns of a table: image=photo,mask=truth,group=patient")
    for name in ("images", "masks", "scribbles"):
        parser.add_argument(f"--{name}", default="", metavar="FOLDER", help=f"folder in SRC that holds the {name}")
    parser.add_argument(
        "--unannotated",
        default="",
        choices=("", *UNANNOTATED),
        metavar="{" + ",".join(UNANNOTATED) + "}",
        help="what images are that COCO, CVAT, Label Studio or VIA list without an annotation (default: background)",
    )
    parser.add_argument("--values", default="", help="classes of mask values: 85=1,170=2 or '#ff0000=1,#00ff00=2'")
    parser.add_argument("--nearest", action="store_true", help="other values count as the nearest named one (blur)")
    parser.add_argument("--scribble-values", default="", help="the same for scribbles; 255 means no label: 4=255")
    parser.add_argument(
        "--group-by", default="", help="what is one patient or video: folder, column:NAME or pattern:REGEX"
    )
    parser.add_argument("--val-share", type=float, default=0.1, help="share of the masks to validate on (default: 0.1)")
    parser.add_argument("--test-share", type=float, default=0.2, help="share of the masks to test on (default: 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    parser.add_argument("--plane", default="auto", help="volumes are cut axial, coronal or sagittal (default: auto)")
    parser.add_argument("--copy", action="store_true", help="copy all files, so that DIR can be moved")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken files out and list them")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> None:
    """Prepares the folder and prints what is in it, and how to train on it.

    Raises:
        InputError: see :func:`scripts.data.prepare.prepare`.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("less_net").setLevel(logging.WARNING if arguments.json else logging.INFO)
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    report = prepare(arguments.source, arguments.output, options)
    if arguments.json:
        print(json.dumps(asdict(report) | {"command": command(report)}, ensure_ascii=False))
    else:
        print("\n".join(as_text(report)))


def command(report: Report) -> str:
    """The command that trains on the prepared folder, or, where nothing in it is to be trained on, evaluates on it."""
    if not report.images["training"]:
        config = config_list([PLAIN, "configs/evaluate.json"])
        places = "--output_dir <run> --ckpt_path <run>/model.pt --results_dir <new folder>"
        return bundle_command("evaluating", config, f"--part all --dataset_dir {shlex.quote(report.output)} {places}")
    settings = {"dataset_dir": report.output, "num_classes": report.num_classes, "in_channels": report.in_channels}
    settings |= {"ignore_value": report.ignore_value} if report.ignore_value != IGNORE_INDEX else {}
    settings |= {"annotation": report.annotation} if report.annotation != "mask" else {}
    settings |= names_setting(report.class_names, report.num_classes)
    return training_command(settings | {"output_dir": f"output/{Path(report.output).name}"})


def as_text(report: Report) -> Iterator[str]:
    """The report in lines for people."""
    yield f"Prepared {report.output}"
    yield "  " + ", ".join(f"{count} {name}" for name, count in report.images.items())
    for index, lists in report.classes.items():
        name = report.class_names.get(index, "background" if index == 0 else "")
        counts = ", ".join(f"{count} {key}" for key, count in lists.items())
        yield f"  class {index}{f' ({name})' if name else ''}: in the masks of {counts} images"
    if report.planes:
        yield f"  volumes are cut into {' and '.join(report.planes)} slices"
    if report.left_out:
        yield f"  {report.left_out} files are left out: see {Path(report.output) / 'left_out.csv'}"
    if not report.images["training"]:
        yield "Nothing in it is to be trained on; evaluate on it with"
    else:
        named = names_setting(report.class_names, report.num_classes)
        yield f"Train with{' (evaluating and inference take the same --class_names)' if named else ''}"
    yield f"  {command(report)}"
