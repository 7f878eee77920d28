# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""No rule mixes devices or waits for one: on a GPU where there is one, on tensors without content everywhere."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from scripts.methods import ClusterPretraining, LearningRule
from scripts.transforms import WeakView
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


def drawn_outside(draw):
    """A generator function whose single numbers, which decide what is done, are real ones."""

    def number(*args, **kwargs):
        if args[-1] == () and "device" not in kwargs:
            with _disable_current_modes():
                return draw(*args, **kwargs).item()
        return draw(*args, **kwargs)

    return number


@pytest.fixture
def elsewhere(monkeypatch):
    """Where tensors without content lie: on CUDA, or on torch's own device for them where this torch asks for a driver
    even then (2.8 does). That one knows no mixed precision, which is off here."""
    try:
        with FakeTensorMode():
            torch.empty(0).to("cuda")
        return "cuda"
    except RuntimeError:
        monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
        return "meta"


@pytest.mark.parametrize("name", EVERY)
def test_a_rule_keeps_to_one_device_and_never_asks_it_for_a_value(name, elsewhere, monkeypatch):
    """Tensors without content know their device alone: mixing two, or reading a value, raises."""
    for draw in ("rand", "randint"):
        monkeypatch.setattr(torch, draw, drawn_outside(getattr(torch, draw)))
    mode, real = FakeTensorMode(allow_non_fake_inputs=False), made(name)
    with FakeCopyMode(mode):
        network, rule = copy.deepcopy(real)
    with mode:
        for module in (*network.modules(), *rule.modules()):  # Module.to would ask CUDA whether it is there
            for key, value in module._parameters.items():
                if value is not None:
                    module._parameters[key] = nn.Parameter(value.detach().to(elsewhere), value.requires_grad)
            module._buffers.update({k: v.to(elsewhere) for k, v in module._buffers.items() if v is not None})
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
