# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Weighted cross-entropy against a loop."""

import math

import pytest
import torch

from scripts.losses import weighted_cross_entropy, weighted_dice_loss


def test_equal_to_the_plain_python_version():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    target, weight = torch.softmax(torch.randn(2, 3, 4, 5), 1), (torch.rand(2, 1, 4, 5) > 0.5).float()
    total = 0.0
    for b, x, y in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        e = [math.exp(v) for v in logits[b, :, x, y].tolist()]
        total -= float(weight[b, 0, x, y]) * sum(float(target[b, k, x, y]) * math.log(e[k] / sum(e)) for k in range(3))
    loss = weighted_cross_entropy(logits, target, weight)
    assert loss.item() == pytest.approx(total / 40, abs=1e-5)
    loss.backward()
    assert (logits.grad[(weight == 0).expand_as(logits)] == 0).all()


def test_dice_equals_the_plain_python_version():
    torch.manual_seed(1)
    logits, smooth = torch.randn(2, 3, 4, 5), 1.0
    target, weight = torch.softmax(torch.randn(2, 3, 4, 5), 1), torch.rand(2, 1, 4, 5)
    scores = []
    for k in (1, 2):
        overlap = sizes = 0.0
        for b, x, y in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
            e = [math.exp(v) for v in logits[b, :, x, y].tolist()]
            p, t, w = e[k] / sum(e), float(target[b, k, x, y]), float(weight[b, 0, x, y])
            overlap, sizes = overlap + w * p * t, sizes + w * (p + t)
        scores.append((2 * overlap + smooth) / (sizes + smooth))
    value = weighted_dice_loss(logits, target, weight, smooth)
    assert value.item() == pytest.approx(1 - sum(scores) / 2, abs=1e-5)
