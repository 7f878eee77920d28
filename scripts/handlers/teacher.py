# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps the rule's teacher in step with the student."""

from __future__ import annotations

from ignite.engine import Events

from scripts.engines.trainer import SemiSupervisedTrainer


class TeacherUpdate:
    """Calls ``rule.sync`` when a run starts and ``rule.update`` after every optimiser step.

    The sync stands at ``STARTED`` because weights may be loaded into the network after the teacher was copied (MONAI
    Label, a federated round). A checkpoint that resumes a run is loaded later and brings the teacher's own weights.
    """

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self.sync)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def sync(self, engine: SemiSupervisedTrainer) -> None:
        """Teacher <- student."""
        engine.rule.sync(engine.student)

    def update(self, engine: SemiSupervisedTrainer) -> None:
        """One step of the teacher; nothing is read from the device."""
        engine.rule.update(engine.student, engine.state.iteration)
