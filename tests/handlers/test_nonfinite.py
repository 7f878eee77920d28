# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A loss that is no number stops the run, names the files, and leaves no checkpoint of the broken state."""

import pytest
import torch

from scripts.engines.precision import LossScaler
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


class Overflows(torch.autograd.Function):
    """1, with a gradient that is no number."""

    @staticmethod
    def forward(context, value):
        return torch.ones_like(value)

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.inf


class OverflowsAt(BreaksAt):
    """A rule whose loss stays finite at one iteration, but not its gradient."""

    iteration = 6  # the last of its epoch, after which a checkpoint is written

    def forward(self, network, batch, progress):
        losses = super().forward(network, batch, progress)
        if self.seen == self.iteration:
            losses = {name: Overflows.apply(loss) for name, loss in losses.items()}
        return losses


@pytest.mark.parametrize("amp, mend", [(False, "$"), (True, ", or pass --amp false$")])
def test_a_gradient_that_is_no_number_is_not_saved_either(tmp_path, amp, mend):
    handlers = [StopOnNonFinite(50), Checkpoints(str(tmp_path))]
    said = f"the loss or its gradient became NaN or infinite at iteration 6, whose batch .* learning_rate{mend}"
    with pytest.raises(InputError, match=said):
        trainer(OverflowsAt, train_handlers=handlers, max_norm=1.0, amp=amp).run()
    saved = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert saved["epoch"] == 1 and all(torch.isfinite(value).all() for value in saved["network"].values())


class NeverFinite(Supervised):
    """A rule whose loss is always finite and its gradient never."""

    def forward(self, network, batch, progress):
        return {name: Overflows.apply(loss) for name, loss in super().forward(network, batch, progress).items()}


def test_a_loss_scaler_that_leaves_out_every_step_ends_the_run():
    engine = trainer(NeverFinite, train_handlers=[StopOnNonFinite(10)], max_norm=1.0, epoch_length=40)
    engine.scaler = LossScaler("cpu")  # as on CUDA in float16
    with pytest.raises(InputError, match="no gradient was finite in float16 .* up to 30, .*: pass --amp false"):
        engine.run()
