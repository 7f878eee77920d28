# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a run needs that an application such as MONAI Label started; in other runs it changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler

from scripts import hosting
from scripts.files import atomic_write
from scripts.run.folder import BEST

logger = logging.getLogger("less_net")

PREVIOUS = "previous.pt"


class OptionalValidationHandler(ValidationHandler):
    """MONAI's ``ValidationHandler`` that stays out of a run without validation images.

    With a few labels drawn an application may hand over none; Ignite's engine refuses to run on none.
    """

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, if there is anything to validate with."""
        if len(self.validator.data_loader):
            super().attach(engine)
        else:
            logger.info("no validation images: the weights of the last epoch count")


class Publish:
    """Puts the weights of a finished training where the application reads them, ``models/model.pt`` of the bundle.

    Only a training that came to its end does so, so that one that was stopped or failed leaves the weights in use as
    they were. Those are kept as ``models/previous.pt``. Stands behind :class:`scripts.handlers.Checkpoints`.

    Args:
        output_dir: folder in which the run has its ``model.pt``.
        bundle_root: folder of the bundle.
    """

    def __init__(self, output_dir: str, bundle_root: str) -> None:
        self.source = Path(output_dir) / BEST
        self.target = hosting.model_file(bundle_root)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer of a hosted run."""
        if self.target is not None:
            engine.add_event_handler(Events.COMPLETED, self.publish)

    def publish(self, engine: Engine) -> None:
        """Replace the weights."""
        if self.target.is_file():
            atomic_write(self.target.with_name(PREVIOUS), self.target.read_bytes())
        atomic_write(self.target, self.source.read_bytes())
        logger.info("weights now in use: %s; those before: %s", self.target, PREVIOUS)
