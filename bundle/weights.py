# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle weights``: trains the weights that the bundle shares, and writes what they reach beside them."""

from __future__ import annotations

import argparse
import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from bundle import demo
from bundle.assignments import assignments
from bundle.benchmark.suite import ROOT
from bundle.export import read_config
from bundle.package import METADATA, WEIGHTS
from bundle.training_command import bundle_command, config_list
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers.weights import is_trained_on, run_of
from scripts.report import duration
from scripts.run.folder import BEST, HISTORY, LATEST, RUN_FILE

HELP = "train the weights that models/ shares, test them once, write their figures into the model card"
SHARED = ("image_size", "in_channels", "num_classes")
CARD = "docs/README.md"
BEGIN, END = "<!-- figures of the weights: begin -->", "<!-- figures of the weights: end -->"
#: scores of metrics.json that are told, and how
TOLD = {
    "mean_dice": "Dice",
    "mean_dice_lesion": "Dice, cases with a lesion",
    "worst_decile_dice": "Dice, worst 10 %",
    "miou": "mIoU",
    "mean_recall": "mean recall",
    "hd95": "HD95",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--data", required=True, metavar="DATASET", help="dataset folder; its test images judge the weights"
    )
    parser.add_argument("--name", required=True, help="of the data with their licence, for the model card")
    parser.add_argument("--output", required=True, metavar="DIR", help="of the run; the same one goes on there")
    parser.add_argument("--config", nargs="*", default=[], metavar="FILE", help="overlays, as configs/data/*.yaml")
    parser.add_argument(
        "--settings", nargs="*", default=[], metavar="KEY=VALUE", help="of training, as label_ratio=0.1"
    )


