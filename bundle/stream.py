# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle stream --input VIDEO --output VIDEO``: a video or a folder of frames with its masks drawn in."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser
from tqdm import tqdm

from bundle.benchmark.suite import ROOT
from bundle.export import PARAMETERS, read_config
from scripts import pictures
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers import StrictCheckpointLoader
from scripts.run import chain, check_parameters, describe_device
from scripts.streaming import Frame, FramePredictor, Pipeline, Source, Tally, Writer, open_source, open_writer
from scripts.transforms.output import png_scale

HELP = "predict a video or a folder of frames and draw the masks into it, in bounded memory"
READ_AHEAD = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--input", required=True, metavar="PATH", help="video file, or folder of frames")
    parser.add_argument("--output", required=True, metavar="PATH", help="new video (.mp4, .mkv, ...) or new folder")
    parser.add_argument("--masks", default="", metavar="PATH", help="the masks alone: new folder, or .mkv (lossless)")
    parser.add_argument("--report", default="", metavar="FILE", help="figures as JSON (default: <output>.json)")
    parser.add_argument("--weights", default=str(ROOT / "models" / "model.pt"), help="model.pt, or an exported .onnx")
    parser.add_argument(
        "--config",
        nargs="+",
        default=[str(ROOT / "configs" / "inference.json")],
        help="configs/inference.json and overlays, such as configs/networks/unet.yaml",
    )
    parser.add_argument("--image_size", "--size", type=yaml.safe_load, help="as in training (default: the config's)")
    for key in PARAMETERS[1:]:
        parser.add_argument(f"--{key}", type=yaml.safe_load, help="as in training (default: the config's)")
    parser.add_argument("--threads", type=int, default=0, help="of network, decoder and encoder each (default: cores)")
    parser.add_argument("--rate", type=float, default=25, help="frames a second of a folder (default: 25)")
    parser.add_argument("--live", action="store_true", help="keep the source's pace and drop frames when behind")
    parser.add_argument("--read-ahead", type=int, default=READ_AHEAD, help="frames waiting before a stage, at most")


def run(arguments: argparse.Namespace) -> int:
    """Streams; 130 when Ctrl-C ended it, with the files whole up to there.

    Raises:
        InputError: bad input, something that would be replaced, or a disk that is full.
    """
    report = places(arguments)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    threads = torch.get_num_threads()
    source = open_source(arguments.input, arguments.rate, arguments.threads)
    try:
        predictor, classes = build_predictor(arguments)
        writers = open_writers(arguments, source)
        stages = build_stages(predictor, writers, classes)
        pipeline = Pipeline(source, stages, arguments.read_ahead, arguments.live)
        if source.sound:
            print("the sound is left out", flush=True)
        tally, interrupted = stream(pipeline, source, writers.values())
    finally:
        source.close()
        torch.set_num_threads(threads)  # ONNX Runtime has had them
    about = figures(arguments, source, pipeline, tally, interrupted, predictor)
    atomic_write(report, json.dumps(about, indent=1).encode())
    print(in_words(about))
    print(f"{arguments.output} has the pictures, {report} the figures")
    return 130 if interrupted else 0


def places(arguments: argparse.Namespace) -> Path:
    """Checks where things are written; returns the report's path."""
    for name, least in (("threads", 0), ("read_ahead", 1)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}: give at least {least}")
    if not 0 < arguments.rate <= 1000:
        raise InputError(f"--rate is {arguments.rate}: give the frames a second of the folder, such as 25")
    output = Path(arguments.output)
    report = Path(arguments.report) if arguments.report else output.with_name(f"{output.name}.json")
    wanted = {"--output": output, "--report": report} | ({"--masks": Path(arguments.masks)} if arguments.masks else {})
    source = Path(arguments.input).resolve()
    for option, path in wanted.items():
        if path.is_file() or path.is_dir() and (option == "--report" or any(path.iterdir())):
            raise InputError(f"{option} {path} already exists: name another one, nothing is overwritten")
        if path.resolve().is_relative_to(source):
            raise InputError(f"{option} {path} lies in the input {source}: name one outside of it")
    if len({path.resolve() for path in wanted.values()}) < len(wanted):
        raise InputError(f"{', '.join(wanted)} must differ: name another path for one of them")
    return report


def build_predictor(arguments: argparse.Namespace) -> tuple[FramePredictor, int]:
    """The config's network with its weights inside the config's transforms, and the number of classes."""
    onnx = Path(arguments.weights).suffix == ".onnx"
    values = {key: getattr(arguments, key) for key in PARAMETERS}
    values |= {"bundle_root": str(ROOT), "ckpt_path": arguments.weights, "backend": "onnxruntime" if onnx else "torch"}
    parser: ConfigParser = read_config(arguments.config, values)
    if onnx:
        parser["network#spinning"] = False  # decoder, drawing and encoder need the cores meanwhile
    settings = {key: parser.get_parsed_content(key) for key in PARAMETERS}
    check_parameters(settings)
    network = parsed(parser, "network")
    if not onnx:
        StrictCheckpointLoader(arguments.weights, network, settings)()
    return FramePredictor(parser, network), settings["num_classes"]


