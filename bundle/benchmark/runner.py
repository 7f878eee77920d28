# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a suite: each run trains and evaluates in a process of its own, side by side on cores of their own."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from bundle.benchmark.suite import ROOT, Run
from scripts.files import atomic_write
from scripts.report import duration

RESULT = "result.json"
GRACE = 20.0  # seconds that a run which must end gets to do so


def run_all(runs: Sequence[Run], output: Path, workers: int = 1, seconds: float = 0) -> list[str]:
    """Runs what has no result yet; a run that was cut goes on where it was.

    Args:
        runs: of the suite.
        output: folder of the runs.
        workers: how many at a time; each gets its share of the cores to itself.
        seconds: time after which nothing more is begun and what runs is stopped; 0: none.

    Returns:
        names of the runs that failed or are not done.
    """
    waiting = [run for run in runs if not (output / run.name / RESULT).is_file()]
    print(f"{len(runs) - len(waiting)} of {len(runs)} runs are done, {len(waiting)} to go", flush=True)
    state = _State(len(waiting), time.monotonic(), time.monotonic() + seconds if seconds else float("inf"))
    places: SimpleQueue[list[int]] = SimpleQueue()
    for cores in shares(workers):
        places.put(cores)

    def work(run: Run) -> str | None:
        cores = places.get()
        try:
            return None if time.monotonic() < state.deadline and one_run(run, output, cores, state) else run.name
        finally:
            places.put(cores)

    with ThreadPoolExecutor(workers) as pool:
        try:
            return [name for name in pool.map(work, waiting) if name]
        except KeyboardInterrupt:
            state.deadline = 0.0
            raise


class _State:
    """What the workers share: the clock, the count, and the lock of the screen."""

    def __init__(self, total: int, began: float, deadline: float) -> None:
        self.total, self.began, self.deadline = total, began, deadline
        self.done, self.lock = 0, threading.Lock()

    def tell(self, text: str) -> None:
        """One line for a run that ended, with the time left."""
        with self.lock:
            self.done += 1
            left = (time.monotonic() - self.began) / self.done * (self.total - self.done)
            print(f"[{self.done}/{self.total}] {text}; about {duration(left)} left", flush=True)


def shares(workers: int) -> list[list[int]]:
    """The cores of each worker; with more workers than cores some share one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return [cores[worker::workers] or [cores[worker % len(cores)]] for worker in range(workers)]


def one_run(run: Run, output: Path, cores: Sequence[int], state: _State) -> bool:
    """Trains, evaluates, writes the result; False if one of them failed or time ran out."""
    folder = output / run.name
    if not (folder / "latest.pt").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # cut before its first checkpoint: the bundle would refuse the folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in commands(run, folder).items():
        if (folder / f"{name}.done").is_file():
            continue
        code = execute(command, folder / f"{name}.log", cores, state)
        if code:
            end = "was stopped" if code < 0 else f"failed, see {folder / name}.log"
            state.tell(f"{run.name}: {name} {end}")
            return False
        (folder / f"{name}.done").touch()
    result = collect(run, folder)
    atomic_write(folder / RESULT, json.dumps(result, indent=1).encode())
    dice = 100 * result["scores"]["mean_dice"]
    state.tell(f"{run.name}: Dice {dice:.1f} % after {result['train_minutes']:.1f} min of training")
    return True


def commands(run: Run, folder: Path) -> dict[str, list[str]]:
    """The bundle commands of a run, as a user would type them from the bundle's folder."""
    common = {**run.settings, "label_ratio": run.label_ratio, "seed": run.seed, "output_dir": str(folder)}
    resume = {"resume": "true"} if (folder / "latest.pt").is_file() else {}
    score = {"ckpt_path": str(folder / "model.pt"), "part": run.part, "overwrite": "true"}
    files = ["configs/train.json", *run.configs]
    return {
        "train": _command("training", files, common | resume),
        "evaluate": _command("evaluating", [*files, "configs/evaluate.json"], common | score),
    }


def _command(run_id: str, files: list[str], values: dict[str, Any]) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    return command + [part for key, value in values.items() for part in (f"--{key}", str(value))]


def execute(command: Sequence[str], log: Path, cores: Sequence[int], state: _State) -> int:
    """One process on its cores, its output in a file; at the deadline it is stopped (exit code below 0)."""
    threads = str(len(cores))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    prefix = ["taskset", "-c", ",".join(map(str, cores))] if shutil.which("taskset") else []
    with log.open("a") as stream:
        stream.write(f"$ {shlex.join(['python', *command[1:]])}\n")
        stream.flush()
        process = subprocess.Popen([*prefix, *command], cwd=ROOT, env=environment, stdout=stream, stderr=stream)
        while process.poll() is None:
            if time.monotonic() >= state.deadline:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                process.wait()
                return -1
            time.sleep(0.2)
    return process.returncode


def collect(run: Run, folder: Path) -> dict[str, Any]:
    """What is kept of a run: its scores, its time, its size and how it was made."""
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    record = json.loads((folder / "run.json").read_text())
    with (folder / "history.csv").open(newline="") as stream:
        seconds = sum(float(row["seconds"]) for row in csv.DictReader(stream))
    return {
        **{key: getattr(run, key) for key in ("data", "network", "method", "label_ratio", "seed", "part")},
        "scores": metrics["scores"],
        "images": metrics["images"],
        "train_minutes": seconds / 60,
        "evaluate_seconds": metrics["seconds"],
        "network_parameters": record["network_parameters"],
        "device": metrics["device"],
        "versions": metrics["versions"],
        "commit": commit(),
        "commands": {name: shlex.join(["python", *line[1:]]) for name, line in commands(run, folder).items()},
    }


def commit() -> str:
    """The commit of the bundle, with + if it was changed since; empty where there is no git."""
    try:
        options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **options).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **options).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")