def run(arguments: argparse.Namespace) -> None:
    """Trains, evaluates on the test split, and only then replaces the weights and their figures.

    Raises:
        InputError: the weights would not fit configs/inference.json, or one of the two runs failed.
    """
    for name in ("data", "name"):
        if not getattr(arguments, name):
            raise InputError(f"--{name} is empty: make weights DATA=<dataset folder> NAME=<the data and their licence>")
    settings = assignments(arguments.settings, "--settings")
    around_figures()
    check_fit(arguments.config, settings)
    output, data = Path(arguments.output).resolve(), str(Path(arguments.data).resolve())
    train = ["configs/train.json", *arguments.config]
    # a run that has ended is resumed too, to nothing: the training refuses one of other settings
    check_data(output, data)
    resume = {"resume": "true"} if any((output / name).is_file() for name in (LATEST, HISTORY)) else {}
    demo.bundle("training", train, {**settings, "dataset_dir": data, "output_dir": output, **resume})
    evaluation = {**settings, "dataset_dir": data, "output_dir": output, "ckpt_path": output / BEST}
    demo.bundle("evaluating", [*train, "configs/evaluate.json"], {**evaluation, "overwrite": "true"})
    metrics = json.loads((output / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    share(output / BEST, section(output, metrics, arguments))
    describe(arguments.name, metrics)
    print(f"\n{WEIGHTS}, {METADATA} and {CARD} now hold these weights and their figures.")
    print("Read what metadata, model card and docs/data_license.txt say of the data, then commit.")


def check_fit(config: list[str], settings: Mapping[str, str]) -> None:
    """Refuses what would give weights that the bundle's own inference cannot load.

    Raises:
        InputError: naming the parameter.
    """
    files = [str(ROOT / "configs" / "inference.json")]
    expected = read_config(files, {})
    found = read_config([str(ROOT / "configs" / "train.json"), *(str(ROOT / file) for file in config)], {})
    for key in SHARED:
        value = settings.get(key, found[key])
        if str(value) != str(expected[key]):
            raise InputError(
                f"{key} would be {value}, and configs/inference.json, which reads the shared weights, says "
                f"{expected[key]}: train with that"
            )
    if found["network_def"] != expected["network_def"]:
        raise InputError("the shared weights are those of the network of configs/inference.json: leave its overlay out")


def check_data(output: Path, data: str) -> None:
    """Refuses a run on other data, which may have images of the same names.

    Raises:
        InputError: naming both.
    """
    before = run_of(str(output / BEST)).get("parameters", {})
    if before and not is_trained_on(before, data):
        raise InputError(
            f"the run in {output} is on {before.get('dataset_dir')}, not on {data}: give that data, or another --output"
        )


def rows(output: Path) -> list[dict[str, str]]:
    """The rows of the run's history."""
    path = output / HISTORY
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def section(output: Path, metrics: Mapping[str, Any], arguments: argparse.Namespace) -> str:
    """What the model card says of the weights, all of it read from the files of the run."""
    record = json.loads((output / RUN_FILE).read_text(encoding="utf-8"))
    counts = {name: part["count"] for name, part in record["data"].items()}
    seconds = sum(float(row["seconds"]) for row in rows(output))
    iterations = rows(output)[-1]["iteration"]
    training = (
        f"{arguments.name}: {counts.get('training', 0)} images with mask, {counts.get('unlabeled', 0)} without, "
        f"{counts.get('validation', 0)} to choose the epoch, {metrics['images']} to test once. {iterations} iterations "
        f"in {duration(seconds)} on {metrics['device']}."
    )
    files = ["configs/train.json", *arguments.config]
    settings = assignments(arguments.settings, "--settings")
    commands = [
        command("training", files, settings),
        f"{command('evaluating', [*files, 'configs/evaluate.json'], settings)} --ckpt_path <run>/{BEST}",
    ]
    return "\n\n".join([training, table(metrics), *(f"`{line}`" for line in commands)])


def command(run_id: str, files: Sequence[str], settings: Mapping[str, str]) -> str:
    """A run of the bundle as a reader types it, with places for the folders."""
    extra = "".join(f" --{key} {shlex.quote(value)}" for key, value in settings.items())
    return bundle_command(run_id, config_list(files), f"--dataset_dir <data>{extra} --output_dir <run>")


def table(metrics: Mapping[str, Any]) -> str:
    """The scores as a table of two lines."""
    scores = {title: written(key, metrics) for key, title in TOLD.items() if metrics["scores"].get(key) is not None}
    lines = ("| " + " | ".join(line) + " |" for line in (scores, ["---"] * len(scores), scores.values()))
    return "\n".join(lines)


def written(key: str, metrics: Mapping[str, Any]) -> str:
    """A score as people read it: percent, or a distance with its unit."""
    value = metrics["scores"][key]
    return f"{value:.1f} {metrics['distance_unit']}" if key == "hd95" else f"{100 * value:.1f} %"


def around_figures() -> tuple[str, str]:
    """What stands in the model card before and behind the figures of the weights.

    Raises:
        InputError: the card has no place for them.
    """
    before, begin, rest = (ROOT / CARD).read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{CARD} has no lines '{BEGIN}' and '{END}': put them where the figures belong")
    return before + begin, end + after


def share(weights: Path, text: str) -> None:
    """Replaces models/model.pt, and the section of the model card that tells of it."""
    before, after = around_figures()
    content = weights.read_bytes()
    text += f"\n\nSHA-256 of `{WEIGHTS}`: `{sha256(content).hexdigest()}`."
    atomic_write(ROOT / WEIGHTS, content)
    atomic_write(ROOT / CARD, f"{before}\n{text}\n{after}".encode())


def describe(name: str, metrics: Mapping[str, Any]) -> None:
    """The metadata name the data, the classes and the scores."""
    path = ROOT / METADATA
    metadata = json.loads(path.read_text(encoding="utf-8"))
    classes = {"0": "background"} | {str(row["class"]): row["name"] for row in metrics["classes"]}
    metadata["data_source"] = name
    metadata["label_classes"] = metadata["pred_classes"] = ", ".join(f"{k} {v}" for k, v in classes.items())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = classes
    scores = {key: round(value, 4) for key, value in metrics["scores"].items() if key in TOLD and value is not None}
    metadata["eval_metrics"] = scores
    atomic_write(path, (json.dumps(metadata, indent=4, ensure_ascii=False) + "\n").encode())
