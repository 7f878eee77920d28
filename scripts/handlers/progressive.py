# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Small images first: most of a short training's iterations cost a fraction of the last ones."""

from __future__ import annotations

from typing import Any

from ignite.engine import Events

from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.errors import InputError


class ProgressiveSize:
    """Trains on smaller views at first: their size grows in equal steps from ``start`` to that of the images.

    Progressive resizing (Howard's fast.ai entry to DAWNBench, 2018; Tan and Le, *EfficientNetV2*, ICML 2021). A view
    of half the size costs a quarter. Whatever is validated, evaluated and exported sees whole images.

    The size depends on the progress of the run alone, so that a resumed run goes on as a straight one.

    Args:
        weak_view: view of the trainer, such as :class:`scripts.transforms.WeakView`; its ``resolution`` is set.
        start: size at the start as a share of the images' size, in (0, 1]; 1: whole images from the start.
        until: share of the run after which the views have the full size, in [0, 1].
        steps: number of sizes below the full one, each held equally long.

    Raises:
        InputError: a value out of its range, or a weak view that has no resolution.
    """

    def __init__(self, weak_view: Any, start: float = 1.0, until: float = 0.75, steps: int = 2) -> None:
        self.weak_view = weak_view
        self.start, self.until, self.steps = float(start), float(until), int(steps)
        if not 0 < self.start <= 1:
            raise InputError(f"progressive_size is {start!r}: give a share of the image size above 0, at most 1")
        if not 0 <= self.until <= 1 or self.steps < 1:
            raise InputError(f"ProgressiveSize: until is {until!r} and steps {steps!r}: give 0 to 1, and 1 or more")
        if self.start < 1 and not hasattr(weak_view, "resolution"):
            raise InputError(
                f"progressive_size is {start!r}, but weak_view has no resolution to set: set progressive_size to 1, or "
                "give the view one, as scripts.transforms.WeakView has"
            )

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer."""
        if self.start == 1:
            return
        engine.add_event_handler(Events.ITERATION_STARTED, self.set)

    def set(self, engine: SemiSupervisedTrainer) -> None:
        """The size of the coming iteration's views."""
        self.weak_view.resolution = self.resolution(engine.progress)

    def resolution(self, progress: float) -> float:
        """Share of the full size at ``progress`` in [0, 1)."""
        if progress >= self.until:
            return 1.0
        step = int(progress / self.until * self.steps)
        return self.start + (1 - self.start) * step / self.steps
