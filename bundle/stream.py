# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle stream --input VIDEO --output VIDEO``: a video or a folder of frames with its masks drawn in."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
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
from scripts.files import atomic_write, check_writable
from scripts.handlers import StrictCheckpointLoader
from scripts.run.environment import describe_device
from scripts.run.excepthook import chain
from scripts.run.parameters import check_parameters
from scripts.streaming import Frame, FramePredictor, Pipeline, Source, Tally, Writer, open_source, open_writer
from scripts.transforms.output import png_scale

HELP = "predict a video or a folder of frames and draw the masks into it, in bounded memory"
READ_AHEAD = 4
AT_ONCE = 4  # frames; each takes the memory of a network at work, and the decoder does not keep up with many


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
    parser.add_argument(
        "--at-once",
        type=int,
        help=f"frames predicted side by side, sharing the threads (default: one a thread, up to {AT_ONCE}; live: 1)",
    )
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
        predictors, classes = build_predictors(arguments)
        check_writable(report.parent, "report")  # a film takes long
        writers = open_writers(arguments, source)
        stages = build_stages(predictors, writers, classes)
        pipeline = Pipeline(source, stages, arguments.read_ahead, arguments.live)
        if source.sound:
            print("the sound is left out", flush=True)
        tally, interrupted = stream(pipeline, source, writers.values())
    finally:
        source.close()
        torch.set_num_threads(threads)  # ONNX Runtime has had them
    about = figures(arguments, source, pipeline, tally, interrupted, predictors)
    atomic_write(report, json.dumps(about, indent=1).encode())
    print(in_words(about))
    print(f"{arguments.output} has the pictures, {report} the figures")
    return 130 if interrupted else 0


def places(arguments: argparse.Namespace) -> Path:
    """Checks where things are written; returns the report's path."""
    for name, least in (("threads", 0), ("read_ahead", 1), ("at_once", 1)):
        if getattr(arguments, name) is not None and getattr(arguments, name) < least:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}: give at least {least}")
    if not 0.001 <= arguments.rate <= 1000:  # a frame in a quarter of an hour; below, the fraction would be 0
        raise InputError(
            f"--rate is {arguments.rate}: give the frames a second of the folder, 0.001 to 1000, such as 25"
        )
    output = Path(arguments.output)
    if not output.name:
        raise InputError(f"--output is '{arguments.output}': name a new video or folder")
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


def build_predictors(arguments: argparse.Namespace) -> tuple[list[FramePredictor], int]:
    """The config's network with its weights inside the config's transforms, once for each frame at once, and the number
    of classes. PyTorch's threads are shared out among them."""
    parser = build_parser(arguments)
    settings = {key: parser.get_parsed_content(key) for key in PARAMETERS}
    check_parameters(settings)
    threads = torch.get_num_threads()
    on_cpu = is_onnx(arguments) or torch.device(parsed(parser, "device")).type == "cpu"
    at_once = frames_at_once(arguments, threads, on_cpu)
    # each has a parser of its own, whose reader holds a frame
    parsers = [parser, *(build_parser(arguments) for _ in range(at_once - 1))]
    build = partial(build_network, arguments, settings, max(1, threads // at_once))
    # an ONNX file prepares itself for a shape, each for itself; PyTorch's network serves all
    networks = [build(one) for one in parsers] if is_onnx(arguments) else [build(parser)] * at_once
    return [FramePredictor(*pair) for pair in zip(parsers, networks)], settings["num_classes"]


def build_network(
    arguments: argparse.Namespace, settings: Mapping[str, Any], threads: int, parser: ConfigParser
) -> torch.nn.Module:
    """The config's network with its weights, which computes with so many threads."""
    torch.set_num_threads(threads)  # ONNX Runtime takes them, and leaves PyTorch one
    network = parsed(parser, "network_on_backend")
    if not is_onnx(arguments):
        StrictCheckpointLoader(arguments.weights, network, settings)()
    return network


def build_parser(arguments: argparse.Namespace) -> ConfigParser:
    """The configs with the values of this run."""
    values = {key: getattr(arguments, key) for key in PARAMETERS}
    backend = "onnxruntime" if is_onnx(arguments) else "torch"
    # no text, in which MONAI would rewrite #
    values |= {"bundle_root": str(ROOT), "ckpt_path": Path(arguments.weights), "backend": backend}
    parser: ConfigParser = read_config(arguments.config, values)
    if is_onnx(arguments):
        parser["network_on_backend#spinning"] = False  # decoder, drawing and encoder need the cores meanwhile
    return parser


def is_onnx(arguments: argparse.Namespace) -> bool:
    """ONNX Runtime computes the network."""
    return Path(arguments.weights).suffix == ".onnx"


def frames_at_once(arguments: argparse.Namespace, threads: int, on_cpu: bool) -> int:
    """What ``--at-once`` says; else one a thread, up to :data:`AT_ONCE`, since networks use two cores better for two
    frames than for one. Live, where a frame should be seen soon, and on a GPU: one."""
    if arguments.at_once is not None:
        return arguments.at_once
    return min(threads, AT_ONCE) if on_cpu and not arguments.live else 1


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


def build_stages(predictors: Sequence[FramePredictor], writers: Mapping[str, Writer], classes: int) -> dict[str, Any]:
    """The three stages after the decoder."""

    def predict(predictor: FramePredictor, frame: Frame) -> None:
        frame.mask = predictor(frame.decoded, frame.name)
        if frame.rgb is None:
            frame.rgb = predictor.picture(frame.decoded, frame.name)

    def overlay(frame: Frame) -> None:
        pictures.draw_mask(frame.rgb, frame.mask, pictures.FILL)

    def encode(frame: Frame) -> None:
        writers["overlay"].write(frame.rgb, frame.name, frame.seconds)
        if "mask" in writers:
            shown = frame.mask * np.uint8(png_scale(classes))
            writers["mask"].write(shown, frame.name, frame.seconds)
        frame.release()

    return {"predict": [partial(predict, one) for one in predictors], "overlay": overlay, "encode": encode}


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
        with ExitStack() as ends:  # each, whatever happens to the others
            for writer in writers:
                ends.callback(writer.close)
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
    predictors: Sequence[FramePredictor],
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
        "at_once": len(predictors),
        "device": describe_device(predictors[0].device),
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
