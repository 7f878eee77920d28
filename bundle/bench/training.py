# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images a second of the learning rules, and where the time of an iteration goes, in the bundle's own trainer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from bundle import info
from bundle.bench.inference import speeds
from bundle.bench.timing import use, wait
from bundle.benchmark.suite import ROOT
from bundle.export import read_config
from scripts.engines import SemiSupervisedTrainer
from scripts.export import quiet

KEPT = ("TeacherUpdate", "StopOnNonFinite", "LrScheduleHandler")  # of the config's handlers: what a step needs
EPOCHS, DONE, LENGTH = 10, 6, 1000  # rules are timed at 60 % of a run, with every ramp up
PLAIN = ", contiguous"  # named so because PyTorch calls its default memory order that
SHARES = ("data", "forward and losses", "teacher", "backward", "optimiser", "teacher update")


@dataclass(frozen=True)
class Training:
    """One thing that is trained: a rule on a network, by the overlays that name them.

    ``channels_last``: the memory order of images and weights, one of the trainer's own means of speed.
    """

    rule: str
    network: str
    overlays: tuple[str, ...]
    channels_last: bool = True

    @property
    def name(self) -> str:
        """``mean_teacher on SSL4MIS U-Net``"""
        return f"{self.rule} on {self.network}" + ("" if self.channels_last else PLAIN)


def rules() -> list[str]:
    """The rules of ``configs/methods`` that take masks or images alone, by their overlays."""
    return [rule["name"] for rule in info.rules(ROOT / "configs") if rule["kind"] not in ("scribbles", "clustering")]


def trainings(chosen: Sequence[str] = ()) -> list[Training]:
    """Every rule (or those chosen) on LESSNet, and, as the reference, mean teacher on the network of SSL4MIS.

    The reference stands twice: with all that this trainer does for speed, and in PyTorch's default memory order, in
    which SSL4MIS trains.
    """
    found = [Training(rule, "LESSNet", (f"methods/{rule}.yaml",)) for rule in chosen or rules()]
    overlays = ("methods/mean_teacher.yaml", "networks/unet_ssl4mis.yaml")
    return found + [Training("mean_teacher", "SSL4MIS U-Net", overlays, order) for order in (True, False)]


@dataclass(frozen=True)
class Setting:
    """What the trainings have in common: ``data`` is a dataset folder, ``batch`` labelled and as many unlabelled."""

    data: Path
    work: Path
    size: int
    batch: int
    device: torch.device
    iterations: int
    rounds: int
    threads: int
    cores: Sequence[int]


def measured(chosen: Sequence[Training], setting: Setting) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(what was done, rows) for each round; the rows come with the last one.

    The trainings take turns of ``iterations``: once to warm up, ``rounds`` times for the speed, and once more with a
    clock between the parts of an iteration, for which a GPU has to be waited for.
    """
    use(setting.threads, setting.cores)
    watches = {}
    for training in chosen:
        with quiet():
            watches[training] = Watch(trainer_of(training, setting), setting)
        yield f"{training.name} is ready", []
    for turn in range(setting.rounds + 2):
        for watch in watches.values():
            watch.run(speed=0 < turn <= setting.rounds, shares=turn > setting.rounds)
        names = {0: "warmed up", setting.rounds + 1: "shares"}
        rows = [row(*pair, setting) for pair in watches.items()] if turn > setting.rounds else []
        if rows:
            for watch in watches.values():
                watch.end()
        yield f"training, {names.get(turn, f'round {turn} of {setting.rounds}')}", rows


def trainer_of(training: Training, setting: Setting) -> SemiSupervisedTrainer:
    """The trainer of the bundle's config, without what happens between epochs."""
    files = [str(ROOT / "configs" / name) for name in ("train.json", *training.overlays)]
    values = {"dataset_dir": str(setting.data), "output_dir": str(setting.work), "image_size": setting.size}
    values |= {"bundle_root": str(ROOT), "batch_size": setting.batch, "label_ratio": 8, "cache": "memory"}
    values |= {"device": setting.device, "max_epochs": EPOCHS, "epoch_length": LENGTH}
    parser = read_config(files, values)
    if parser["unlabelled_batch_size"]:  # 0 in the overlays of rules that use none
        parser["unlabelled_batch_size"] = setting.batch
    handlers = parser["train"]["handlers"]
    parser["train#handlers"] = [one for one in handlers if one["_target_"].split(".")[-1] in KEPT]
    parser["train#trainer#channels_last"] = training.channels_last
    torch.manual_seed(0)
    return parser.get_parsed_content("train#trainer")


