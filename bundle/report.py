# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle report RUN_DIR``: makes the page about a run anew."""

import argparse

from scripts.report import write_report

HELP = "rebuild report.html of a run from the files in its folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("run_dir", metavar="RUN_DIR", help="output folder of a training or of an evaluation")


def run(arguments: argparse.Namespace) -> None:
    """Writes the page and prints where it is.

    Raises:
        InputError: the folder holds no run.
    """
    print(write_report(arguments.run_dir))
