# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The inferer against the network applied to one slice after the other."""

import pytest
import torch

from scripts.inferers import PlaneInferer


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 5, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(5, 3, 3, padding=1)
    )


@torch.no_grad()
@pytest.mark.parametrize("slices", [1, 4, 50])
def test_volumes_are_predicted_slice_by_slice(network, slices):
    inferer = PlaneInferer(slices)
    for shape in [(2, 2, 9, 7, 11), (1, 2, 6, 12, 1)]:  # one inferer sees volumes of several sizes
        volume = torch.rand(shape)
        expected = torch.stack([network(volume[..., z]) for z in range(shape[-1])], dim=-1)
        torch.testing.assert_close(inferer(volume, network), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_pictures_go_through_at_once(network):
    sizes = []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    pictures = torch.rand(6, 2, 8, 9)
    assert torch.equal(PlaneInferer(2)(pictures, network), network(pictures))
    PlaneInferer(4)(torch.rand(1, 2, 8, 9, 10), network)
    assert sizes == [6, 6, 4, 4, 2]