class Watch:
    """A trainer that runs a few iterations at a time and is timed.

    Attributes:
        seconds: of single iterations.
        parts: seconds by part of single iterations.
        images: images of an iteration, labelled and unlabelled.
    """

    def __init__(self, trainer: SemiSupervisedTrainer, setting: Setting) -> None:
        self.trainer, self.setting = trainer, setting
        self.seconds: list[float] = []
        self.parts: dict[str, list[float]] = defaultdict(list)
        self.images, self.sharing, self.teacher, self.marks = 0, False, 0.0, {}
        trainer.state.epoch, trainer.state.iteration = DONE, DONE * LENGTH
        trainer.state.max_epochs, trainer.state.epoch_length = EPOCHS, LENGTH
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=setting.iterations), self.pause)
        marks = (Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED)
        marks += (IterationEvents.FORWARD_COMPLETED, IterationEvents.BACKWARD_COMPLETED)
        marks += (IterationEvents.MODEL_COMPLETED, Events.ITERATION_COMPLETED)
        for event in marks:
            trainer.add_event_handler(event, self.mark, event)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        trainer.rule.teacher.register_forward_pre_hook(lambda *_: self.mark(trainer, "teacher"))
        trainer.rule.teacher.register_forward_hook(self.taught)

    def end(self) -> None:
        """Nothing more is asked of the trainer, which would tell of its end as of an error."""
        self.trainer.logger.disabled = True

    def run(self, speed: bool, shares: bool) -> None:
        """``iterations`` more; the quiet rounds of the warm-up are neither."""
        self.sharing, self.teacher = shares, 0.0
        wait(self.setting.device)
        start = time.perf_counter()
        self.trainer.run()
        wait(self.setting.device)
        if speed:
            self.seconds.append((time.perf_counter() - start) / self.setting.iterations)

    def pause(self, engine: Engine) -> None:
        """Hands over to the next trainer."""
        engine.interrupt()

    def mark(self, engine: Engine, event: Any) -> None:
        """Notes the time."""
        if self.sharing:
            wait(self.setting.device)
            self.marks[event] = time.perf_counter()

    def taught(self, *_: Any) -> None:
        """The teacher has answered; it may do so more than once in an iteration."""
        if self.sharing:
            wait(self.setting.device)
            self.teacher += time.perf_counter() - self.marks["teacher"]

    def add(self, engine: Engine) -> None:
        """The parts of the iteration that has ended."""
        self.images = sum(len(content["image"]) for content in engine.state.batch.values())
        if not self.sharing:
            return
        at = self.marks
        forward = at[IterationEvents.FORWARD_COMPLETED] - at[Events.ITERATION_STARTED]
        self.parts["data"].append(at[Events.GET_BATCH_COMPLETED] - at[Events.GET_BATCH_STARTED])
        self.parts["forward and losses"].append(forward - self.teacher)
        self.parts["teacher"].append(self.teacher)
        self.parts["backward"].append(at[IterationEvents.BACKWARD_COMPLETED] - at[IterationEvents.FORWARD_COMPLETED])
        self.parts["optimiser"].append(at[IterationEvents.MODEL_COMPLETED] - at[IterationEvents.BACKWARD_COMPLETED])
        self.parts["teacher update"].append(at[Events.ITERATION_COMPLETED] - at[IterationEvents.MODEL_COMPLETED])
        self.teacher = 0.0


def row(training: Training, watch: Watch, setting: Setting) -> dict[str, Any]:
    """What the table says of a training; ``shares`` sum to 1."""
    mean = {name: sum(watch.parts[name]) for name in SHARES}
    return {
        "name": training.name,
        "rule": training.rule,
        "network": training.network,
        "images": watch.images,
        "size": setting.size,
        "threads": setting.threads,
        **speeds(watch.seconds, watch.images),
        "shares": shares(mean),
    }


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Each part's share of their sum."""
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()}
