# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle label-loop``: a clinician replayed against a real MONAI Label server, with masks that are known.

A few images are labelled; the server trains; it is asked for the next images, which are answered with their true masks;
it trains on; and after every training the Dice on test images is taken through the server's own inference.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from pathlib import Path

from bundle.group_option import add_group_pattern
from bundle.label import add_settings, require_monai_label, settings_of
from bundle.label_loop_curve import draw, write_rows
from bundle.label_loop_replay import ORDERS, Plan, Replay
from scripts.data import load_datalist
from scripts.data.files import Item, absolute
from scripts.data.volumes import is_volume
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers.weights import patterns_of

HELP = "replay a clinician against a MONAI Label server: Dice by number of labelled images, for several orders"
RECORD = "loop.json"
FREE = ("output", "command", "orders", "seeds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--data", required=True, metavar="DIR", help="dataset folder with masks, as training reads it")
    add_group_pattern(parser, "that of the run of --weights, on its data")
    parser.add_argument("--output", required=True, metavar="DIR", help="for curve, table and servers; resumed if begun")
    parser.add_argument("--images", type=int, default=60, help="training images that may be labelled (default: 60)")
    parser.add_argument("--test-images", type=int, default=60, help="test images that are scored (default: 60)")
    parser.add_argument("--start", type=int, default=4, help="images labelled at the start (default: 4)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds after the start (default: 6)")
    parser.add_argument("--add", type=int, default=4, help="images labelled a round (default: 4)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a training (default: 4)")
    parser.add_argument("--orders", nargs="+", default=["random", "uncertainty"], choices=ORDERS, metavar="ORDER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="a replay of each order each")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Replays every order with every seed, round by round, and draws the curve.

    Raises:
        InputError: MONAI Label is not installed, a number is wrong, the data do not suffice, or the output folder holds
            another loop.
    """
    require_monai_label()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = Plan(arguments.start, arguments.rounds, arguments.add, arguments.epochs, settings_of(arguments))
    pool, test = images_of(arguments, plan)
    output = absolute(arguments.output)
    claim(output, vars(arguments))
    replays = [Replay(output, order, seed, plan, pool, test) for seed in arguments.seeds for order in arguments.orders]
    todo, done, started = sum(replay.missing() for replay in replays), 0, time.monotonic()
    print(f"{len(replays)} replays, {todo} rounds to do; {len(pool)} images, {len(test)} test images")
    for replay in replays:
        for row in replay.rounds():
            done += 1
            left = (time.monotonic() - started) / done * (todo - done) / 60
            print(f"{row.text()}; {done} of {todo} rounds, about {left:.0f} min left", flush=True)
            finish(output, replays)
    finish(output, replays)
    print(f"the curve is {output / 'curve.png'}, its values are in {output / 'curve.csv'}")


def finish(output: Path, replays: list[Replay]) -> None:
    """Table and curve of the rounds so far."""
    rows = [row for replay in replays for row in replay.rows()]
    write_rows(rows, output / "curve.csv")
    draw(rows, output / "curve.png")


def images_of(arguments: argparse.Namespace, plan: Plan) -> tuple[list[Item], list[Item]]:
    """The images that may be labelled and those that are scored, all with masks.

    Raises:
        InputError: too few of either, or volumes.
    """
    if min(plan.start, plan.add, plan.epochs, arguments.test_images) < 1 or plan.rounds < 0:
        raise InputError("--start, --add, --epochs and --test-images take 1 or more, --rounds 0 or more")
    patterns = patterns_of(plan.settings.weights, arguments.data, arguments.group_pattern)
    try:
        lists = load_datalist(arguments.data, num_classes=plan.classes(), **patterns)
    except InputError as error:  # it names the option of a training
        raise InputError(str(error).replace("--num_classes ", "--set num_classes=")) from error
    pool, test = lists["training"][: arguments.images], lists["test"][: arguments.test_images]
    if len(pool) < plan.needed() or not test:
        raise InputError(
            f"{len(pool)} images with masks to choose from, but {plan.needed()} are to be labelled (--start, --rounds, "
            "--add): lower these, or give more images"
        )
    volume = next((item["image"] for item in (*pool, *test) if is_volume(item["image"])), None)
    if volume is not None:
        raise InputError(f"{volume} is a volume: cut it into slices with `python -m bundle prepare` first")
    return pool, test


def claim(output: Path, arguments: dict) -> None:
    """Takes the output folder for this loop; further orders and seeds may join a loop that was begun.

    Raises:
        InputError: it holds something else, or a loop with other arguments.
    """
    kept = {key: value for key, value in arguments.items() if key not in FREE}
    path = output / RECORD
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in kept if before.get(key) != kept[key]]
        if different:
            raise InputError(
                f"{output} holds a loop with --{different[0].replace('_', '-')} {before.get(different[0])}, not "
                f"{kept[different[0]]}: give the same to go on, or another --output"
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output} is in use: name another folder")
    else:
        atomic_write(path, json.dumps(kept, indent=1).encode())
