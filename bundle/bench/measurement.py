# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""One run over all parts of the measurement, and what it runs on."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bundle.bench.accuracy import validation_dice
from bundle.bench.contenders import Networks, contenders, size_of
from bundle.bench.inference import Plan, inference, read_to_mask
from bundle.bench.memory import peak_memory
from bundle.bench.timing import use
from bundle.bench.training import Setting, measured, trainings
from bundle.benchmark.results import commit
from bundle.benchmark.suite import ROOT
from bundle.export import calibration_images, read_config
from scripts.data import write_synthetic_set
from scripts.handlers import StrictCheckpointLoader
from scripts.handlers.weights import patterns_of, run_of
from scripts.networks import LESSNet
from scripts.report import duration
from scripts.run.environment import versions

PARTS = ("memory", "inference", "read", "training")
FRAMES = 40  # of the synthetic set that is trained on and read


def machine(device: torch.device, allowed: list[int], quick: bool) -> dict[str, Any]:
    """What is measured on."""
    about = {"cpu": processor(), "cores": len(allowed), "pinned": hasattr(os, "sched_setaffinity"), "quick": quick}
    about |= {"device": device.type, "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else ""}
    about |= {"system": platform.platform(), "versions": versions(), "commit": commit()}
    about["versions"] = {key: value for key, value in about["versions"].items() if key in ("python", "torch", "monai")}
    about["load"] = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    about |= {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "began": time.time(), "gmac_size": 64 if quick else 256}
    return about


def processor() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class Measurement:
    """One run over the parts, with a bar (or a line for each step where there is no terminal)."""

    def __init__(
        self, arguments: argparse.Namespace, parts: list[str], device: torch.device, allowed: list[int], work: Path
    ) -> None:
        self.arguments, self.parts, self.device, self.work = arguments, parts, device, work
        self.quick, self.allowed = arguments.quick, allowed
        trained = run_of(arguments.weights).get("parameters", {}).get("num_classes")
        self.num_classes = int(arguments.num_classes or trained or 2)
        self.patterns = patterns_of(arguments.weights, arguments.data, arguments.group_pattern)
        self.contenders, self.skipped = contenders(self.quick)
        self.threads = sorted({1, min(2, len(allowed))})
        sizes, batches = ((64,), (1, 2)) if self.quick else ((256, 512), (1, 16))
        budget = (0.1, (2, 3)) if self.quick else (12.0, (5, 30))
        self.plan = Plan(batches, sizes, self.threads, allowed, *budget)
        self.trained = trainings(("less_net", "supervised")) if self.quick else trainings()

    def into(self, about: dict[str, Any]) -> None:
        """Fills the sections."""
        about["skipped"] = self.skipped
        data = write_synthetic_set(self.work / "data", FRAMES, 64 if self.quick else 256)
        networks = self.networks(data)
        steps = {
            "networks": (self.facts(networks, about["machine"]["gmac_size"]), len(self.contenders)),
            "inference": (inference(self.contenders, networks, self.plan), self.plan.cases),
            "read_to_mask": (self.read(networks, data), len(self.plan.ways)),
            "training": (self.train(data), len(self.trained) + self.rounds + 2),
            "dice": (self.dice(networks), 3),
        }
        wanted = {"networks", "dice"} if self.arguments.data else {"networks"}
        wanted |= {{"read": "read_to_mask"}.get(part, part) for part in self.parts}
        steps = {name: pair for name, pair in steps.items() if name in wanted}
        quiet = not sys.stderr.isatty()
        with tqdm(total=sum(count for _, count in steps.values()), disable=quiet, dynamic_ncols=True) as bar:
            for name, (work, _) in steps.items():
                for said, rows in work:
                    about[name] += rows
                    bar.set_description(said)
                    bar.update()
                    if quiet:
                        print(f"{duration(time.time() - about['machine']['began'])}  {said}", flush=True)

    @property
    def rounds(self) -> int:
        """Timed turns of the trainings."""
        return 1 if self.quick else 5

    def networks(self, data: Path) -> Networks:
        """The contenders, INT8 calibrated on training images of ``--data``, or on synthetic ones."""
        size = self.arguments.image_size if self.arguments.data else (64 if self.quick else 256)
        settings = {"num_classes": self.num_classes, "in_channels": 3, "image_size": size}
        parser = read_config([str(ROOT / "configs" / "inference.json")], {**settings, "bundle_root": str(ROOT)})
        images = calibration_images(self.arguments.data or str(data), parser, settings, self.patterns)
        lessnet = LESSNet(out_channels=self.num_classes)
        StrictCheckpointLoader(self.arguments.weights, lessnet, {"in_channels": 3, "num_classes": self.num_classes})()
        return Networks(images[:8] if self.quick else images, lessnet.state_dict(), self.device, self.num_classes)

    def facts(self, networks: Networks, size: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Size and memory of every contender."""
        for one in self.contenders:
            row = {"name": one.name, "architecture": one.architecture.name, "backend": one.backend}
            row |= {**size_of(networks.module(one.architecture).cpu(), size), "note": one.architecture.note}
            row["memory_mb"] = peak_memory(one, networks, size) if "memory" in self.parts else None
            yield f"size and memory of {one.name}", [row]

    def read(self, networks: Networks, data: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """From PNG to mask, by LESSNet and the U-Net of SSL4MIS: the page begins with it, so it takes longer."""
        plan = self.plan if self.quick else replace(self.plan, seconds=60.0, rounds=(10, 100))
        names = {one.architecture.name for one in self.contenders[:4]}
        chosen = [one for one in self.contenders if one.architecture.name in names]
        files = sorted((data / "images").iterdir())
        yield from read_to_mask(chosen, networks, files, 64 if self.quick else 256, plan)

    def train(self, data: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """All rules, with as many threads as the most of inference."""
        size, batch, iterations = (32, 2, 1) if self.quick else (128, 8, 3)
        common = {"device": self.device, "threads": self.threads[-1], "cores": self.allowed}
        setting = Setting(data, self.work, size, batch, iterations=iterations, rounds=self.rounds, **common)
        yield from measured(self.trained, setting)

    def dice(self, networks: Networks) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """LESSNet in each form on the validation images of ``--data``."""
        use(self.threads[-1], self.allowed)
        chosen = [one for one in self.contenders if one.architecture.name == "LESSNet"]
        yield from validation_dice(chosen, networks, self.arguments.data, self.arguments.image_size, self.patterns)
