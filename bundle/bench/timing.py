# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Times of calls that take turns, so that a machine which slows down slows all of them alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

SLOW = 0.2  # seconds from which on a call is timed once a turn, without a call before it
PAUSE = 0.02  # seconds before a turn, in which the threads of the one before, which spin for more work, fall asleep
TIMED = 3  # calls that are timed in a turn of a faster one
Call = Callable[[], object]


def interleaved(
    calls: Mapping[str, Call], seconds: float, rounds: tuple[int, int] = (5, 40), device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds of the calls, A B C A B C ...

    Every call is first made twice untimed. Faster ones wait a moment at the begin of each turn, are made once untimed,
    since the one before has left its own data in the caches and its threads awake, and then three times.

    Args:
        calls: by name.
        seconds: time that all rounds together should take.
        rounds: the fewest and the most.
        device: waited for before a clock is read, if it is a GPU.
    """
    for call in calls.values():
        call()
    guess = {name: timed(call, device) for name, call in calls.items()}
    one = sum(took if took > SLOW else (1 + TIMED) * took for took in guess.values())
    count = int(np.clip(seconds / one, *rounds))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            if guess[name] <= SLOW:
                time.sleep(PAUSE)
                call()
            found[name] += [timed(call, device) for _ in range(1 if guess[name] > SLOW else TIMED)]
    return found


def timed(call: Call, device: torch.device | None = None) -> float:
    """Seconds of one call."""
    wait(device)
    start = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device | None) -> None:
    """Until a GPU has done what it was told."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def quartiles(values: Sequence[float], factor: float = 1.0) -> list[float]:
    """First quartile, median and third quartile, times ``factor``."""
    return [factor * float(value) for value in np.percentile(values, (25, 50, 75))]


def cores() -> list[int]:
    """Those that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def use(threads: int, allowed: Sequence[int]) -> bool:
    """Computes with so many threads; True where all threads of the process could be pinned to as many cores."""
    torch.set_num_threads(threads)
    if not hasattr(os, "sched_setaffinity") or not os.path.isdir("/proc/self/task"):
        return False
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), allowed[:threads])
        except OSError:  # it has ended meanwhile
            pass
    return True
