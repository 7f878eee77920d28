# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle export --output DIR``: the trained network as ONNX, INT8, TorchScript and ``torch.export``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn
from tqdm import tqdm

from bundle.benchmark.suite import ROOT
from bundle.group_option import add_group_pattern
from scripts import export, overrides
from scripts.data import load_datalist
from scripts.data.checks import PATIENCE, check_images
from scripts.errors import InputError
from scripts.files import atomic_write, check_writable
from scripts.handlers import StrictCheckpointLoader
from scripts.handlers.weights import patterns_of
from scripts.run.environment import installed
from scripts.run.parameters import check_parameters

HELP = (
    "write the trained network as ONNX, quantised ONNX, TorchScript and torch.export, each compared with PyTorch (exit "
    "code 1: a format named by --formats, or every format, could not be written)"
)
FILES = {"onnx": "model.onnx", "int8": "model.int8.onnx", "torchscript": "model.ts", "pt2": "model.pt2"}
REPORT = "export.json"
PARAMETERS = ("image_size", "in_channels", "num_classes")
IMAGES = 100  # at most, for the calibration
TOLERANCE = 1e-4  # of the logits in float32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--output", required=True, metavar="DIR", help=f"folder for the files and {REPORT}")
    parser.add_argument("--weights", default=str(ROOT / "models" / "model.pt"), help="default: models/model.pt")
    parser.add_argument(
        "--config",
        nargs="+",
        default=[str(ROOT / "configs" / "inference.json")],
        help="configs/inference.json and overlays, such as configs/networks/unet.yaml",
    )
    for key in PARAMETERS:
        parser.add_argument(f"--{key}", type=yaml.safe_load, help="as in training (default: the config's)")
    parser.add_argument("--formats", default="", help=f"of {','.join(FILES)} (default: all; int8 with --calibration)")
    parser.add_argument("--calibration", default="", metavar="DATASET", help="its training images set int8's ranges")
    add_group_pattern(parser, "that of the run of --weights, on its data")
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier export")


def run(arguments: argparse.Namespace) -> int:
    """Exports, compares each form with PyTorch, and writes the files and the report.

    A form that fails, or that does not compute what PyTorch computes, is left out, and the report says why.

    Returns:
        1 where no form could be written, or not one that ``--formats`` names; else 0.

    Raises:
        InputError: weights that do not fit, an unknown format, a config that cannot be read, no calibration images, or
            files that would be replaced.
    """
    formats, output = formats_of(arguments), Path(arguments.output)
    held = [output / name for name in (*(FILES[form] for form in formats), REPORT) if (output / name).exists()]
    if held and not arguments.overwrite:
        raise InputError(f"{held[0]} already exists: pass --overwrite or another --output")
    values = {key: getattr(arguments, key) for key in PARAMETERS}
    values |= {"bundle_root": str(ROOT), "ckpt_path": arguments.weights, "backend": "torch", "device": "cpu"}
    parser = read_config(arguments.config, values)
    settings = {key: parser.get_parsed_content(key) for key in PARAMETERS}
    check_parameters(settings)
    network = parser.get_parsed_content("network").eval()
    StrictCheckpointLoader(arguments.weights, network, settings)()
    images: list[Tensor] = []
    if "int8" in formats:
        patterns = patterns_of(arguments.weights, arguments.calibration, arguments.group_pattern)
        images = calibration_images(arguments.calibration, parser, settings, patterns)
    check_writable(output, "output")
    contents, report, left_out = {}, {}, {}
    for form, export_it in exporters(network, settings, images).items():
        name = FILES[form]
        if form not in formats:
            continue
        try:
            content, notes = export_it()
            report[name] = described(form, content, network, settings, images) | notes
        except Exception as error:  # whatever torch, onnx and onnxruntime raise at a network they cannot take
            left_out[name] = reason(error)
            print(f"  {name:<16} left out: {left_out[name]}", file=sys.stderr, flush=True)
        else:
            contents[name] = content
            print(f"  {name:<16} {len(content) / 1e6:6.2f} MB, {in_words(report[name])}", flush=True)
    if not contents:
        print("error: the network could be written in none of the formats, for the reasons above", file=sys.stderr)
        return 1
    for name in left_out:
        (output / name).unlink(missing_ok=True)  # of the export that this one replaces
    for name, content in contents.items():
        atomic_write(output / name, content)
    about = {"weights": {"path": str(arguments.weights), "sha256": digest(Path(arguments.weights).read_bytes())}}
    about |= {"config": arguments.config, "settings": settings, "files": report, "left_out": left_out}
    about |= {"versions": {name: installed(name) for name in ("torch", "timm", "onnx", "onnxruntime")}}
    atomic_write(output / REPORT, json.dumps(about, indent=1).encode())
    for name in FILES.values():
        if name not in report and (output / name).exists():
            print(f"  {name:<16} is of an earlier export, maybe of other weights, and not in {REPORT}", flush=True)
    print(f"{output / REPORT} says how each was made and how far it is from PyTorch")
    return int(bool(left_out and arguments.formats))


