# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The block whose sizes survive a tracer computes what timm's block computes, with the same weights."""

import copy

import pytest
import timm
import torch
from timm.models.mobilevit import MobileVitBlock

from scripts.networks.mobilevit import AnySizeBlock, take_any_size


@pytest.fixture(scope="module")
def pair():
    """timm's encoder and its copy that takes any size."""
    torch.manual_seed(0)
    plain = timm.create_model("mobilevit_xxs", features_only=True).eval()
    return plain, take_any_size(copy.deepcopy(plain))


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (97, 130), (33, 45)], ids=str)
def test_the_maps_and_gradients_are_those_of_timm(pair, size):
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
    blocks = [module for module in own.modules() if isinstance(module, MobileVitBlock)]
    assert len(blocks) == 3 and all(isinstance(block, AnySizeBlock) for block in blocks)


def test_a_trace_at_one_size_holds_at_others(pair):
    # 40 and 72 leave half a patch at stride 16, where the map is resized; the trace was made where all patches fit
    traced = torch.jit.trace(pair[1], torch.rand(1, 3, 128, 128))
    for size in ((128, 128), (64, 96), (72, 200), (40, 33)):
        image = torch.rand(3, 3, *size)
        with torch.no_grad():
            for found, wanted in zip(traced(image), pair[1](image)):
                torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
