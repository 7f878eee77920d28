# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle demo``: train, evaluate and predict by the bundle's own commands, and say where all of it is."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from bundle.group_option import add_group_pattern
from scripts.data import load_datalist
from scripts.data.files import Item, images_by_stem, stem
from scripts.errors import InputError
from scripts.overrides import argument
from scripts.run.folder import BEST

HELP = "train on few labels, evaluate the test images, predict a folder (what `make demo` runs)"
ROOT = Path(__file__).resolve().parents[1]
#: small enough for two cores in a few minutes; the defaults of configs/train.json are for a real run
QUICK = {"image_size": 128, "max_epochs": 8, "epoch_length": 100, "val_interval": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="", help="dataset folder; without it the embedded synthetic set")
    parser.add_argument("--output", default="", help="new folder for the results (default: output/demo-<time>)")
    parser.add_argument("--label-ratio", "--label_ratio", default="", help="share or number of labelled images to use")
    classes = "classes of the masks with background (default: 2)"
    parser.add_argument("--num-classes", "--num_classes", type=int, default=2, help=classes)
    add_group_pattern(parser, "none")
    parser.add_argument(
        "--in-channels", "--in_channels", type=int, default=3, help="channels of the images (default: 3)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the three bundle commands as a user would type them and prints the places of the results."""
    started = time.monotonic()
    output = Path(arguments.output or ROOT / "output" / time.strftime("demo-%Y%m%d-%H%M%S")).resolve()
    dataset = str(Path(arguments.data).resolve()) if arguments.data else ""
    # with one's own images every mask there is counts; the synthetic set has a mask for each, so most are set aside
    ratio = arguments.label_ratio or ("1.0" if dataset else "0.1")
    network = {name: getattr(arguments, name) for name in ("num_classes", "in_channels")}
    common = {"image_size": QUICK["image_size"], "dataset_dir": dataset, "label_ratio": ratio} | network
    common |= {"group_pattern": arguments.group_pattern} if arguments.group_pattern else {}
    train = "configs/train.json"
    bundle("training", train, {**QUICK, **common, "output_dir": output})
    weights = output / BEST
    bundle("evaluating", [train, "configs/evaluate.json"], {**common, "output_dir": output, "ckpt_path": weights})
    images = image_folder(dataset, arguments.num_classes, output / "images", arguments.group_pattern)
    predictions = output / "predictions"
    settings = {"image_size": QUICK["image_size"], "dataset_dir": images, "output_dir": predictions} | network
    bundle("inferring", "configs/inference.json", {**settings, "ckpt_path": weights})
    summarise(output, predictions, time.monotonic() - started)


def bundle(run_id: str, config: str | list[str], overrides: dict) -> None:
    """One ``python -m monai.bundle run``, printed before it starts; a failure ends the demo with its exit code."""
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(config)]
    for key, value in overrides.items():
        command += [f"--{key}", argument(value)]
    print(f"\n$ {shlex.join(['python', *command[1:]])}\n", flush=True)
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "ignore"}).returncode
    if code:
        raise InputError(f"the command above stopped with exit code {code}; mend what it says and start again")


def image_folder(dataset: str, num_classes: int, links: Path, group_pattern: str | None = None) -> Path:
    """The folder to predict: that of the data set if it holds its images and nothing else, else one with links to them.

    Masks may lie beside the images, and every patient may have a folder.
    """
    common = {"synthetic_dir": str(ROOT / "data" / "synthetic"), "group_pattern": group_pattern}
    datalist = load_datalist(dataset, num_classes=num_classes, **common)
    items: dict[str, Item] = {item["key"]: item for part in datalist.values() for item in part}
    images = {Path(item["image"]) for item in items.values()}
    folder = min(images).parent
    if {path.parent for path in images} == {folder} and set(images_by_stem(folder).values()) == images:
        return folder
    links.mkdir(parents=True)
    for key, item in items.items():
        name = Path(item["image"]).name
        os.symlink(item["image"], links / f"{key.replace('/', '_')}{name[len(stem(name)):]}")
    return links


def summarise(output: Path, predictions: Path, seconds: float) -> None:
    """Prints the scores and where the weights, metrics, pictures and report are."""
    results = output / "evaluation"
    scores = json.loads((results / "metrics.json").read_text(encoding="utf-8"))["scores"]
    dice, miou = 100 * scores["mean_dice"], 100 * scores["miou"]
    print(f"\nDone in {seconds / 60:.1f} minutes. Test images: Dice {dice:.1f} %, mIoU {miou:.1f} %. You find")
    for name, place in {
        "the weights": output / BEST,
        "the learning curves": output / "curves.png",
        "the metrics": results / "metrics.json",
        "the pictures": results / "overlays",
        "the report": results / "report.html",
        "the predicted masks": predictions,
    }.items():
        print(f"  {name:<20} {place}")
