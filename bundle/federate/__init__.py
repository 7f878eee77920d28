# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle federate --sites A B --output DIR``: what sites gain from training together, simulated."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from bundle.assignments import yaml_assignments
from bundle.benchmark.commands import TRAINING_CONFIG
from bundle.benchmark.suite import ROOT
from bundle.federate.comparison import compare
from bundle.federate.flare import federate_in_flare
from bundle.federate.rounds import FEDERATED_CONFIG, Plan, federate
from bundle.federate.sites import write_sites
from scripts import overrides
from scripts.errors import InputError
from scripts.files import atomic_write, check_writable
from scripts.run.parameters import check_parameters

HELP = "train sites together without moving images (FedAvg over MONAI's client), beside each alone and all in one"
PLAN = "federation.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--sites",
        nargs="+",
        required=True,
        metavar="SITE",
        help="dataset folders, or with --data numbers of its training images; each may end in :RATIO, the share of its "
        "images whose mask is used (0: none; default: all that have one)",
    )
    parser.add_argument("--data", default="", help="one data set whose training images are dealt out to the sites")
    parser.add_argument("--output", required=True, help="folder of everything; a federation cut off goes on there")
    parser.add_argument("--rounds", type=int, default=20, help="times the sites' weights are averaged (default: 20)")
    parser.add_argument("--local-epochs", type=int, default=1, help="epochs of a site in a round (default: 1)")
    parser.add_argument(
        "--unlabelled-weight",
        type=float,
        default=1.0,
        help="what an image without mask counts in the average of the sites' weights, against 1 with mask (default: 1, "
        "plain FedAvg); in the loss of a site: --settings unlabelled_weight=...",
    )
    parser.add_argument(
        "--join",
        type=int,
        default=1,
        help="first round of the sites without masks; before, there is no network that could teach them (default: 1)",
    )
    parser.add_argument("--configs", nargs="*", default=[], help="overlays of method and network, as for training")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="keys of configs/train.json")
    parser.add_argument("--flare", action="store_true", help="run the rounds in NVIDIA FLARE's simulator (nvflare)")
    parser.add_argument("--federation-only", action="store_true", help="no site alone, no centralised training")


def run(arguments: argparse.Namespace) -> None:
    """Runs what is missing and writes ``table.csv`` and ``table.md``.

    Raises:
        InputError: an argument or a site is not as described, or the folder holds another federation.
    """
    output = Path(arguments.output).absolute()
    for name in ("rounds", "local_epochs"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}: give 1 or more.")
    if not 1 <= arguments.join <= arguments.rounds or (arguments.flare and arguments.join > 1):
        raise InputError(f"--join is {arguments.join}: give 1 to --rounds, with --flare 1.")
    if not 0 <= arguments.unlabelled_weight <= 1:
        raise InputError(f"--unlabelled-weight is {arguments.unlabelled_weight}: give 0 to 1.")
    settings = parse_settings(arguments.settings)
    told = {key: value for key, value in vars(arguments).items() if key not in ("output", "command")}
    if output.exists():  # a start that is refused leaves no folder
        check_writable(output, "output")
    check_plan(output, told)
    files = (TRAINING_CONFIG, *arguments.configs)
    sites, everything = write_sites(arguments.sites, arguments.data, output / "sites", settings, files)
    check_settings(files, settings)
    atomic_write(output / PLAN, json.dumps(told, indent=1).encode())  # a refused start binds nobody
    plan = Plan(
        files=files,
        settings=settings,
        rounds=arguments.rounds,
        local_epochs=arguments.local_epochs,
        unlabelled_weight=arguments.unlabelled_weight,
        output=output / "federated",
        join=arguments.join,
    )
    run_rounds = federate_in_flare if arguments.flare else federate
    print(compare(sites, everything, plan, output, run_rounds, alone=not arguments.federation_only))


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a dict, values as YAML reads them.

    Raises:
        InputError: a text that is no such pair, or a key that belongs to the command.
    """
    settings = yaml_assignments(pairs, "--settings")
    if settings.get("initial_weights"):
        raise InputError("--settings initial_weights: a federation begins with random weights: drop it.")
    taken = {"max_epochs": "--rounds", "dataset_dir": "--sites", "output_dir": "--output", "label_ratio": "--sites"}
    for key in sorted(settings.keys() & taken.keys()):
        raise InputError(f"--settings {key} is given by {taken[key]}: drop it.")
    return settings


def check_settings(files: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Looks at the settings as a training does, for MONAI's client does not: a mistyped key would count for nothing.

    Raises:
        InputError: nothing would read a key, a value cannot be meant, or the rounds would not heed it.
    """
    names = [str(ROOT / name) for name in (*files, FEDERATED_CONFIG)]
    workflow = ConfigWorkflow(config_file=names, logging_file=False, workflow_type="train", **settings)
    overrides.check(workflow)
    check_parameters(workflow.parser.get_parsed_content("parameters"))
    if workflow.parser.get_parsed_content("patience"):
        raise InputError("--settings patience: a federation runs all of its rounds: drop it, or give fewer --rounds.")


def check_plan(output: Path, arguments: dict[str, Any]) -> None:
    """Compares what is run with what was; a start that was refused in its first round binds nobody.

    Raises:
        InputError: the folder holds another federation.
    """
    path = output / PLAN
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        for key in sorted(old.keys() | arguments.keys()):
            if old.get(key) != arguments.get(key) and key != "federation_only" and came_to_weights(output):
                raise InputError(
                    f"{output} holds a federation with --{key.replace('_', '-')} {old.get(key)}, not "
                    f"{arguments.get(key)}: give another --output, or the same arguments to go on."
                )
    elif output.exists() and any(output.iterdir()):
        raise InputError(f"--output {output} holds other files: give a new folder.")


def came_to_weights(output: Path) -> bool:
    """Whether a round or a training of the folder ended; what a site wrote in a round that did not counts for none."""
    return any(not path.match("round_*.pt") for path in output.rglob("*.pt"))
