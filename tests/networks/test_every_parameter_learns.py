# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""After two steps every parameter of every network has a gradient: nothing is built that the output does not use."""

import torch

from scripts.networks import LESSNet, UNet


def dead(network, loss):
    """Parameters without a gradient, from the second step on: timm starts some residual branches at 0."""
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return [
        n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]


def test_every_parameter_learns():
    for make in (LESSNet, lambda: UNet(channels=(8, 8, 16, 16, 32))):
        torch.manual_seed(0)
        network, image = make().train(), torch.rand(2, 3, 64, 64)
        assert dead(network, lambda: network(image).square().mean()) == []
