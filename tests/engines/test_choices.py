# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Options of the trainer that do what they say: the gain of bfloat16, channels-last, pretrained weights."""

import pytest
import timm
import torch

from scripts.engines import precision
from scripts.engines.precision import bfloat16_gain
from scripts.handlers import ProgressiveSize
from scripts.methods import Supervised
from scripts.networks import LESSNet
from scripts.transforms import WeakView
from tests.tiny import trainer


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


def test_the_gain_is_the_time_of_float32_over_that_of_bfloat16(monkeypatch):
    network = Clock()
    monkeypatch.setattr(precision.time, "perf_counter", lambda: network.now[0])
    assert bfloat16_gain(network, torch.rand(2, 3, 8, 8)) == pytest.approx(1.5)


@pytest.mark.parametrize("flag, kept", [("true", True), (False, False)])
def test_images_and_weights_are_channels_last_where_it_is_asked(flag, kept):
    seen = []

    class Spy(Supervised):
        def forward(self, network, batch, progress):
            seen.append(batch["labelled"]["image"])
            return super().forward(network, batch, progress)

    engine = trainer(Spy, channels_last=flag, max_epochs=1)
    engine.run()
    for tensor in (*seen, engine.network.weight, engine.rule.deployed.weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == kept


def test_from_full_size_on_nothing_touches_the_view():
    view = WeakView()
    view.resolution = 0.5  # somebody else's
    trainer(weak_view=view, train_handlers=[ProgressiveSize(view, 1.0)]).run()
    assert view.resolution == 0.5


def test_pretrained_weights_reach_the_stem_and_the_blocks_for_grey_images(tmp_path):
    source = timm.create_model("mobilevit_xxs", pretrained=False)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    made = LESSNet(in_channels=1, pretrained=str(tmp_path / "weights.pth")).encoder.state_dict()
    given = {key.replace("stages.", "stages_"): value for key, value in source.state_dict().items()}
    for key, value in made.items():
        expected = given[key].sum(1, keepdim=True) if key == "stem.conv.weight" else given[key]
        torch.testing.assert_close(value, expected)
