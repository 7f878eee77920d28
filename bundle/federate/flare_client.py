# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A site's process in NVIDIA FLARE: MONAI's client between FLARE's messages."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nvflare.client as flare
import torch
from monai.fl.utils.exchange_object import ExchangeObject

from bundle.federate.rounds import Plan, client
from bundle.federate.sites import Site


def main() -> None:
    """Trains whatever weights come, and sends the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", required=True, help="file that bundle.federate.flare wrote")
    content = json.loads(Path(parser.parse_args().plan).read_text(encoding="utf-8"))
    plan = Plan(**content["plan"] | {"output": Path(content["plan"]["output"])})
    sites = [Site(**site | {"datalist": Path(site["datalist"])}) for site in content["sites"]]
    flare.init()
    number = next(n for n, site in enumerate(sites) if site.name == flare.get_site_name())
    one = client(sites[number], plan, number)
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        weights = {name: torch.as_tensor(value) for name, value in received.params.items()}
        scores = one.evaluate(ExchangeObject(weights=weights)).metrics if one.evaluator is not None else {}
        one.train(ExchangeObject(weights=weights))
        flare.send(
            flare.FLModel(
                params=one.get_weights().weights,
                metrics={"val_mean_dice": float(scores["val_mean_dice"])} if scores else None,
                meta={"NUM_STEPS_CURRENT_ROUND": 1},
            )
        )


if __name__ == "__main__":
    main()