def formats_of(arguments: argparse.Namespace) -> list[str]:
    """The forms that are wanted, in the order in which they are made."""
    if not arguments.formats:
        return [form for form in FILES if form != "int8" or arguments.calibration]
    wanted = [word.strip() for word in arguments.formats.split(",")]
    unknown = [word for word in wanted if word not in FILES]
    if unknown:
        raise InputError(f"--formats names '{unknown[0]}': give some of {','.join(FILES)}")
    if "int8" in wanted and not arguments.calibration:
        raise InputError("--formats names int8, which needs images: pass --calibration with a dataset folder")
    return [form for form in FILES if form in wanted]


def read_config(files: list[str], values: Mapping[str, Any]) -> ConfigParser:
    """The configs, later ones over earlier ones, and the ``values`` that are not None over all."""
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise InputError(f"--config {missing[0]} does not exist: correct the path")
    parser = ConfigParser()
    parser.read_config(files)
    if "in_channels" not in parser:
        raise InputError(f"--config {files[0]} is an overlay: name configs/inference.json before it")
    for key, value in values.items():
        if value is not None:
            parser[key] = value
    overrides.target_of(parser, "network_def", parser["network_def"])
    return parser


def exporters(
    network: nn.Module, settings: Mapping[str, Any], images: list[Tensor]
) -> dict[str, Callable[[], tuple[bytes, dict[str, Any]]]]:
    """By form, in the order of :data:`FILES`: what makes the content of its file, and what is to be said about it."""
    example = torch.rand(2, *shapes(settings)[0][1:], generator=torch.Generator().manual_seed(0))
    onnx = cache(lambda: export.to_onnx(network, example, settings))  # INT8 starts from it too

    def int8() -> tuple[bytes, dict[str, Any]]:
        model, bar = onnx(), tqdm(images, "calibrating", delay=PATIENCE, leave=False)
        return export.to_int8(model, bar), {"quantised": export.QUANTISED, "calibration_images": len(images)}

    def pt2() -> tuple[bytes, dict[str, Any]]:
        content, bounds = export.to_pt2(network, example)
        return content, {"bounds": bounds}

    return {
        "onnx": lambda: (onnx(), {"opset": export.OPSET}),
        "int8": int8,
        "torchscript": lambda: (export.to_torchscript(network), {}),
        "pt2": pt2,
    }


def reason(error: Exception) -> str:
    """Why a form is left out, in one line of at most 200 characters."""
    if isinstance(error, InputError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(f"{type(error).__name__}: {' '.join(lines[:2])}", 200, placeholder=" ...")


def described(
    form: str, content: bytes, network: nn.Module, settings: Mapping[str, Any], images: list[Tensor]
) -> dict[str, Any]:
    """Size, checksum and distance to PyTorch of one form.

    Raises:
        InputError: it is further from PyTorch than :data:`TOLERANCE` (INT8 may be).
    """
    call = export.loaded(form, content)
    found = export.differences(call, network, shapes(settings))
    result = {"bytes": len(content), "sha256": digest(content), "max_difference": found}
    if form == "int8":
        return result | {"changed_pixels_of_calibration_images": export.changed_pixels(call, network, images)}
    far = [name for name, value in found.items() if value is not None and not value <= TOLERANCE]
    if far or all(value is None for value in found.values()):
        raise InputError(
            f"{FILES[form]} does not compute what PyTorch computes on {(far or list(found))[0]}: leave {form} out of "
            "--formats"
        )
    return result


def shapes(settings: Mapping[str, Any]) -> list[tuple[int, int, int, int]]:
    """The image's size and two others, one at a time and three at a time."""
    x, y = ensure_tuple_rep(settings["image_size"], 2)
    sizes = ((x, y), (x + 64, y), (x, y + 128))
    return [(batch, settings["in_channels"], *size) for batch in (1, 3) for size in sizes]


def calibration_images(
    dataset: str, parser: ConfigParser, settings: Mapping[str, Any], patterns: Mapping[str, str]
) -> list[Tensor]:
    """Up to :data:`IMAGES` training images, evenly over the list, through the config's own preprocessing.

    ``patterns`` are those of the run's split (:func:`scripts.handlers.weights.patterns_of`): of a calibration on test
    images the accuracy of the 8 bits there could not be told.
    """
    lists = load_datalist(dataset, num_classes=settings["num_classes"], **patterns)
    items = lists["training"] + lists["unlabeled"]
    places = np.linspace(0, len(items) - 1, min(IMAGES, len(items))).round().astype(int)
    chosen = [{"image": items[place]["image"]} for place in places]
    check_images(chosen, channels=settings["in_channels"])
    transform = parser.get_parsed_content("preprocessing")
    bar = tqdm(chosen, "reading images", delay=PATIENCE, leave=False)
    return [torch.as_tensor(transform(item)["image"]).as_subclass(Tensor)[None] for item in bar]


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return sha256(content).hexdigest()


def in_words(entry: Mapping[str, Any]) -> str:
    """Its distance to PyTorch, for the printed line."""
    values = [value for value in entry["max_difference"].values() if value is not None]
    text = f"logits within {max(values):.1e} of PyTorch's at {len(values)} of {len(entry['max_difference'])} shapes"
    if "changed_pixels_of_calibration_images" in entry:
        text += f", {entry['changed_pixels_of_calibration_images']:.2%} of the calibration images' pixels differ"
    return text
