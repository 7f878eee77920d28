# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The teacher is the exact EMA of the student, BatchNorm buffers included."""

import copy
import pickle

import pytest
import torch
import torch.nn as nn

from scripts.methods import EMATeacher


def student():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_teacher_equals_the_plain_python_average():
    torch.manual_seed(0)
    network, decay = student(), 0.9
    teacher = EMATeacher(network, decay)
    expected = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for n in range(1, 31):
        optimizer.zero_grad()
        network(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        teacher.update(network, n)
        d = min(1 - 1 / n, decay)
        for key, value in network.state_dict().items():
            expected[key] = d * expected[key] + (1 - d) * value if value.is_floating_point() else value.clone()
    for key, value in teacher.module.state_dict().items():
        assert torch.allclose(value, expected[key], atol=1e-6), key
    assert not torch.allclose(teacher.module[1].running_mean, network[1].running_mean)


def test_teacher_takes_no_gradient_stays_in_eval_mode_and_syncs():
    network = student()
    teacher = EMATeacher(network).train()
    assert not teacher.module.training and not any(p.requires_grad for p in teacher.parameters())
    with torch.no_grad():
        network[0].weight.add_(1)
    teacher.sync(network)
    assert torch.equal(teacher.module[0].weight, network[0].weight)
    assert teacher.module[0].weight.data_ptr() != network[0].weight.data_ptr()


def test_after_the_first_step_the_teacher_is_the_student():
    network = student()
    teacher = EMATeacher(network)
    with torch.no_grad():
        network[0].weight.add_(1)
    teacher.update(network, 1)
    assert torch.allclose(teacher.module[0].weight, network[0].weight)


@pytest.mark.parametrize("change", ["none", "buffers", "weights", "copies"])
def test_what_is_kept_between_updates_follows_new_memory(change):
    """The lists of tensors are kept; a network that is moved, loaded by assignment or copied has other ones."""
    network = student()
    teacher = EMATeacher(network, 0.5)
    teacher.update(network, 1)
    if change == "buffers":
        network.to(torch.float64).to(torch.float32)  # parameters stay the same objects, buffers do not
    elif change == "weights":
        network.load_state_dict({k: v.clone() for k, v in network.state_dict().items()}, assign=True)
    elif change == "copies":
        before = network
        network, teacher = copy.deepcopy(network), copy.deepcopy(teacher)
        before[0].weight.data.fill_(7)
    old = {k: v.clone() for k, v in teacher.module.state_dict().items()}
    with torch.no_grad():
        for value in network.state_dict().values():
            value += 1
    teacher.update(network, 10)
    for key, value in network.state_dict().items():
        expected = (old[key] + value) / 2 if value.is_floating_point() else value
        assert torch.allclose(teacher.module.state_dict()[key], expected), key


def test_a_copied_teacher_holds_nothing_of_the_student():
    network = student()
    teacher = EMATeacher(network)
    teacher.update(network, 1)
    assert len(pickle.dumps(teacher)) == len(pickle.dumps(EMATeacher(network)))


def test_ramp_ends():
    from scripts.methods import SigmoidRamp

    ramp = SigmoidRamp(2.0, start=0.1, end=0.5)
    assert ramp(0.05) == 0 and ramp(0.5) == ramp(1.0) == 2.0
    assert SigmoidRamp()(0.0) == pytest.approx(0.0067, abs=1e-4)
    assert all(
        a <= b for a, b in zip(map(ramp, [i / 20 for i in range(20)]), map(ramp, [i / 20 for i in range(1, 21)]))
    )
