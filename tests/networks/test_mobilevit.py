# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The block whose sizes survive a tracer computes what timm's block computes, with the same weights."""

import copy

import pytest
import timm
import torch
from timm.models.mobilevit import MobileVitBlock, MobileVitV2Block

from scripts.networks import LESSNet
from scripts.networks.mobilevit import AnySizeBlock, AnySizeBlockV2, take_any_size


@pytest.fixture(scope="module", params=["mobilevit_xxs", "mobilevitv2_050"])
def pair(request):
    """timm's encoder and its copy that takes any size."""
    torch.manual_seed(0)
    plain = timm.create_model(request.param, features_only=True).eval()
    return plain, take_any_size(copy.deepcopy(plain))


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (128, 96), (97, 130), (33, 45)], ids=str)
def test_the_maps_and_gradients_are_those_of_timm(pair, size):
    if isinstance(pair[1].stages_2[-1], MobileVitV2Block) and any(side % 64 for side in size):
        pytest.skip("there timm's block of the second version grows its map")
    image = torch.rand(2, 3, *size)
    for plain, own in zip(pair[0](image), pair[1](image)):
        torch.testing.assert_close(own, plain, atol=1e-6, rtol=0)
    for network in pair:
        network.zero_grad()
        network(image)[-1].square().mean().backward()
    for one, other in zip(pair[0].parameters(), pair[1].parameters()):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-4)


def test_every_block_is_changed_and_no_key(pair):
    plain, own = pair
    assert list(plain.state_dict()) == list(own.state_dict())
    blocks = [module for module in own.modules() if isinstance(module, (MobileVitBlock, MobileVitV2Block))]
    assert len(blocks) == 3 and all(isinstance(block, (AnySizeBlock, AnySizeBlockV2)) for block in blocks)


@pytest.mark.parametrize("backbone", ["mobilevit_xs", "mobilevitv2_050"])
def test_a_network_on_another_backbone_takes_any_size(backbone):
    network = LESSNet(backbone=backbone).eval()
    for size in ((32, 32), (97, 130), (48, 200)):
        with torch.no_grad():
            assert network(torch.rand(1, 3, *size)).shape == (1, 2, *size)


def test_a_trace_at_one_size_holds_at_others(pair):
    # 40 and 72 leave half a patch at stride 16, where the map is resized; the trace was made where all patches fit
    traced = torch.jit.trace(pair[1], torch.rand(1, 3, 128, 128))
    for size in ((128, 128), (64, 96), (72, 200), (40, 33)):
        image = torch.rand(3, 3, *size)
        with torch.no_grad():
            for found, wanted in zip(traced(image), pair[1](image)):
                torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
