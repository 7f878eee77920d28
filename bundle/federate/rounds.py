# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Rounds of federated averaging (McMahan et al., AISTATS 2017) over MONAI's client, one site after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.fl.client.monai_algo import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from torch import Tensor

from bundle.benchmark.lists import data_config
from bundle.benchmark.suite import ROOT
from bundle.federate.sites import Site
from scripts.errors import InputError
from scripts.files import atomic_save, atomic_write, load_checkpoint
from scripts.handlers.history import rows_to_csv
from scripts.run.excepthook import chain

logging.getLogger("monai.fl.client.monai_algo").setLevel(logging.WARNING)  # six lines a site and round

FEDERATED_CONFIG = "configs/federated.json"  # on top of the configs of a training
STATE, MODEL = "global.pt", "model.pt"

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What the sites agree upon.

    Attributes:
        files: configs, relative to the bundle.
        settings: values by key, as on the bundle's command line.
        rounds: of the federation.
        local_epochs: of a site in a round.
        unlabelled_weight: what an image without mask counts in the average.
        output: folder of the federation.
        join: first round of the sites without masks: before, the global network has nothing to teach them.
    """

    files: tuple[str, ...]
    settings: Mapping[str, Any]
    rounds: int
    local_epochs: int
    unlabelled_weight: float
    output: Path
    join: int = 1

    @property
    def seed(self) -> int:
        """Of the first site and the first global weights, as configs and settings give it."""
        return int(data_config(self.files, self.settings).get_parsed_content("seed"))

    def before(self, site: Site) -> int:
        """Rounds that go by before the site takes part."""
        return 0 if site.counts["training"] else self.join - 1


def federate(sites: Sequence[Site], plan: Plan) -> Path:
    """Runs the rounds that are missing; the global weights that were best on the sites' validation images, or those of
    the last round where no site has any.

    After every round ``global.pt`` holds the global weights and the position, and each site its own state, so a
    federation that was cut goes on with the round it was in.

    Raises:
        InputError: of a site, or the rule cannot learn there.
    """
    state = load_checkpoint(plan.output / STATE) if (plan.output / STATE).is_file() else None
    done = state["round"] if state else 0
    if done == plan.rounds:
        return plan.output / MODEL
    try:
        clients = [client(site, plan, n, done) for n, site in enumerate(sites)]
        if state is None:
            state = {"round": 0, "best": -1.0, "rows": [], "weights": weights_of(clients[0].trainer.network)}
        for number in range(done + 1, plan.rounds + 1):
            state = one_round(number, clients, sites, plan, state)
    except Exception as error:  # MONAI wraps what a component raises
        known = next((e for e in chain(error) if isinstance(e, InputError)), None)
        if known is None:
            raise
        raise known from error
    return plan.output / MODEL


def client(site: Site, plan: Plan, number: int, done: int = 0) -> MonaiAlgo:
    """MONAI's client of site ``number``, which goes on after ``done`` rounds of the federation.

    Raises:
        InputError: the rule wraps the network, so that what is exchanged is not what is deployed.
    """
    files = [*plan.files, FEDERATED_CONFIG]
    values = {
        **plan.settings,
        "dataset_dir": str(site.datalist),
        "output_dir": str(plan.output / site.name),
        "bundle_root": str(ROOT),
        "seed": plan.seed + number,
        "rounds": plan.rounds - plan.before(site),
        "local_epochs": plan.local_epochs,
        "resume_epoch": max(done - plan.before(site), 0) * plan.local_epochs,
    }
    judge = {"config_evaluate_filename": files if site.counts["validation"] else None, "eval_kwargs": dict(values)}
    made = MonaiAlgo(
        str(ROOT), plan.local_epochs, False, config_train_filename=files, train_kwargs=dict(values), **judge
    )
    made.initialize({ExtraItems.CLIENT_NAME: site.name})
    if made.trainer.student is not made.train_workflow.parser.get_parsed_content("network"):
        raise InputError(
            f"{type(made.trainer.rule).__name__} trains a network with additional heads around the one that is "
            "exchanged: federate another method"
        )
    return made


def one_round(
    number: int, clients: Sequence[MonaiAlgo], sites: Sequence[Site], plan: Plan, state: dict[str, Any]
) -> dict[str, Any]:
    """Every site trains from the global weights; their average is validated and written."""
    began, row, updates = time.perf_counter(), {"round": number}, []
    for one, site in [(one, site) for one, site in zip(clients, sites) if number > plan.before(site)]:
        one.train(ExchangeObject(weights=state["weights"]))
        updates.append((one.get_weights().weights, site.weight(plan.unlabelled_weight)))
        row[f"loss/{site.name}"] = one.trainer.history[-1]["loss"]
    state = state | {"round": number, "weights": average(updates)}
    score = validate(clients, sites, state["weights"])
    if score is not None:
        row["val_mean_dice"] = score
    row["seconds"] = round(time.perf_counter() - began, 2)
    if score is None or score > state["best"]:
        state["best"] = -1.0 if score is None else score
        atomic_save(plan.output / MODEL, state["weights"])
    state["rows"] = [*state["rows"], row]
    atomic_write(plan.output / "rounds.csv", rows_to_csv(state["rows"]).encode())
    atomic_save(plan.output / STATE, state)
    losses = ", ".join(f"{key[5:]} {value:.4f}" for key, value in row.items() if key.startswith("loss/"))
    judged = "no validation image" if score is None else f"val_mean_dice {score:.4f} (best {state['best']:.4f})"
    print(f"round {number}/{plan.rounds}: loss {losses}; {judged}, {row['seconds']:.0f} s", flush=True)
    return state


def average(updates: Sequence[tuple[Mapping[str, Tensor], float]]) -> Weights:
    """Weighted mean of the sites' weights; counters, which are whole numbers, are those of the first site."""
    total = sum(weight for _, weight in updates)
    first = updates[0][0]
    return {
        name: (
            sum(weights[name].double() * (weight / total) for weights, weight in updates).to(value.dtype)
            if value.is_floating_point()
            else value.clone()
        )
        for name, value in first.items()
    }


def validate(clients: Sequence[MonaiAlgo], sites: Sequence[Site], weights: Weights) -> float | None:
    """Mean Dice of the global weights on the validation images of the sites that have some, by their number; None
    where no site has any."""
    judges = [(one, site.counts["validation"]) for one, site in zip(clients, sites) if site.counts["validation"]]
    scores = [one.evaluate(ExchangeObject(weights=weights)).metrics["val_mean_dice"] * count for one, count in judges]
    return float(sum(scores) / sum(count for _, count in judges)) if judges else None


def weights_of(network: torch.nn.Module) -> Weights:
    """A copy of a network's weights on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
