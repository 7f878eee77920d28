# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a suite: each run trains and evaluates in a process of its own, side by side on cores of their own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from bundle.benchmark.commands import RESUMES_FROM, commands, first
from bundle.benchmark.lists import CurrentLists, other_images
from bundle.benchmark.progress import Progress
from bundle.benchmark.results import RESULT, collect, difference, write
from bundle.benchmark.suite import ROOT, Run
from scripts.errors import InputError
from scripts.handlers.weights import run_of
from scripts.run.folder import RUN_FILE

try:
    import fcntl
except ImportError:  # Windows: nobody looks after two processes at one run
    fcntl = None  # type: ignore[assignment]

GRACE = 20.0  # seconds that a run which must end gets to do so


def run_all(
    runs: Sequence[Run],
    done: Mapping[str, Mapping[str, Any]],
    output: Path,
    lists: CurrentLists,
    workers: int = 1,
    seconds: float = 0,
) -> list[str]:
    """Runs what has no result yet; a run that was cut goes on where it was.

    Args:
        runs: of the suite, in the order of their running.
        done: the results that are there, by the name of their run.
        output: folder of the runs.
        lists: the images that each run would use now.
        workers: how many at a time; each gets its share of the cores to itself.
        seconds: time after which nothing more is begun and what runs is stopped; 0: none.

    Returns:
        names of the runs that failed or are not done.
    """
    waiting = [run for run in runs if run.name not in done]
    state = Progress(waiting, list(done.values()), workers, seconds)
    state.begin(len(runs))
    places: SimpleQueue[list[int]] = SimpleQueue()
    for cores in shares(workers):
        places.put(cores)

    def work(run: Run) -> str | None:
        cores = places.get()
        try:
            return None if not state.over() and one_run(run, output / run.name, lists, cores, state) else run.name
        finally:
            places.put(cores)

    with ThreadPoolExecutor(workers) as pool, stopped_by_signals(state):
        return [name for name in pool.map(work, waiting) if name]


@contextmanager
def stopped_by_signals(state: Progress) -> Iterator[None]:
    """Ctrl-C, or being told to end, stops what runs; its last checkpoint is kept."""

    def stop(*_: object) -> None:
        state.deadline = 0.0
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shares(workers: int) -> list[list[int]]:
    """The cores of each worker; with more workers than cores some share one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return [cores[worker::workers] or [cores[worker % len(cores)]] for worker in range(workers)]


def one_run(run: Run, folder: Path, lists: CurrentLists, cores: Sequence[int], state: Progress) -> bool:
    """Trains, evaluates, writes the result; False if one of them failed, time ran out, or another process is at it."""
    with locked(folder) as lock:
        if lock is None:
            state.end(run, "is being run by another process")
            return False
        return steps(run, folder, lists, Place(cores, lock), state)


class Place(NamedTuple):
    """Where a process runs: its cores, and the open lock of its run, which it keeps until it ends."""

    cores: Sequence[int]
    lock: int


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """The open lock file of a run; None if another process holds it, be it an orphan whose benchmark was killed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w", encoding="utf-8") as stream:
        try:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
        else:
            yield stream.fileno()


def steps(run: Run, folder: Path, lists: CurrentLists, place: Place, state: Progress) -> bool:
    """The run's commands, one after the other, and its result."""
    set_aside(run, folder, lists, state)
    score_anew(run, folder)
    if not (folder / RESUMES_FROM[run.kind]).is_file():
        shutil.rmtree(folder, ignore_errors=True)  # cut before its first checkpoint: the bundle would refuse the folder
    folder.mkdir(parents=True, exist_ok=True)
    state.start(run)
    resume = (folder / RESUMES_FROM[run.kind]).is_file()
    for name, command in commands(run, folder, lists.data_root, resume).items():
        if (folder / f"{name}.done").is_file():
            continue
        code = execute(command, folder / f"{name}.log", place, state)
        if code:
            state.end(run, f"{name} " + ("was stopped" if code < 0 else f"failed, see {folder / name}.log"))
            return False
        (folder / f"{name}.done").touch()
    try:
        result = collect(run, folder)
    except InputError as error:
        state.end(run, str(error))
        return False
    write(result, folder / RESULT)
    dice = 100 * result["scores"]["mean_dice"]
    state.end(run, f"Dice {dice:.1f} % after {result['train_minutes']:.1f} min of {run.kind}", result)
    return True


def set_aside(run: Run, folder: Path, lists: CurrentLists, state: Progress) -> None:
    """Renames a folder whose run had other settings or images than it has now; nothing of it is lost."""
    log = folder / f"{first(commands(run, folder, ''))[0]}.log"
    line = log.open(encoding="utf-8", errors="replace").readline() if log.is_file() else ""
    changed = difference(run, line.removeprefix("$ ")) if line else ""
    if not changed and (folder / RUN_FILE).is_file():
        changed = other_images(lists(run), run_of(str(folder / RUN_FILE)).get("data"))
    if not changed:
        return
    kept = next(path for n in range(1, 1000) if not (path := folder.with_name(f"{folder.name}.before{n}")).exists())
    folder.rename(kept)
    state.say(f"{run.name}: {changed}; the run of before is kept as {kept.name}")


def score_anew(run: Run, folder: Path) -> None:
    """An evaluation of another part than the suite names now (validation while tuning, then test) does not count."""
    path = folder / "evaluation" / "metrics.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["part"] != run.part:
        (folder / "evaluate.done").unlink(missing_ok=True)


def execute(command: Sequence[str], log: Path, place: Place, state: Progress) -> int:
    """One process on its cores, its output in a file; at the deadline it is stopped (exit code below 0)."""
    threads = str(len(place.cores))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    prefix = ["taskset", "-c", ",".join(map(str, place.cores))] if shutil.which("taskset") else []
    words = [sys.executable if word == "python" else word for word in command]
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"$ {shlex.join(map(str, command))}\n")
        stream.flush()
        # a session of its own: Ctrl-C reaches this process alone, which ends the others in good order
        options = {"cwd": ROOT, "env": environment, "stdout": stream, "stderr": stream, "start_new_session": True}
        options |= {"pass_fds": [place.lock]} if fcntl is not None else {}
        process = subprocess.Popen([*prefix, *words], **options)
        while process.poll() is None:
            if state.over():
                return stop(process)
            time.sleep(0.2)
    return process.returncode


def stop(process: subprocess.Popen) -> int:
    """Ends a process, gently first; -1."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return -1
