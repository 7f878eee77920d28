# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A loss that is no number stops the run, names the files, and leaves no checkpoint of the broken state."""

import pytest
import torch

from scripts.errors import InputError
from scripts.handlers import Checkpoints, StopOnNonFinite
from scripts.methods import Supervised
from tests.tiny import trainer


class BreaksAt(Supervised):
    """A rule whose loss becomes NaN at one iteration."""

    iteration = 5

    def forward(self, network, batch, progress):
        self.seen = getattr(self, "seen", 0) + 1
        losses = super().forward(network, batch, progress)
        return losses if self.seen != self.iteration else {"supervised": losses["supervised"] * float("nan")}


@pytest.mark.parametrize("every", [1, 2, 50])
def test_the_batch_is_named_and_nothing_is_saved(tmp_path, every):
    engine = trainer(BreaksAt, train_handlers=[StopOnNonFinite(every), Checkpoints(str(tmp_path))])
    engine.data_loader.seek(4)
    expected = next(iter(engine.data_loader))["labelled"]["key"]
    engine.data_loader.seek(0)
    with pytest.raises(InputError, match=f"iteration 5, whose batch held {', '.join(expected)}: "):
        engine.run()
    saved = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert saved["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in saved["network"].values())


def test_a_finite_run_goes_through():
    engine = trainer(train_handlers=[StopOnNonFinite(2)])
    engine.run()
    assert engine.state.epoch == 2