def parsed(parser: ConfigParser, name: str) -> Any:
    """A part of the config; its own error, not MONAI's around it, where it cannot be made."""
    try:
        return parser.get_parsed_content(name)
    except RuntimeError as error:
        raise next((cause for cause in chain(error) if isinstance(cause, InputError)), error)


def open_writers(arguments: argparse.Namespace, source: Source) -> dict[str, Writer]:
    """By what they write: ``overlay``, and ``mask`` where it is wanted."""
    common = {"rate": source.rate, "aspect": source.aspect, "threads": arguments.threads}
    writers = {"overlay": open_writer(Path(arguments.output), lossless=False, **common)}
    if arguments.masks:
        writers["mask"] = open_writer(Path(arguments.masks), lossless=True, **common)
    return writers


def build_stages(predictor: FramePredictor, writers: Mapping[str, Writer], classes: int) -> dict[str, Any]:
    """The three stages after the decoder."""

    def predict(frame: Frame) -> None:
        frame.mask = predictor(frame.decoded, frame.name)
        if frame.rgb is None:
            frame.rgb = predictor.picture(frame.decoded, frame.name)

    def overlay(frame: Frame) -> None:
        pictures.draw_mask(frame.rgb, frame.mask, pictures.FILL)

    def encode(frame: Frame) -> None:
        writers["overlay"].write(frame.rgb, frame.name, frame.seconds)
        if "mask" in writers:
            shown = frame.mask * np.uint8(png_scale(classes) or 1)
            writers["mask"].write(shown, frame.name, frame.seconds)
        frame.release()

    return {"predict": predict, "overlay": overlay, "encode": encode}


def stream(pipeline: Pipeline, source: Source, writers: Iterable[Writer]) -> tuple[Tally, bool]:
    """Runs to the end, or to Ctrl-C; the files are whole either way. What was counted, and whether it was stopped."""
    tally, interrupted = Tally(), False
    bar = tqdm(
        desc="streaming", total=source.total or None, unit="frame", disable=not sys.stderr.isatty(), dynamic_ncols=True
    )

    def consume() -> None:
        for frame in pipeline:
            tally.add(frame)
            bar.update(frame.number + 1 - bar.n)
            if pipeline.dropped:
                bar.set_postfix(dropped=pipeline.dropped, refresh=False)

    try:
        consume()
    except KeyboardInterrupt:
        interrupted = True
        pipeline.stop()
        with undisturbed():
            consume()
    finally:
        bar.close()
        for writer in writers:
            writer.close()
    return tally, interrupted


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without Ctrl-C, for the few frames that are under way: files must not be closed while they are written."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def figures(
    arguments: argparse.Namespace,
    source: Source,
    pipeline: Pipeline,
    tally: Tally,
    interrupted: bool,
    predictor: FramePredictor,
) -> dict[str, Any]:
    """The report.

    Raises:
        InputError: no frame could be decoded.
    """
    if not tally.frames and not interrupted:
        raise InputError(
            f"{arguments.input}: not one frame could be decoded ({source.trouble or 'it is empty'}): replace it"
        )
    return {
        **tally.report(),
        "dropped": pipeline.dropped,
        "undecodable": source.undecodable,
        "trouble": source.trouble,
        "interrupted": interrupted,
        "live": arguments.live,
        "lag_seconds": pipeline.lag,
        "source_fps": float(source.rate),
        "most_waiting": pipeline.most_waiting,
        "sound": "left out" if source.sound else "none",
        "weights": str(arguments.weights),
        "threads": torch.get_num_threads(),
        "device": describe_device(predictor.device),
    }


def in_words(about: Mapping[str, Any]) -> str:
    """The report for people."""
    times = ", ".join(f"{name} {value:.1f}" for name, value in about["median_ms"].items() if value is not None)
    text = (
        f"{about['frames']} frames in {about['seconds']:.1f} s: {about['fps']:.1f} a second, {about['dropped']} dropped"
    )
    if about["undecodable"]:
        text += f", {about['undecodable']} could not be decoded ({about['trouble']})"
    if about["live"] and about["lag_seconds"] > 1:
        text += f"; decoding alone fell {about['lag_seconds']:.0f} s behind the source"
    text += f"\nmedian ms of a frame, side by side on the same cores: {times}"
    return text + ("\nstopped by the keyboard; the files are whole up to there" if about["interrupted"] else "")
