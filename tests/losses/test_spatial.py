# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Spatial terms against loops and against scipy; the released one has no gradient."""

import pytest
import torch
from scipy import ndimage

from scripts.losses import drawn_edge_difference, edge_difference, neighbour_difference, sobel


def test_sobel_is_scipys_along_each_axis():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    x, y, _ = sobel(maps)
    for axis, found in ((0, x), (1, y)):
        expected = ndimage.sobel(maps[1, 2].numpy(), axis=axis, mode="nearest")
        assert torch.allclose(found[1, 2], torch.tensor(expected))


def test_the_mixed_derivative_is_that_of_a_product_and_zero_on_a_plane():
    x, y = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    inner = (slice(1, -1), slice(1, -1))
    assert (sobel((x * y)[None, None])[2, 0, 0][inner] == 4).all()
    assert (sobel((2 * x - 3 * y)[None, None])[2, 0, 0][inner] == 0).all()


def test_edge_difference_equals_its_definition_and_has_a_gradient():
    torch.manual_seed(0)
    maps = torch.randn(1, 4, 5, 6, requires_grad=True)
    x, y, mixed = (value.flatten().tolist() for value in sobel(maps))
    expected = sum(abs(b - a) + abs(m - a) + abs(m - b) for a, b, m in zip(x, y, mixed)) / len(x)
    loss = edge_difference(maps)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-4) and maps.grad.abs().sum() > 0
    assert edge_difference(torch.ones(1, 2, 5, 5)).item() == 0


def test_the_drawn_labels_give_a_constant():
    torch.manual_seed(0)
    value = drawn_edge_difference(torch.randint(0, 4, (1, 8, 8)), 4)
    assert value.item() > 0 and not value.requires_grad
    assert drawn_edge_difference(torch.zeros(1, 8, 8, dtype=torch.long), 4).item() == pytest.approx(0.0, abs=1e-3)


def test_neighbour_difference_equals_the_plain_python_version():
    torch.manual_seed(0)
    z = torch.randn(2, 3, 4, 5)
    pairs = [(b, c) for b in range(2) for c in range(3)]
    along_x = [abs(z[b, c, i + 1, j] - z[b, c, i, j]).item() for b, c in pairs for i in range(3) for j in range(5)]
    along_y = [abs(z[b, c, i, j + 1] - z[b, c, i, j]).item() for b, c in pairs for i in range(4) for j in range(4)]
    expected = sum(along_x) / len(along_x) + sum(along_y) / len(along_y)
    assert neighbour_difference(z).item() == pytest.approx(expected, abs=1e-5)


def test_the_difference_stays_in_full_precision_under_mixed_precision():
    maps = torch.rand(1, 2, 8, 8, requires_grad=True)
    for kind in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", kind):
            assert torch.equal(edge_difference(maps.to(kind).float()), edge_difference(maps.to(kind)))
            loss = edge_difference(maps)
        assert loss.dtype == torch.float32 and torch.equal(loss, edge_difference(maps))
