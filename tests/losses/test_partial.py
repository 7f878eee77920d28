# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Partial cross-entropy and entropy against loops; nothing is learned where nothing is annotated."""

import math

import pytest
import torch

from scripts.losses import IGNORE_INDEX, PartialCrossEntropy, entropy


def scribble(shape=(2, 1, 6, 5), classes=3, share=0.3):
    labels = torch.randint(0, classes, shape)
    labels[torch.rand(shape) > share] = IGNORE_INDEX
    return labels


def test_equal_to_the_plain_python_version_and_the_gradient_is_zero_off_the_scribble():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 6, 5, requires_grad=True), scribble()
    total, count = 0.0, 0
    for b, x, y in torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(5)).tolist():
        label = labels[b, 0, x, y].item()
        if label != IGNORE_INDEX:
            e = [math.exp(v) for v in logits[b, :, x, y].tolist()]
            total, count = total - math.log(e[label] / sum(e)), count + 1
    loss = PartialCrossEntropy()(logits, labels)
    assert 0 < count < 60 and loss.item() == pytest.approx(total / count, abs=1e-5)
    loss.backward()
    off = (labels == IGNORE_INDEX).expand_as(logits)
    assert (logits.grad[off] == 0).all() and (logits.grad[~off] != 0).all()


def test_a_batch_without_annotation_is_exactly_zero_with_zero_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = PartialCrossEntropy()(logits, torch.full((2, 1, 4, 4), IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_entropy_is_zero_when_certain_one_when_even_and_as_in_plain_python():
    torch.manual_seed(0)
    probabilities = torch.softmax(torch.randn(1, 4, 2, 2), dim=1)
    expected = [[-sum(p * math.log(p) for p in probabilities[0, :, x, y].tolist()) for y in (0, 1)] for x in (0, 1)]
    assert torch.allclose(entropy(probabilities)[0, 0], torch.tensor(expected) / math.log(4), atol=1e-5)
    logits = torch.tensor([[200.0, 0.0], [0.0, 0.0]]).view(2, 2, 1, 1).requires_grad_()
    values = entropy(torch.softmax(logits, dim=1))
    values.sum().backward()
    assert values.flatten().tolist() == pytest.approx([0.0, 1.0], abs=1e-6) and logits.grad.isfinite().all()
