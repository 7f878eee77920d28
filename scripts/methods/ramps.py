# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Weights of the losses: that change with the progress of a run, or that depend on how many masks there are."""

from __future__ import annotations

import math


class SigmoidRamp:
    """``value * exp(-5 (1 - u)^2)`` with u rising linearly from 0 to 1 between ``start`` and ``end`` (Laine and Aila,
    ICLR 2017); exactly 0 before ``start``, so that a term may wait until the teacher is worth following.

    Args:
        value: the weight at the end.
        start, end: shares of the run in [0, 1].
    """

    def __init__(self, value: float = 1.0, start: float = 0.0, end: float = 0.4) -> None:
        self.value, self.start, self.end = float(value), float(start), float(end)

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        if progress < self.start:
            return 0.0
        u = min((progress - self.start) / max(self.end - self.start, 1e-9), 1.0)
        return self.value * math.exp(-5.0 * (1.0 - u) ** 2)


def unlabelled_weight(labelled: int, unlabelled: int, scarce: float = 0.1) -> float:
    """What the terms of the images without a mask should weigh: the share of these images, divided by ``1 - scarce``.

    1 while at most the share ``scarce`` of the images has a mask, falling to 0 where all have one. Our own: with many
    masks the teacher has little to add, and what it misses is taught as background all the same. On FUSeg at 128x128,
    with a mask for every second image, the full weight cost Dice (docs/results.md, also for what speaks against it).

    Args:
        labelled, unlabelled: numbers of training images with and without a mask.
        scarce: share of images with a mask, in [0, 1).
    """
    return min(1.0, unlabelled / (labelled + unlabelled) / (1.0 - scarce)) if labelled else 1.0
