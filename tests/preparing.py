# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`prepare` on a folder, and what must hold around it whatever it makes of the folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from scripts.data import check_datalist, load_datalist
from scripts.data.prepare import Options, prepare
from scripts.errors import InputError
from tests.folders import content_of

NAMES = ("training", "unlabeled", "validation", "test")


def run(source, output=None, **options):
    """Prepares a folder that stays as it is; the report, and the lists as training reads them."""
    output = output or Path(source).with_name("prepared")
    before = content_of(source) if Path(source).is_dir() else {}
    report = prepare(source, output, Options(**options))
    assert not before or content_of(source) == before
    datalist = load_datalist(output, num_classes=report.num_classes, annotation=report.annotation)
    check_datalist(datalist, report.num_classes, report.in_channels, report.ignore_value)
    return report, datalist


def everything(datalist):
    return [item for name in NAMES for item in datalist[name]]


def left_out(output):
    with (Path(output) / "left_out.csv").open(encoding="utf-8", newline="") as stream:
        return {Path(row["file"]).name: row["reason"] for row in csv.DictReader(stream)}


def refused(source, message, **options):
    """The message of a refusal, after which there is no output and the source is as before."""
    output = Path(source).with_name("refused")
    before = content_of(source)
    with pytest.raises(InputError, match=message) as caught:
        prepare(source, output, Options(**options))
    assert content_of(source) == before
    assert not output.exists() and not output.with_name("refused.part").exists()
    return str(caught.value)
