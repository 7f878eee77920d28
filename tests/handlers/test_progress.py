# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the user sees: one line an epoch, and a bar in a terminal only."""

import logging

import pytest
from monai.handlers import ValidationHandler

from scripts.handlers import History, Progress
from scripts.methods import MeanTeacher
from tests.tiny import trainer, validator


def run(folder, bar=None, **changes):
    """A run with validation, history and progress."""
    engine = trainer(MeanTeacher, unlabelled=2, **changes)
    judge = validator(engine.network)
    for handler in (ValidationHandler(1, judge), History(str(folder), judge, plot_every=0), Progress(judge, bar)):
        handler.attach(engine)
    engine.run()


def test_one_line_an_epoch_tells_losses_score_speed_and_time_left(tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="less_net"):
        run(tmp_path)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    for word in ("loss", "supervised", "consistency", "val_mean_dice", "best", "it/s", "00:00 left"):
        assert word in lines[1]
    assert capsys.readouterr().err == ""


def test_the_bar_shows_rate_and_epoch(tmp_path, capsys):
    run(tmp_path, bar=True)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown and "6/6" in shown and "it/s" in shown


def test_an_error_passes_through_the_bar(tmp_path):
    def broken(image, label):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, bar=True, weak_view=broken)
