# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Latency and throughput of the networks alone, and of everything from the picture file to the mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from bundle.bench.contenders import TORCH, Contender, Networks
from bundle.bench.timing import interleaved, quartiles, use
from bundle.benchmark.suite import ROOT
from bundle.export import read_config
from scripts.data.decode import decode
from scripts.networks import OnnxNetwork
from scripts.networks.onnx import SETTLED
from scripts.streaming import FramePredictor

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is timed, and for how long.

    Attributes:
        batches: images at once.
        sizes: sides of the images in pixels.
        threads: numbers of threads.
        cores: those that may be used.
        seconds: for one case, all contenders together.
        rounds: the fewest and the most turns.
    """

    batches: Sequence[int]
    sizes: Sequence[int]
    threads: Sequence[int]
    cores: Sequence[int]
    seconds: float
    rounds: tuple[int, int]

    @property
    def cases(self) -> int:
        """How many cases :func:`inference` yields."""
        return len(self.batches) * len(self.sizes) * len(self.threads)

    @property
    def ways(self) -> list[tuple[int, int]]:
        """Threads, and files at once that share them, of the cases that :func:`read_to_mask` yields."""
        return list(dict.fromkeys((threads, at_once) for threads in self.threads for at_once in (1, threads)))


@torch.inference_mode()
def inference(contenders: Sequence[Contender], networks: Networks, plan: Plan) -> Iterator[tuple[str, list[Row]]]:
    """(what was timed, a row for each contender) by threads, size and batch."""
    for threads in plan.threads:
        use(threads, plan.cores)
        ready = {contender: networks.ready(contender) for contender in contenders}
        for size in plan.sizes:
            for batch in plan.batches:
                images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
                calls = {one.name: call(ready[one], images, one, networks.device) for one in contenders}
                found = interleaved(calls, plan.seconds, plan.rounds, networks.device)
                case = {"threads": threads, "size": size, "batch": batch}
                rows = [{"name": name, **case, **speeds(values, batch)} for name, values in found.items()]
                yield f"{size}x{size}, batch {batch}, {threads} threads", rows


def call(network: nn.Module, images: torch.Tensor, contender: Contender, device: torch.device) -> Callable[[], object]:
    """One answer to images that lie where the network computes."""
    images = images.to(device) if contender.backend == TORCH else images
    settle(network, images)
    return lambda: network(images)


def settle(network: nn.Module, images: torch.Tensor) -> None:
    """Lets an ONNX network prepare itself for the shape, as it does after some images of a video or folder."""
    if isinstance(network, OnnxNetwork):
        for _ in range(SETTLED + 1):
            network(images)


def speeds(seconds: Sequence[float], images: int) -> Row:
    """Milliseconds of a call and images a second: quartiles, the median in the middle."""
    times = quartiles(seconds)
    rates = [images / value for value in reversed(times)]
    return {"ms": [1000 * value for value in times], "images_per_second": rates, "calls": len(seconds)}


@torch.inference_mode()
def read_to_mask(
    contenders: Sequence[Contender], networks: Networks, pictures: Sequence[Path], size: int, plan: Plan
) -> Iterator[tuple[str, list[Row]]]:
    """The same for a PNG file that is decoded, preprocessed, predicted and turned into its mask: one at a time with all
    threads, and as many at once as there are threads, with one each.

    Preprocessing and postprocessing are those of ``configs/inference.json``.
    """
    for threads, at_once in plan.ways:
        calls = {}
        for one in contenders:
            torch.set_num_threads(threads // at_once)  # a session takes as many when it is opened
            each = [file_call(networks.ready(one), pictures, size, networks.device) for _ in range(at_once)]
            calls[one.name] = with_threads(threads // at_once if one.backend == TORCH else 1, side_by_side(each))
        use(threads, plan.cores)
        found = interleaved(calls, plan.seconds, plan.rounds, networks.device)
        case = {"threads": threads, "at_once": at_once, "size": size}
        rows = [{"name": name, **case, **speeds(seconds, at_once)} for name, seconds in found.items()]
        yield f"PNG of {size}x{size} to mask, {threads} threads, {at_once} at once", rows


def side_by_side(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """The calls as one, each in a thread of its own, as ``python -m bundle stream`` predicts; it ends with the last."""
    if len(calls) == 1:
        return calls[0]
    pool = ThreadPoolExecutor(len(calls))
    return lambda: [future.result() for future in [pool.submit(call) for call in calls]]


def with_threads(threads: int, call: Callable[[], object]) -> Callable[[], object]:
    """The call with so many threads of PyTorch: one where ONNX Runtime computes, as inference does it then."""

    def one() -> object:
        torch.set_num_threads(threads)
        return call()

    return one


def file_call(network: nn.Module, pictures: Sequence[Path], size: int, device: torch.device) -> Callable[[], object]:
    """One file to its mask, the next file at each call."""
    parser: ConfigParser = read_config([str(ROOT / "configs" / "inference.json")], {"image_size": size})
    parser["bundle_root"], parser["device"] = str(ROOT), device
    predictor, turn = FramePredictor(parser, network), cycle(pictures)
    settle(network, torch.zeros(1, 3, size, size))

    def one() -> object:
        path = next(turn)
        return predictor(decode(path), path.name)

    return one
