# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Supervised losses against slow, obvious versions."""

import math

import pytest
import torch

from scripts.losses import IGNORE_INDEX, SegmentationLoss, cross_entropy, soft_dice_loss


def example(classes, shape=(2, 5, 7), ignored=0.3):
    logits = torch.randn(shape[0], classes, *shape[1:], dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, classes, (shape[0], 1, *shape[1:]))
    labels[torch.rand(labels.shape) < ignored] = IGNORE_INDEX
    return logits, labels


def slow_cross_entropy(logits, labels):
    total, count = 0.0, 0
    for b, x, y in torch.cartesian_prod(*[torch.arange(n) for n in labels[:, 0].shape]).tolist():
        label = int(labels[b, 0, x, y])
        if label != IGNORE_INDEX:
            values = [math.exp(v) for v in logits[b, :, x, y].tolist()]
            total, count = total - math.log(values[label] / sum(values)), count + 1
    return total / count


def slow_dice(logits, labels, smooth=1.0):
    classes, scores = logits.shape[1], []
    for k in range(1, classes):
        overlap = sizes = 0.0
        for b, x, y in torch.cartesian_prod(*[torch.arange(n) for n in labels[:, 0].shape]).tolist():
            label = int(labels[b, 0, x, y])
            if label != IGNORE_INDEX:
                values = [math.exp(v) for v in logits[b, :, x, y].tolist()]
                p, t = values[k] / sum(values), float(label == k)
                overlap, sizes = overlap + p * t, sizes + p + t
        scores.append((2 * overlap + smooth) / (sizes + smooth))
    return 1 - sum(scores) / len(scores)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_equal_to_the_plain_python_version(classes):
    torch.manual_seed(classes)
    logits, labels = example(classes)
    assert cross_entropy(logits, labels).item() == pytest.approx(slow_cross_entropy(logits, labels), abs=1e-5)
    assert soft_dice_loss(logits, labels).item() == pytest.approx(slow_dice(logits, labels), abs=1e-5)


def test_gradient_is_exactly_zero_on_ignored_pixels():
    torch.manual_seed(0)
    logits, labels = example(3)
    SegmentationLoss()(logits, labels).backward()
    ignored = (labels == IGNORE_INDEX).expand_as(logits)
    assert ignored.any() and (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()


def test_nothing_labelled_gives_zero_and_zero_gradient():
    logits, labels = example(2)
    loss = cross_entropy(logits, torch.full_like(labels, IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_perfect_prediction_costs_nothing():
    labels = torch.randint(0, 3, (2, 1, 8, 8))
    logits = 50.0 * torch.nn.functional.one_hot(labels[:, 0], 3).movedim(-1, 1).float()
    assert SegmentationLoss()(logits, labels).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 2.0)])
def test_the_supervised_loss_is_the_weighted_sum_of_its_halves(weights):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, 7), torch.randint(0, 3, (2, 1, 5, 7))
    labels[0, 0, :2] = IGNORE_INDEX
    parts = cross_entropy(logits, labels).item(), soft_dice_loss(logits, labels, batch=False).item()
    expected = weights[0] * parts[0] + weights[1] * parts[1]
    assert min(parts) > 0.1
    assert SegmentationLoss(*weights)(logits, labels).item() == pytest.approx(expected)


def test_the_dice_of_the_supervised_loss_is_counted_image_by_image_or_over_the_batch():
    torch.manual_seed(3)
    logits, labels = example(3, (3, 5, 7))
    labels[2] = 0
    one = [soft_dice_loss(logits[n : n + 1], labels[n : n + 1]).item() for n in range(2)]
    parts = cross_entropy(logits, labels).item(), sum(one) / 2
    assert SegmentationLoss()(logits, labels).item() == pytest.approx(sum(parts), abs=1e-5)
    whole = parts[0] + soft_dice_loss(logits, labels).item()
    for given in (True, "true"):  # the command line hands over the word
        assert SegmentationLoss(batch_dice=given)(logits, labels).item() == pytest.approx(whole, abs=1e-5)
    assert whole != pytest.approx(sum(parts), abs=1e-3)
