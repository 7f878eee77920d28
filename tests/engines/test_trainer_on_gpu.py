# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Nothing in an iteration waits for a GPU, the handlers that run in it included: on tensors without content."""

import pytest
import torch
from monai.handlers import LrScheduleHandler
from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from scripts.engines import SemiSupervisedTrainer
from scripts.handlers import History, ProgressiveSize, StopOnNonFinite, TeacherUpdate
from scripts.methods import LessNet, MeanTeacher
from scripts.transforms import StrongView, WeakView
from tests.contentless import emptied, knows_cuda
from tests.methods.test_rules import unet


def batch() -> dict:
    """As the loader yields it."""
    images = {name: torch.rand(2, 3, 64, 64) for name in ("labelled", "unlabelled")}
    found = {name: {"image": image, "key": [f"{name} {n}" for n in range(2)]} for name, image in images.items()}
    found["labelled"]["label"] = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    return found


@pytest.mark.skipif(not knows_cuda(), reason="this torch has no tensor on CUDA without a driver")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", [MeanTeacher, LessNet])
def test_an_iteration_never_asks_the_device_for_a_value(tmp_path, monkeypatch, rule, dtype):
    """All of it but the backward pass, which PyTorch starts no threads for without a GPU."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(nn.Module, "to", lambda module, *_, **__: module)  # they lie where they shall
    network, mode = unet(), FakeTensorMode(allow_non_fake_inputs=False)
    network, learning = emptied(mode, "cuda", network, rule(network, strong_view=StrongView()))
    with mode:
        parameters = [*network.parameters(), *(p for p in learning.parameters() if p.requires_grad)]
        for p in parameters:
            p.grad = torch.zeros_like(p)
        optimizer = torch.optim.AdamW(parameters, fused=True)
        optimizer.zero_grad = lambda set_to_none: None
        monkeypatch.setattr(torch.Tensor, "backward", lambda _: None)
        view, kinds = WeakView(), set()
        network.register_forward_hook(
            lambda _, inputs, answer: kinds.add((answer[0] if isinstance(answer, tuple) else answer).dtype)
        )
        # what reads the device on purpose, once in many iterations and at an epoch's end, is left out
        history, stop = History(str(tmp_path), plot_every=0), StopOnNonFinite(every=50)
        monkeypatch.setattr(stop, "check", lambda _: None)
        monkeypatch.setattr(history, "write", lambda _: None)
        schedule = LrScheduleHandler(WarmupCosineSchedule(optimizer, 1, 3), print_lr=False, epoch_level=False)
        engine = SemiSupervisedTrainer(
            device="cuda",
            max_epochs=1,
            train_data_loader=[batch() for _ in range(3)],
            network=network,
            optimizer=optimizer,
            loss_function=learning,
            weak_view=view,
            max_norm=1.0,
            amp=True,
            amp_kwargs={"dtype": dtype},
            train_handlers=[ProgressiveSize(view, 0.5), TeacherUpdate(), stop, schedule, history],
        )
        engine.run()
    assert engine.state.iteration == 3 and engine.scaler.is_enabled() == (dtype is torch.float16)
    assert kinds == {dtype}
    noted = (*history.sums.values(), stop.first_bad, *engine.state.output["losses"].values())
    assert {value.device.type for value in noted} == {"cuda"}
    assert ("gradient_norm" in engine.state.output) == (dtype is torch.bfloat16)
