# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How far a suite is, and how long what is left will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bundle.benchmark.suite import Run
from scripts.report import duration

#: what makes runs take alike, the most telling first
LIKE = (("data", "network", "method"), ("network", "method"), ("method",), ())


class Progress:
    """What the workers share: the clock, the count, and the lock of the screen.

    Args:
        waiting: the runs to be done.
        results: of runs that are done, which tell how long the others take.
        workers: how many runs at a time.
        seconds: time after which all is over; 0: never.
    """

    def __init__(
        self, waiting: Sequence[Run], results: Sequence[Mapping[str, Any]], workers: int = 1, seconds: float = 0
    ) -> None:
        self.waiting, self.workers, self.total = list(waiting), workers, len(waiting)
        self.results = list(results)
        self.started: dict[str, float] = {}
        self.deadline = time.monotonic() + seconds if seconds else float("inf")
        self.lock = threading.RLock()

    def over(self) -> bool:
        """Whether time is up, or somebody said stop."""
        return time.monotonic() >= self.deadline

    def begin(self, total: int) -> None:
        """The first line."""
        self.say(f"{total - self.total} of {total} runs are done, {self.total} to go{self.left()}")

    def start(self, run: Run) -> None:
        """One line for a run that starts."""
        with self.lock:
            self.started[run.name] = time.monotonic()
            self.say(f"{run.name}: starts")

    def end(self, run: Run, text: str, result: Mapping[str, Any] | None = None) -> None:
        """One line for a run that ended, with the time left."""
        with self.lock:
            self.waiting.remove(run)
            self.results += [result] if result else []
            self.say(f"[{self.total - len(self.waiting)}/{self.total}] {run.name}: {text}{self.left()}")

    def say(self, text: str) -> None:
        """One line, whole."""
        with self.lock:
            print(text, flush=True)

    def left(self) -> str:
        """``; about 2 h 10 min left``, from the runs that are done and most alike; empty where there is none."""
        now = time.monotonic()
        spent = [now - self.started.get(run.name, now) for run in self.waiting]
        expected = [expected_seconds(run, self.results) for run in self.waiting]
        if not expected or None in expected:
            return ""
        rest = [max(0.0, whole - gone) for whole, gone in zip(expected, spent) if whole is not None]
        return f"; about {duration(max(sum(rest) / self.workers, max(rest)))} left"


def expected_seconds(run: Run, results: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean time of the results that are most like the run; None where there is no result at all."""
    for keys in LIKE:
        like = [result for result in results if all(result[key] == getattr(run, key) for key in keys)]
        if like:
            return sum(60 * result["train_minutes"] + result["evaluate_seconds"] for result in like) / len(like)
    return None
