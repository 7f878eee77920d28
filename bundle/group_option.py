# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The option ``--group-pattern`` of the commands that read a data set as a training does."""

from __future__ import annotations

import argparse


def add_group_pattern(parser: argparse.ArgumentParser, default: str) -> None:
    """Declares it, also in the spelling of the training's key, which warnings and errors name."""
    text = f"regular expression that finds the patient or video in the name of an image (default: {default})"
    parser.add_argument("--group-pattern", "--group_pattern", metavar="REGEX", help=text)
