# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Mixed precision chosen by measurement: what is switched stays, what is measured is kept and changes nothing."""

import copy

import pytest
import torch

from scripts.engines import precision
from scripts.engines.precision import LossScaler, Precision, bfloat16_gain
from scripts.errors import InputError
from tests.tiny import trainer

CPU = torch.device("cpu")


def test_a_switch_is_taken_as_it_is():
    assert Precision("true", CPU).chosen is True and Precision(False, CPU).chosen is False
    assert Precision("auto", torch.device("cuda")).chosen is True
    with pytest.raises(InputError, match="amp is 'perhaps'"):
        Precision("perhaps", CPU)


def test_measuring_leaves_the_network_and_the_random_numbers_alone():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert bfloat16_gain(network, torch.rand(2, 3, 16, 16)) > 0
    state_after, torch_state = network.state_dict(), torch.get_rng_state()
    assert all(torch.equal(before[key], state_after[key]) for key in before)
    assert all(p.grad is None for p in network.parameters())
    torch.set_rng_state(state)
    torch.rand(2, 3, 16, 16)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_it_is_measured_at_full_size_even_if_the_first_views_are_small(monkeypatch):
    sizes = []
    monkeypatch.setattr(precision, "bfloat16_gain", lambda _, images: sizes.append(tuple(images.shape[2:])) or 1.0)
    engine = trainer(amp="auto")
    engine.weak_view = lambda image, label: (image[..., ::2, ::2], label[..., ::2, ::2])
    engine.run()
    full = next(iter(engine.data_loader))["labelled"]["image"]
    assert sizes == [tuple(full.shape[2:])] and min(full.shape[2:]) > 1


@pytest.mark.parametrize("gain, expected", [(2.0, True), (0.8, False)])
def test_a_run_measures_once_and_a_resumed_one_keeps_the_choice(monkeypatch, gain, expected):
    asked = []
    monkeypatch.setattr(precision, "bfloat16_gain", lambda *_: asked.append(1) or gain)
    engine = trainer(amp="auto")
    engine.run()
    assert engine.amp is expected and len(asked) == 1
    resumed = trainer(amp="auto")
    resumed.stateful["precision"].load_state_dict(engine.stateful["precision"].state_dict())
    resumed.run()
    assert resumed.amp is expected and len(asked) == 1


class Clock(torch.nn.Conv2d):
    """A network on whose clock a pass takes 3 seconds in float32 and 2 in bfloat16."""

    def __init__(self):
        super().__init__(3, 2, 1)
        self.now = [0.0]

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        answer = super().forward(x)
        self.now[0] += 2.0 if answer.dtype == torch.bfloat16 else 3.0
        return answer


def test_a_run_without_a_loss_scale_goes_on_with_a_new_one_and_one_with_it_keeps_its_own():
    """What a GPU does with the checkpoint of a CPU, and with that of a GPU."""
    scaler = LossScaler("cpu", init_scale=64.0)
    scaler.load_state_dict(LossScaler("cpu", enabled=False).state_dict())
    assert scaler.is_enabled() and scaler.get_scale() == 64.0
    scaler.load_state_dict(LossScaler("cpu", init_scale=8.0).state_dict())
    assert scaler.get_scale() == 8.0


def test_the_gain_is_the_time_of_float32_over_that_of_bfloat16(monkeypatch):
    network = Clock()
    monkeypatch.setattr(precision.time, "perf_counter", lambda: network.now[0])
    assert bfloat16_gain(network, torch.rand(2, 3, 8, 8)) == pytest.approx(1.5)
