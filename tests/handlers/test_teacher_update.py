# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The teacher starts as the student that training starts from, and follows it."""

import torch
from ignite.engine import Events

from scripts.handlers import TeacherUpdate
from scripts.methods import MeanTeacher
from tests.tiny import trainer


def test_the_teacher_starts_from_weights_loaded_after_it_was_made():
    engine = trainer(MeanTeacher, unlabelled=2, train_handlers=[TeacherUpdate()])
    with torch.no_grad():
        engine.network.weight.fill_(0.25)
    seen = []
    engine.add_event_handler(Events.STARTED, lambda e: seen.append(e.rule.deployed.weight.unique().tolist()))
    engine.run()
    assert seen == [[0.25]]


def test_the_teacher_is_the_moving_average_of_the_student():
    engine = trainer(MeanTeacher, unlabelled=2, train_handlers=[TeacherUpdate()])
    expected = engine.network.weight.detach().clone()

    @engine.on(Events.ITERATION_COMPLETED)
    def follow(e):
        decay = min(1 - 1 / e.state.iteration, e.rule.teacher.decay)
        expected.mul_(decay).add_(e.network.weight.detach(), alpha=1 - decay)

    engine.run()
    assert torch.allclose(engine.rule.deployed.weight, expected, atol=1e-7)
    assert not torch.equal(engine.rule.deployed.weight, engine.network.weight)
