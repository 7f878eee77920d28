# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle benchmark SUITE.yaml --output DIR``: every comparison, run by the bundle's own commands."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from bundle.benchmark.lists import CurrentLists
from bundle.benchmark.plots import read_latencies
from bundle.benchmark.results import find
from bundle.benchmark.runner import run_all
from bundle.benchmark.suite import Run, check_data, load_suite
from bundle.benchmark.summary import check_published, publish, write_summary
from scripts.errors import InputError
from scripts.files import check_writable

HELP = "train and evaluate a suite of methods, networks, data sets, label ratios and seeds, and tabulate it"
GOES_ON = "the same command goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("suite", metavar="SUITE.yaml", help="what to compare; see bundle/suites")
    parser.add_argument("--output", required=True, help="folder of the runs and tables; a suite cut off goes on there")
    parser.add_argument("--data", default="", help="folder below which the suite's data sets lie")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side, each on its share of the cores")
    parser.add_argument(
        "--minutes", type=float, default=0, help="stop after this time; the next call goes on (0: never)"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="run only those whose name (data/ratio/network/method/seedN) holds this text, or matches it where it has "
        "* or ?; several times: any of them",
    )
    parser.add_argument(
        "--results",
        action="append",
        default=[],
        metavar="FOLDER",
        help="finished runs of another machine, an --output or a --publish folder; they count as done",
    )
    parser.add_argument("--publish", metavar="FOLDER", help="put results, tables and plots there, to be kept in git")
    parser.add_argument(
        "--bench", default="", metavar="FILE", help="bench.json of `python -m bundle bench`: Dice against latency"
    )
    parser.add_argument("--tables", action="store_true", help="run nothing, tabulate what is there")


def run(arguments: argparse.Namespace) -> int:
    """Runs what is missing and writes the tables; 1 if a run failed or time ran out.

    Raises:
        InputError: the suite is not valid, or names data that are not there.
    """
    output = Path(arguments.output).absolute()
    if not 1 <= arguments.workers <= (os.cpu_count() or 1):
        raise InputError(f"--workers is {arguments.workers}: give 1 to {os.cpu_count()}, the number of cores.")
    if arguments.bench:
        read_latencies(arguments.bench)  # a wrong file is told now, not after hours of runs
    suite = load_suite(arguments.suite)
    chosen = choose(suite.runs, arguments.only, arguments.suite)
    folders = [output, *finished(arguments.results), *([Path(arguments.publish)] if arguments.publish else [])]
    lists = CurrentLists(Path(arguments.data).absolute())  # the runs begin in the folder of the bundle
    check_writable(output, "output")
    if arguments.publish:
        check_writable(arguments.publish, "publish")
        check_published(suite, Path(arguments.publish), lists)  # told now, not after hours of runs
    left: list[str] = []
    if not arguments.tables:
        done = {one.name: result for one in suite.runs if (result := find(one, folders, lists=lists))}
        check_data([one for one in chosen if one.name not in done], arguments.data)
        left = run_all(chosen, done, output, lists, arguments.workers, arguments.minutes * 60)
    tell = print if arguments.tables else quiet
    results = [result for one in suite.runs if (result := find(one, folders, tell, lists))]
    print(write_summary(suite, results, output, arguments.bench))
    print(f"Tables, plots and the page are in {output}")
    if arguments.publish:
        publish(suite, results, Path(arguments.publish), arguments.bench)
        print(f"Results are published in {arguments.publish}")
    if left:
        print(f"{len(left)} of {len(chosen)} runs are not done, the first is {left[0]}: call again to go on.")
    return 1 if left else 0


def choose(runs: Sequence[Run], only: Sequence[str], path: str) -> list[Run]:
    """The runs whose name holds or matches one of the texts; all where there is none.

    Raises:
        InputError: a text chooses nothing.
    """

    def fits(run: Run, text: str) -> bool:
        return fnmatchcase(run.name, text) if any(sign in text for sign in "*?[") else text in run.name

    for text in only:
        if not any(fits(run, text) for run in runs):
            raise InputError(f"{path} has no run whose name fits '{text}': correct --only.")
    return [run for run in runs if not only or any(fits(run, text) for text in only)]


def finished(folders: Sequence[str]) -> list[Path]:
    """The folders of ``--results``.

    Raises:
        InputError: one does not exist.
    """
    missing = next((folder for folder in folders if not Path(folder).is_dir()), None)
    if missing:
        raise InputError(f"--results names {missing}, which is no folder: correct the path.")
    return [Path(folder) for folder in folders]


def quiet(_: str) -> None:
    """Says nothing a second time."""
