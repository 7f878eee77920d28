# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""S3-Net's layers against slow versions, its size against the released one, and its two kinds of offsets."""

import pytest
import torch
import torch.nn.functional as F

from scripts.networks.s3net import (
    FixedDeformation,
    LargeKernelAttention,
    PlainClusterNet,
    PredictedDeformation,
    S3Net,
)


def test_the_released_network_has_the_released_number_of_parameters():
    network = S3Net(3, 64, 2, (256, 256))
    assert sum(p.numel() for p in network.parameters()) == 1_872_896
    assert network.main[0].offset.numel() == 1_179_648 and network.main[0].modulation.numel() == 589_824


@pytest.mark.parametrize("size", [None, (20, 17)], ids=["predicted", "fixed"])
def test_shapes_and_every_parameter_learns(size):
    torch.manual_seed(0)
    network = S3Net(1, 8, 2, size)
    main, auxiliary = network(torch.rand(1, 1, 20, 17))
    assert main.shape == auxiliary.shape == (1, 8, 20, 17)
    torch.manual_seed(1)
    (main * torch.rand_like(main) + auxiliary * torch.rand_like(auxiliary)).sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert network.main[0].weight.grad.abs().sum() > 0


def test_the_gate_reaches_19_pixels_and_multiplies_its_input():
    torch.manual_seed(0)
    gate = LargeKernelAttention(2)
    x = torch.randn(1, 2, 41, 41, requires_grad=True)
    gate(x)[0, 0, 20, 20].backward()
    rows = x.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    # 7x7 dilated by 3 reaches 9 to either side, the 5x5 before it 2 more
    assert rows.min() == 20 - 11 and rows.max() == 20 + 11
    x = x.detach()
    mixed = gate.mix(torch.cat([scale(gate.first(x)) for scale in gate.scales], 1))
    assert torch.allclose(gate(x), x * mixed) and (gate(torch.zeros(1, 2, 9, 9)) == 0).all()


def test_predicted_offsets_start_as_a_plain_convolution_and_follow_the_image():
    torch.manual_seed(0)
    layer, x = PredictedDeformation(4), torch.randn(2, 4, 15, 14)
    assert torch.allclose(layer(x), F.conv2d(x, layer.weight, padding=1), atol=1e-5)
    with torch.no_grad():
        layer.predict.weight.normal_(0, 0.1)
    moved = layer(x.roll(1, 2))[:, :, 5:-5, 5:-5]
    assert torch.allclose(moved, layer(x).roll(1, 2)[:, :, 5:-5, 5:-5], atol=1e-4)
    fixed = FixedDeformation(4, (15, 14))
    moved = fixed(x[:1].roll(1, 2))[:, :, 5:-5, 5:-5]
    assert not torch.allclose(moved, fixed(x[:1]).roll(1, 2)[:, :, 5:-5, 5:-5], atol=1e-2)


def test_fixed_offsets_equal_the_plain_python_version():
    torch.manual_seed(0)
    layer, x = FixedDeformation(1, (5, 5)), torch.randn(1, 1, 5, 5)

    def at(i, j):
        return x[0, 0, i, j].item() if 0 <= i < 5 and 0 <= j < 5 else 0.0

    def between(i, j):
        a, b = int(i // 1), int(j // 1)
        di, dj = i - a, j - b
        near = (1 - di) * ((1 - dj) * at(a, b) + dj * at(a, b + 1))
        return near + di * ((1 - dj) * at(a + 1, b) + dj * at(a + 1, b + 1))

    out = layer(x)[0, 0]
    for i, j in ((0, 0), (2, 3), (4, 4)):
        total = 0.0
        for tap in range(9):
            offset = layer.offset[0, 2 * tap : 2 * tap + 2, i, j].tolist()
            value = between(i + tap // 3 - 1 + offset[0], j + tap % 3 - 1 + offset[1])
            total += layer.weight[0, 0, tap // 3, tap % 3].item() * layer.modulation[0, tap, i, j].item() * value
        assert out[i, j].item() == pytest.approx(total, abs=1e-4)


def test_the_plain_network_has_the_published_layers():
    network = PlainClusterNet(3, 100, 1)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions] == [
        (3, 100, (3, 3)),
        (100, 100, (3, 3)),
        (100, 100, (1, 1)),
    ]
    assert network(torch.rand(1, 3, 12, 9)).shape == (1, 100, 12, 9)
