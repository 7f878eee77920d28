# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Validation images in TensorBoard: image, reference and prediction side by side."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import TensorBoardHandler, from_engine
from torch import Tensor


class ValidationImages(TensorBoardHandler):
    """The first images of the validation list, each time at the same step as the scores.

    (MONAI's ``TensorBoardImageHandler`` shows one image, as separate pictures and with the axes as stored, that is
    mirrored along the diagonal.)

    Args:
        summary_writer: the run's ``SummaryWriter``.
        count: images to show.
        interval: validations between two showings.
    """

    def __init__(self, summary_writer: Any = None, log_dir: str = "./runs", count: int = 4, interval: int = 1) -> None:
        super().__init__(summary_writer=summary_writer, log_dir=log_dir)
        self.count, self.interval = int(count), max(int(interval), 1)
        self.validations = 0

    def attach(self, engine: Engine) -> None:
        """Register with the validator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the first batch of every ``interval``-th validation."""
        if engine.state.iteration % engine.state.epoch_length != 1 and engine.state.epoch_length > 1:
            return
        self.validations += 1
        if (self.validations - 1) % self.interval == 0:
            images, labels, logits = from_engine(["image", "label", "pred"])(engine.state.output)
            for n, item in enumerate(zip(images[: self.count], labels, logits)):
                self._writer.add_image(f"validation/{n}", panel(*item), engine.state.epoch)


def panel(image: Tensor, label: Tensor, logits: Tensor) -> Tensor:
    """(C, X, Y) image in [0, 1], (1, X, Y) label, (K, X, Y) logits -> one RGB picture (3, Y, 3 X), upright.

    Classes are grey levels, the ignore index is white.
    """
    highest = max(logits.shape[0] - 1, 1)
    shades = [label[0] / highest, logits.argmax(dim=0) / highest]
    colour = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    parts = [colour.float(), *(shade.clamp(0, 1).float().expand(3, -1, -1) for shade in shades)]
    return torch.cat([part.cpu() for part in parts], dim=1).transpose(1, 2)
