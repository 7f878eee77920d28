# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""No rule mixes devices or waits for one: on a GPU where there is one, on tensors without content everywhere."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from scripts.methods import ClusterPretraining, LearningRule
from scripts.transforms import WeakView
from tests.contentless import drawn_outside, emptied, knows_cuda
from tests.methods.test_rules import RULES, batch, student, unet

EVERY = RULES | {"cluster_pretraining": lambda n, k: ClusterPretraining(n)}


def made(name: str) -> tuple[nn.Module, LearningRule]:
    """A network in training mode and the rule that trains it, on the CPU."""
    torch.manual_seed(0)
    network = student(name, unet(), 2)
    return network.train(), EVERY[name](network, 2).train()


def seen(content: dict, device: str) -> dict:
    """A batch on the device through the weak view."""
    moved = {stream: {key: value.to(device) for key, value in part.items()} for stream, part in content.items()}
    image, label = WeakView()(moved["labelled"]["image"], moved["labelled"]["label"])
    return moved | {"labelled": {"image": image, "label": label}}


@pytest.fixture
def elsewhere(monkeypatch):
    """Where tensors without content lie: on CUDA or, where this torch cannot have them there, on its own device for
    them, which knows no mixed precision; here that is off."""
    if knows_cuda():
        return "cuda"
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    return "meta"


@pytest.mark.parametrize("name", EVERY)
def test_a_rule_keeps_to_one_device_and_never_asks_it_for_a_value(name, elsewhere, monkeypatch):
    for draw in ("rand", "randint"):
        monkeypatch.setattr(torch, draw, drawn_outside(getattr(torch, draw)))
    mode = FakeTensorMode(allow_non_fake_inputs=False)
    network, rule = emptied(mode, elsewhere, *made(name))
    with mode:
        losses = rule(network, seen(batch(size=(64, 64)), elsewhere), 0.5)
        assert rule.total(losses, 0.5).device.type == elsewhere
        assert {value.device.type for value in (*losses.values(), *rule.statistics.values())} == {elsewhere}
        rule.update(network, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", EVERY)
def test_a_rule_trains_on_a_gpu_in_half_precision_without_waiting_for_it(name):
    network, rule = (module.cuda() for module in made(name))
    content = seen(batch(size=(64, 64)), "cuda")
    for at in range(2):  # the first pass builds what later ones find
        torch.cuda.set_sync_debug_mode("error" if at else "default")
        try:
            with torch.autocast("cuda", torch.float16, cache_enabled=False):
                losses = rule(network, content, 0.5)
                total = rule.total(losses, 0.5)
            total.backward()
            rule.update(network, at + 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    weights = [p for p in network.parameters() if p.ndim == 4 and p.grad is not None]
    assert weights and all(p.grad.isfinite().all() for p in weights)
