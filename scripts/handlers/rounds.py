# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a federated site keeps from one round to the next."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.files import atomic_save
from scripts.handlers.checkpoint import Checkpoints


class RoundCheckpoints(Checkpoints):
    """Writes ``round_<epoch>.pt`` after every round, the last two stay, and goes on from one of them.

    What goes on is the site's own: optimiser, schedule, rule, position in the data. The network is the one that was
    received, and the teacher starts from it. Random numbers are drawn anew for every round, from the seed and the
    epoch, so that it does not matter what else the process has done: a federation that was cut and goes on ends in the
    same weights.

    Stands last among the handlers.

    Args:
        output_dir: folder of the site.
        lr_scheduler: saved and restored with the rest.
        seed: of the site.
        resume_epoch: go on after this epoch of the site; 0: from the start.
    """

    def __init__(self, output_dir: str, lr_scheduler: Any = None, seed: int = 0, resume_epoch: int = 0) -> None:
        super().__init__(output_dir, lr_scheduler=lr_scheduler)
        self.folder, self.seed, self.resume_epoch = self.latest.parent, int(seed), int(resume_epoch)

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: SemiSupervisedTrainer) -> None:
        """Take up the site's own state once, keep the network that was received, and seed the round."""
        if self.resume_epoch:
            received, ahead = copy.deepcopy(engine.student.state_dict()), engine.state.max_epochs - engine.state.epoch
            self.latest, self.resume_epoch = self.file(self.resume_epoch), 0
            self.load(engine)
            engine.state.max_epochs = engine.state.epoch + ahead
            engine.student.load_state_dict(received)
            engine.rule.sync(engine.student)
        torch.manual_seed(self.seed * 1_000_003 + engine.state.epoch)

    def finish(self, engine: SemiSupervisedTrainer) -> None:
        """The end of a round."""
        epoch = engine.state.epoch
        atomic_save(self.file(epoch), self.content(engine))
        written = sorted(self.folder.glob("round_*.pt"))
        for old in written[: max(0, written.index(self.file(epoch)) - 1)]:
            old.unlink()

    def file(self, epoch: int) -> Path:
        """The checkpoint after an epoch of the site."""
        return self.folder / f"round_{epoch:05d}.pt"
