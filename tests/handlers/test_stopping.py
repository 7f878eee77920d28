# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Early stopping counts validations, and its count survives a killed run."""

import pytest
import torch
from monai.handlers import ValidationHandler

from scripts.handlers import Checkpoints, EarlyStopping, SegmentationScores
from tests.tiny import TinyNetwork, trainer, validator


def run(folder, patience, max_epochs=8, resume=False):
    """A run whose validation never gets better, since it looks at another network."""
    torch.manual_seed(0)
    judge = validator(TinyNetwork())
    handlers = [
        ValidationHandler(1, judge),
        EarlyStopping(judge, patience),
        Checkpoints(str(folder), validator=judge, resume=resume),
    ]
    engine = trainer(max_epochs=max_epochs, train_handlers=handlers)
    engine.run()
    return engine


@pytest.mark.parametrize("patience, epochs", [(2, 3), (4, 5), (0, 8), (None, 8)])
def test_the_run_ends_after_patience_validations(tmp_path, patience, epochs):
    assert run(tmp_path, patience).state.epoch == epochs


def test_patience_begins_at_the_best_validation(tmp_path, monkeypatch):
    scores = iter([0.1, 0.2, 0.3, 0.25, 0.2, 0.1, 0.1, 0.1])
    monkeypatch.setattr(SegmentationScores, "compute", lambda self: {"mean_dice": next(scores)})
    assert run(tmp_path, 2).state.epoch == 5  # the third is the best


def test_the_count_survives_and_a_stopped_run_stays_stopped(tmp_path):
    assert run(tmp_path, 5, max_epochs=3).state.epoch == 3
    assert run(tmp_path, 5, resume=True).state.epoch == 6
    assert run(tmp_path, 5, resume=True).state.epoch == 6


def test_patience_may_be_given_to_a_run_that_began_without(tmp_path):
    assert run(tmp_path, 0, max_epochs=3).state.epoch == 3
    assert run(tmp_path, 2, resume=True).state.epoch == 6  # the first validation it sees is the best so far
