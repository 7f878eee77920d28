# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A federated round starts network and teacher from the global weights."""

import torch
from ignite.engine import Events

from scripts.handlers import RoundCheckpoints, TeacherUpdate
from scripts.methods import MeanTeacher
from tests.tiny import trainer


def site(folder, resume_epoch):
    handlers = [TeacherUpdate(), RoundCheckpoints(str(folder), seed=7, resume_epoch=resume_epoch)]
    return trainer(MeanTeacher, unlabelled=2, max_epochs=1, train_handlers=handlers)


def test_a_site_goes_on_from_what_it_was_sent_and_so_does_its_teacher(tmp_path):
    site(tmp_path, 0).run()
    engine, seen = site(tmp_path, 1), []
    with torch.no_grad():
        engine.network.weight.fill_(0.25)  # what the server sends
    engine.add_event_handler(
        Events.STARTED, lambda e: seen.append([m.weight.unique().tolist() for m in (e.student, e.rule.deployed)])
    )
    engine.run()
    assert seen == [[[0.25], [0.25]]] and engine.state.epoch == 2


def test_every_round_has_draws_of_its_own(tmp_path):
    drawn = []
    for resume_epoch in (0, 1):
        engine = site(tmp_path, resume_epoch)
        engine.add_event_handler(Events.STARTED, lambda _: drawn.append(torch.rand(1).item()))
        engine.run()
    assert drawn[0] != drawn[1]
