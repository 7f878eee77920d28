# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What several GPUs change about network and rule, as far as it shows without them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from scripts.handlers import Synchronise
from scripts.methods import CrossPseudoSupervision
from scripts.networks import LESSNet, TimmUNet


@pytest.mark.parametrize("network", [LESSNet, TimmUNet])
def test_synchronised_batch_norm_is_all_that_several_gpus_change(network):
    """Timm's layers with an activation keep it, also when a second run of the trainer starts."""
    torch.manual_seed(0)
    student, image = network(), torch.rand(2, 3, 64, 64)
    student(image)  # running statistics that are not those of the start
    rule = CrossPseudoSupervision(student, network())
    modules, held = (student, rule), [[*module.parameters(), *module.buffers()] for module in (student, rule)]
    names, deployed = [list(module.state_dict()) for module in modules], rule.deployed
    expected = [each.eval()(image) for each in (student, rule.peer, deployed)]
    engine, handler = SimpleNamespace(student=student, rule=rule), Synchronise()
    engine.state = SimpleNamespace(device=torch.device("cuda:0"))
    for _ in range(2):
        handler.start(engine)
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, _BatchNorm)]
    assert len(layers) > 3 and all(isinstance(layer, nn.SyncBatchNorm) for layer in layers)
    assert names == [list(module.state_dict()) for module in modules] and rule.deployed is deployed
    for module, before in zip(modules, held):  # the very tensors that the optimiser and the teacher hold
        assert all(a is b for a, b in zip([*module.parameters(), *module.buffers()], before, strict=True))
    for each, answer in zip((student, rule.peer, deployed), expected):
        assert torch.equal(each.eval()(image), answer)
