# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The same rounds in the simulator of NVIDIA FLARE: its server and protocol, every site in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from bundle.federate.rounds import MODEL, ROOT, Plan
from bundle.federate.sites import Site
from scripts.errors import InputError
from scripts.files import atomic_save, atomic_write

PLAN, START, JOB = "plan.json", "start.pt", "less_net"
CLIENT = Path(__file__).with_name("flare_client.py")


def federate_in_flare(sites: Sequence[Site], plan: Plan) -> Path:
    """Runs all rounds; the global weights of the last one. A federation that is cut starts anew.

    Raises:
        InputError: nvflare is not installed, the folder's path has a space, or the simulation left no weights.
    """
    if (plan.output / MODEL).is_file():
        return plan.output / MODEL
    if " " in str(plan.output):  # FLARE splits the commands of its processes there, quoted or not
        raise InputError(
            f"--output {plan.output.parent} has a space in its path, at which --flare fails: name another."
        )
    try:
        from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
        from nvflare.recipe import SimEnv
    except ImportError as error:
        raise InputError("--flare: nvflare is not installed: run pip install nvflare") from error
    definition = start(plan)
    write_plan(sites, plan)
    total = sum(site.weight(plan.unlabelled_weight) for site in sites)
    recipe = FedAvgRecipe(
        name=JOB,
        model=definition,
        initial_ckpt=str(plan.output / START),
        min_clients=len(sites),
        num_rounds=plan.rounds,
        train_script=str(CLIENT),
        train_args=f"--plan {plan.output / PLAN}",
        key_metric="val_mean_dice",
        aggregation_weights={site.name: site.weight(plan.unlabelled_weight) / total for site in sites},
    )
    # the processes of server and sites import the bundle
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    names = [site.name for site in sites]
    recipe.execute(SimEnv(clients=names, num_threads=len(names), workspace_root=str(plan.output / "flare")))
    return collect(plan)


def start(plan: Plan) -> dict:
    """Writes the first global weights, and returns the network's class and arguments."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in plan.files])
    parser.update({"bundle_root": str(ROOT), **plan.settings})
    torch.manual_seed(plan.seed)
    network = parser.get_parsed_content("network_def")
    atomic_save(plan.output / START, network.state_dict())
    values = {key: parser.get_parsed_content(f"network_def#{key}") for key in parser.get("network_def")}
    return {"class_path": values.pop("_target_"), "args": values}


def write_plan(sites: Sequence[Site], plan: Plan) -> None:
    """What the sites' processes read."""
    content = {"sites": [asdict(site) for site in sites], "plan": asdict(plan)}
    atomic_write(plan.output / PLAN, json.dumps(content, indent=1, default=str).encode())


def collect(plan: Plan) -> Path:
    """The last global weights of the simulation as ``model.pt``.

    Raises:
        InputError: there are none.
    """
    found = sorted((plan.output / "flare").rglob("FL_global_model.pt"))
    if not found:
        raise InputError(f"the simulation left no global weights in {plan.output / 'flare'}: see log.txt there")
    content = torch.load(found[-1], map_location="cpu", weights_only=True)
    weights = content.get("model", content)
    atomic_save(plan.output / MODEL, {name: torch.as_tensor(value) for name, value in weights.items()})
    return plan.output / MODEL
