# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle bench --output DIR``: how fast the networks answer and the rules train, on this machine."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
import yaml

from bundle.bench import chart, tables
from bundle.bench.measurement import PARTS, Measurement, machine
from bundle.bench.timing import cores, use
from bundle.benchmark.suite import ROOT
from bundle.group_option import add_group_pattern
from scripts import pictures
from scripts.errors import InputError
from scripts.files import atomic_write, check_writable
from scripts.report import duration

HELP = "measure latency, throughput, memory and training speed of networks and rules; tables, JSON and a plot"
DOCUMENT, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "performance.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for bench.json, bench.md and bench.png")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two networks, two rules: does it run at all?")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if there is one)")
    parser.add_argument("--weights", default=str(ROOT / "models" / "model.pt"), help="of LESSNet")
    parser.add_argument("--data", default="", metavar="DATASET", help="its Dice in 8 bits is compared (with --weights)")
    add_group_pattern(parser, "that of the run of --weights, on its data")
    parser.add_argument(
        "--num-classes",
        "--num_classes",
        type=int,
        help="with background (default: those of the run of --weights, or 2)",
    )
    parser.add_argument("--image_size", type=yaml.safe_load, default=256, help="of --data, as in training")
    parser.add_argument(
        "--results", default="", metavar="FILE", help="results.json of a suite: accuracies for the plot"
    )
    parser.add_argument("--docs", action="store_true", help="put tables and plot into docs/performance.md")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier bench.json")


def run(arguments: argparse.Namespace) -> None:
    """Measures and writes.

    Raises:
        InputError: an unknown part or device, weights or data that cannot be read, or files that would be replaced.
    """
    output, parts = Path(arguments.output), parts_of(arguments.parts)
    if (output / "bench.json").exists() and not arguments.overwrite:
        raise InputError(f"{output / 'bench.json'} already exists: pass --overwrite or another --output")
    if arguments.docs and (arguments.quick or set(parts) != set(PARTS)):
        raise InputError("--docs takes a full run: leave out --quick and --parts")
    dice, device = chart.accuracies(arguments.results), device_of(arguments.device)
    check_writable(output, "output")
    allowed, threads = cores(), torch.get_num_threads()
    about = {"machine": machine(device, allowed, arguments.quick)}
    about |= {key: [] for key in ("networks", "inference", "read_to_mask", "training", "dice")}
    try:
        with tempfile.TemporaryDirectory() as work:
            Measurement(arguments, parts, device, allowed, Path(work)).into(about)
    finally:
        use(len(allowed), allowed)
        torch.set_num_threads(threads)
    about["machine"]["seconds"] = time.time() - about["machine"].pop("began")
    text = tables.markdown(about)
    atomic_write(output / "bench.json", json.dumps(about, indent=1).encode())
    atomic_write(output / "bench.md", text.encode())
    if about["inference"]:
        pictures.save(chart.plot(about, dice), output / "bench.png")
    if arguments.docs:
        pictures.save(chart.plot(about, dice), PICTURE)
        tables.into_document(f"{text}\n![Latency of the networks](images/{PICTURE.name})", DOCUMENT)
    print(f"\n{text}\n{duration(about['machine']['seconds'])}; tables, figures and plot are in {output}")


def parts_of(text: str) -> list[str]:
    """The parts that are wanted."""
    wanted = [word.strip() for word in text.split(",")]
    unknown = [word for word in wanted if word not in PARTS]
    if unknown:
        raise InputError(f"--parts names '{unknown[0]}': give some of {','.join(PARTS)}")
    return wanted


def device_of(name: str) -> torch.device:
    """The device that PyTorch computes on."""
    if name not in ("", "cpu", "cuda"):
        raise InputError(f"--device is '{name}': give cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, but PyTorch finds no GPU here: give cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
