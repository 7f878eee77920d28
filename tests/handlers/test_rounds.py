# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Federated rounds start the teacher from the global weights; labels follow the view, ramps the progress."""

import pytest
import torch
from ignite.engine import Events

from scripts.handlers import RoundCheckpoints, TeacherUpdate
from scripts.methods import MeanTeacher, SigmoidRamp, Supervised
from tests.tiny import trainer


def test_a_site_goes_on_from_what_it_was_sent_and_so_does_its_teacher(tmp_path):
    def site(resume_epoch):
        handlers = [TeacherUpdate(), RoundCheckpoints(str(tmp_path), resume_epoch=resume_epoch)]
        return trainer(MeanTeacher, unlabelled=2, max_epochs=1, train_handlers=handlers)

    site(0).run()
    engine, seen = site(1), []
    with torch.no_grad():
        engine.network.weight.fill_(0.25)  # what the server sends
    engine.add_event_handler(
        Events.STARTED, lambda e: seen.append([m.weight.unique().tolist() for m in (e.student, e.rule.deployed)])
    )
    engine.run()
    assert seen == [[[0.25], [0.25]]] and engine.state.epoch == 2


def test_the_total_weighs_every_loss_by_the_progress():
    engine = trainer(lambda n: MeanTeacher(n, weights={"consistency": SigmoidRamp(2.0, end=1.0)}), unlabelled=3)
    seen = []

    @engine.on(Events.ITERATION_COMPLETED)
    def check(e):
        weights = e.rule.weights_at(e.progress)
        seen.append(weights["consistency"])
        expected = sum(weights[name] * float(loss) for name, loss in e.state.output["losses"].items())
        assert float(e.state.output["loss"]) == pytest.approx(expected)

    engine.run()
    assert seen == sorted(seen) and len(set(seen)) == 6


def test_the_labels_follow_the_weak_view():
    seen = []

    class Spy(Supervised):
        def forward(self, network, batch, progress):
            seen.append(batch["labelled"]["label"])
            return super().forward(network, batch, progress)

    trainer(Spy, weak_view=lambda image, label: (image + 1, 1 - label)).run()
    before, seen[:] = list(seen), []
    trainer(Spy).run()
    assert len(before) == len(seen) == 6 and all(torch.equal(a, 1 - b) for a, b in zip(before, seen))
