# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Uncertainty of an image."""

import math

import pytest
import torch

from scripts.uncertainty import flipped_probabilities, image_uncertainty


def slow(probabilities, share):
    """The definition, pixel by pixel."""
    found = []
    for image in probabilities:
        values = []
        for pixel in image.flatten(1).T.tolist():
            values.append(sum(-p * math.log(p) for p in pixel if p > 0) / math.log(len(pixel)))
        values = sorted(values, reverse=True)[: max(1, round(share * len(values)))]
        found.append(sum(values) / len(values))
    return found


@pytest.mark.parametrize("shape", [(2, 2, 7, 5), (1, 3, 4, 5, 3)])
@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_equal_to_the_definition(shape, share):
    probabilities = (3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).softmax(1)
    assert image_uncertainty(probabilities, share).tolist() == pytest.approx(slow(probabilities, share), abs=1e-5)


def test_bounds():
    even, sure = torch.full((1, 4, 3, 3), 0.25), torch.eye(2)[:, :1].reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    assert image_uncertainty(even).item() == pytest.approx(1) and image_uncertainty(sure).item() == 0


def test_views_are_turned_back():
    image = torch.rand(1, 3, 6, 9)

    def predict(x):  # depends on the pixel alone, so every view must agree
        return torch.stack([x[:, 0], 2 * x[:, 1]], 1)

    assert torch.allclose(flipped_probabilities(predict, image), predict(image).softmax(1), atol=1e-6)


def test_a_network_that_depends_on_the_side_is_unsure():
    def leftward(x):
        logits = torch.zeros(x.shape[0], 2, *x.shape[2:])
        logits[:, 1, : x.shape[2] // 2] = 20
        logits[:, 0, x.shape[2] // 2 :] = 20
        return logits

    assert image_uncertainty(flipped_probabilities(leftward, torch.rand(1, 3, 8, 8))).item() == pytest.approx(1)
