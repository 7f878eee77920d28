# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``model.pt`` is the deployed network of the best epoch, ``latest.pt`` that of the last."""

import torch
from ignite.engine import Events
from monai.handlers import ValidationHandler

from scripts.handlers import Checkpoints, SegmentationScores, TeacherUpdate
from scripts.methods import MeanTeacher
from tests.handlers.test_checkpoint import run
from tests.tiny import TinyNetwork, trainer, validator


def test_the_best_file_holds_the_teachers_weights_of_the_best_epoch(tmp_path, monkeypatch):
    scores = iter([0.2, 0.9, 0.4])
    monkeypatch.setattr(SegmentationScores, "compute", lambda self: {"mean_dice": next(scores)})
    torch.manual_seed(3)
    network = TinyNetwork()
    rule, taught, own = MeanTeacher(network), [], []
    judge = validator(rule.deployed)
    handlers = [TeacherUpdate(), ValidationHandler(1, judge), Checkpoints(str(tmp_path), validator=judge)]
    engine = trainer(lambda _: rule, unlabelled=2, max_epochs=3, network=network, train_handlers=handlers)

    @engine.on(Events.EPOCH_COMPLETED)
    def keep(_):
        taught.append(rule.deployed.weight.clone())
        own.append(network.weight.detach().clone())

    engine.run()
    best = torch.load(tmp_path / "model.pt", weights_only=True)["weight"]
    assert torch.equal(best, taught[1])
    assert not any(torch.equal(best, other) for other in (taught[0], taught[2], own[1]))


def test_a_resumed_run_keeps_the_best_weights_of_before(tmp_path, monkeypatch):
    scores = iter([0.2, 0.9, 0.4, 0.5])
    monkeypatch.setattr(SegmentationScores, "compute", lambda self: {"mean_dice": next(scores)})
    run(tmp_path, max_epochs=2)
    best = (tmp_path / "model.pt").read_bytes()
    run(tmp_path, resume=True, max_epochs=4)
    assert (tmp_path / "model.pt").read_bytes() == best


def test_the_last_epoch_is_written_whatever_the_interval(tmp_path):
    run(tmp_path, max_epochs=5, interval=2)
    assert torch.load(tmp_path / "latest.pt", weights_only=True)["epoch"] == 5
