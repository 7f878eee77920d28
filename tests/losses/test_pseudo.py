# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Hard pseudo-labels: the gate, and the loss against a loop over the pixels."""

import math

import pytest
import torch

from scripts.losses import IGNORE_INDEX, gate, pseudo_label_loss


def test_the_gate_takes_the_likeliest_class_where_it_is_sure():
    probabilities = torch.tensor([[0.6, 0.97, 0.05], [0.4, 0.03, 0.95]]).view(1, 2, 1, 3)
    labels, accepted = gate(probabilities, 0.95)
    assert labels.flatten().tolist() == [0, 0, 1] and accepted.flatten().tolist() == [0, 1, 1]
    assert gate(probabilities)[1].min() == 1


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_equal_to_the_plain_python_version(classes, dice):
    torch.manual_seed(classes)
    logits = torch.randn(2, classes, 3, 4, dtype=torch.float64)
    labels, weight = torch.randint(0, classes, (2, 1, 3, 4)), torch.rand(2, 1, 3, 4)
    labels[0, 0, 0, 0], weight[0, 0, 0, 0] = IGNORE_INDEX, 0
    entropy, overlap, sizes = 0.0, [0.0] * classes, [0.0] * classes
    for b, x, y in [(b, x, y) for b in range(2) for x in range(3) for y in range(4)]:
        p = logits[b, :, x, y].softmax(0).tolist()
        w, label = weight[b, 0, x, y].item(), labels[b, 0, x, y].item()
        entropy += w * -math.log(p[label]) / 24 if w else 0.0
        for k in range(classes):
            overlap[k] += w * p[k] * (k == label)
            sizes[k] += w * (p[k] + (k == label))
    scores = [(2 * o + 1) / (s + 1) for o, s in zip(overlap[1:], sizes[1:])]
    expected = entropy + dice * (1 - sum(scores) / len(scores))
    assert pseudo_label_loss(logits, labels, weight, dice).item() == pytest.approx(expected, abs=1e-5)


def test_where_nothing_counts_the_loss_is_zero_with_zero_gradient():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = pseudo_label_loss(logits, torch.ones(1, 1, 4, 4).long(), torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0
