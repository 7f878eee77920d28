# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What is counted of a stream."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np

from scripts.streaming.frames import Frame

STAGES = ("decode", "predict", "overlay", "encode")


class Tally:
    """Frames done, and how long each stage took for each of them (4 bytes a frame and stage)."""

    def __init__(self, stages: Iterable[str] = STAGES) -> None:
        self.began, self.frames = time.perf_counter(), 0
        self.took = {name: array("f") for name in stages}

    def add(self, frame: Frame) -> None:
        """One frame that is written."""
        self.frames += 1
        for name, values in self.took.items():
            values.append(frame.took[name])

    def report(self) -> dict[str, Any]:
        """Frames, seconds, frames a second overall, and median milliseconds by stage (None: no frame).

        The stages run side by side and share the cores, so a stage alone would take less than its median here.
        """
        seconds = time.perf_counter() - self.began
        medians = {name: 1000 * float(np.median(values)) if values else None for name, values in self.took.items()}
        return {"frames": self.frames, "seconds": seconds, "fps": self.frames / seconds, "median_ms": medians}
