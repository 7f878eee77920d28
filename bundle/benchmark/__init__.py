# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle benchmark SUITE.yaml --output DIR``: every comparison, run by the bundle's own commands."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bundle.benchmark.runner import run_all
from bundle.benchmark.suite import load_suite
from bundle.benchmark.tables import write_tables
from scripts.errors import InputError

HELP = "train and evaluate a suite of methods, networks, data sets, label ratios and seeds, and tabulate it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("suite", metavar="SUITE.yaml", help="what to compare; see bundle/suites")
    parser.add_argument("--output", required=True, help="folder of the runs and tables; a suite cut off goes on there")
    parser.add_argument("--data", default="", help="folder below which the suite's data sets lie")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side, each on its share of the cores")
    parser.add_argument(
        "--minutes", type=float, default=0, help="stop after this time; the next call goes on (0: never)"
    )
    parser.add_argument("--only", default="", help="run only those whose name holds this text")
    parser.add_argument("--tables", action="store_true", help="run nothing, tabulate what is there")


def run(arguments: argparse.Namespace) -> int:
    """Runs what is missing and writes the tables; 1 if a run failed or time ran out.

    Raises:
        InputError: the suite is not valid, or names data that are not there.
    """
    output = Path(arguments.output).absolute()
    if not 1 <= arguments.workers <= (os.cpu_count() or 1):
        raise InputError(f"--workers is {arguments.workers}: give 1 to {os.cpu_count()}, the number of cores.")
    runs = [one for one in load_suite(arguments.suite, arguments.data) if arguments.only in one.name]
    if not runs:
        raise InputError(f"{arguments.suite} has no run whose name holds '{arguments.only}': correct --only.")
    left = [] if arguments.tables else run_all(runs, output, arguments.workers, arguments.minutes * 60)
    print(write_tables(runs, output))
    if left:
        print(f"{len(left)} of {len(runs)} runs are not done, the first is {left[0]}: call again to go on.")
    return 1 if left else 0
