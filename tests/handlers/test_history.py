# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The history: its means, its files, and its warning."""

import csv
import errno
import logging
import os

import pytest
import torch
from ignite.engine import Events
from monai.handlers import ValidationHandler
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from scripts.errors import InputError
from scripts.handlers import History
from scripts.handlers.curves import draw_curves
from scripts.handlers.history import rows_to_csv
from scripts.methods import MeanTeacher, SigmoidRamp
from tests.tiny import full_disk, trainer, validator


def ramped(network):
    """A rule with a ramp, so that the weights' column changes."""
    return MeanTeacher(network, weights={"consistency": SigmoidRamp(2.0, end=1.0)})


def run(folder, rule=ramped, **arguments):
    """A run of two epochs with a history and a list of all its outputs."""
    engine = trainer(rule, unlabelled=2)
    judge = validator(engine.network)
    outputs = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output))
    ValidationHandler(2, judge).attach(engine)
    History(str(folder), judge, **arguments).attach(engine)
    engine.run()
    return engine, outputs


def test_rows_hold_the_means_of_the_epoch(tmp_path):
    engine, outputs = run(tmp_path)
    for row, part in zip(engine.history, (outputs[:3], outputs[3:])):
        assert row["loss"] == pytest.approx(sum(float(o["loss"]) for o in part) / 3)
        assert row["loss/consistency"] == pytest.approx(sum(float(o["losses"]["consistency"]) for o in part) / 3)
        assert row["statistic/predicted_foreground"] == pytest.approx(
            sum(float(o["statistics"]["predicted_foreground"]) for o in part) / 3
        )
    assert engine.history[0]["weight/consistency"] < engine.history[1]["weight/consistency"]
    assert "val_mean_dice" not in engine.history[0] and 0 <= engine.history[1]["val_mean_dice"] <= 1


def test_the_files_are_written(tmp_path):
    engine, _ = run(tmp_path, summary_writer=SummaryWriter(str(tmp_path)))
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"] and rows[0]["val_mean_dice"] == ""
    assert float(rows[1]["loss"]) == engine.history[1]["loss"]
    assert list(tmp_path.glob("events.*"))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1200, 800)


def test_a_file_that_another_program_holds_ends_no_training(tmp_path, monkeypatch, caplog):
    """Windows refuses to replace an open file; here the system does so once for each of two files."""
    held, replace = ["history.csv", "curves.png"], os.replace

    def refusing(source, target):
        if target.name in held:
            held.remove(target.name)
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    run(tmp_path, plot_every=1)
    assert not held and (tmp_path / "curves.png").is_file()
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "history.csv (Permission denied): close it" in told


def test_a_full_disk_ends_the_training(tmp_path):
    with full_disk(), pytest.raises(InputError, match="cannot write .*curves.png"):
        run(tmp_path)


def test_columns_that_appear_later_stand_in_every_row():
    assert rows_to_csv([{"a": 1}, {"a": 2, "b": 3}]) == "a,b\n1,\n2,3\n"


def test_curves_of_a_run_with_nothing_but_a_loss(tmp_path):
    draw_curves([{"epoch": 1, "loss": 1.0, "learning_rate": 0.1}], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize("share, warnings", [(0.5, 0), (0.001, 1), (0.9999, 1)])
def test_a_collapse_is_warned_of_once(tmp_path, caplog, share, warnings):
    class Collapsed(MeanTeacher):
        def forward(self, network, batch, progress):
            losses = super().forward(network, batch, progress)
            self.statistics = {"accepted": torch.tensor(share)}
            return losses

    engine = trainer(
        Collapsed, unlabelled=2, max_epochs=6, train_handlers=[History(str(tmp_path), plot_every=0, patience=3)]
    )
    with caplog.at_level(logging.WARNING, logger="less_net"):
        engine.run()
    found = [record for record in caplog.records if "accepted has been outside" in record.getMessage()]
    assert len(found) == warnings
