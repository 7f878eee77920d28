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


def slow_dice_losses(logits, target, weight, groups, smooth=1.0):
    """1 - Dice of class 1, 2, ... over the images of each group, and whether they hold the class."""
    found = []
    for images in groups:
        for k in range(1, logits.shape[1]):
            overlap = sizes = marked = 0.0
            for b in images:
                for x, y in torch.cartesian_prod(*[torch.arange(n) for n in logits.shape[2:]]).tolist():
                    e = [math.exp(v) for v in logits[b, :, x, y].tolist()]
                    p, t, w = e[k] / sum(e), float(target[b, k, x, y]), float(weight[b, 0, x, y])
                    overlap, sizes, marked = overlap + w * p * t, sizes + w * (p + t), marked + w * t
            found.append((1 - (2 * overlap + smooth) / (sizes + smooth), marked > 0))
    return found


def test_dice_equals_the_plain_python_version():
    torch.manual_seed(1)
    logits, smooth = torch.randn(2, 3, 4, 5), 1.0
    target, weight = torch.softmax(torch.randn(2, 3, 4, 5), 1), torch.rand(2, 1, 4, 5)
    losses = [loss for loss, _ in slow_dice_losses(logits, target, weight, [(0, 1)], smooth)]
    value = weighted_dice_loss(logits, target, weight, smooth)
    assert value.item() == pytest.approx(sum(losses) / 2, abs=1e-5)


def test_dice_image_by_image_equals_the_plain_python_version_over_the_images_that_hold_the_class():
    torch.manual_seed(0)
    logits = torch.randn(4, 3, 4, 5, requires_grad=True)
    target = torch.nn.functional.one_hot(torch.randint(0, 3, (4, 4, 5)), 3).movedim(-1, 1).float()
    weight = (torch.rand(4, 1, 4, 5) > 0.3).float()
    target[0, 0] += target[0, 2]  # the first image holds no class 2, the third nothing, of the fourth nothing counts
    target[0, 2] = 0
    target[2, 0], target[2, 1:] = 1, 0
    weight[3] = 0
    found = slow_dice_losses(logits.detach(), target, weight, [(0,), (1,), (2,), (3,)])
    assert [held for _, held in found] == [True, False, True, True, False, False, False, False]
    loss = weighted_dice_loss(logits, target, weight, batch=False)
    assert loss.item() == pytest.approx(sum(one for one, held in found if held) / 3, abs=1e-5)
    loss.backward()
    assert (logits.grad[:2] != 0).any() and (logits.grad[2:] == 0).all()
    assert (logits.grad[(weight == 0).expand_as(logits)] == 0).all()


def test_an_image_holds_the_class_of_a_soft_target_where_it_is_the_likeliest():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 2, 4, 5), torch.full((2, 2, 4, 5), 0.01)
    target[:, 0] = 0.99
    target[1, :, 2, 2] = torch.tensor([0.4, 0.6])
    loss = weighted_dice_loss(logits, target, torch.ones(2, 1, 4, 5), batch=False)
    assert loss.item() == pytest.approx(
        slow_dice_losses(logits, target, torch.ones(2, 1, 4, 5), [(1,)])[0][0], abs=1e-5
    )


def test_dice_image_by_image_is_zero_where_no_image_holds_anything():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    target = torch.zeros(2, 3, 4, 5)
    target[:, 0] = 1
    for images in (2, 0):
        loss = weighted_dice_loss(logits[:images], target[:images], torch.ones(images, 1, 4, 5), batch=False)
        loss.backward()
        assert loss.item() == 0 and (logits.grad == 0).all()


def test_a_small_lesion_weighs_as_much_as_a_large_one_image_by_image_alone():
    """Two images, answered equally well; the first has a lesion of a hundredth of the size."""
    target = torch.zeros(2, 2, 20, 20)
    target[0, 1, :2, :2], target[1, 1] = 1, 1
    target[:, 0] = 1 - target[:, 1]
    shares = {}
    for batch in (True, False):
        logits = torch.zeros(2, 2, 20, 20, requires_grad=True)
        weighted_dice_loss(logits, target, torch.ones(2, 1, 20, 20), batch=batch).backward()
        small, large = ((logits.grad * target)[n, 1].abs().sum().item() for n in (0, 1))
        shares[batch] = small / large
    assert shares[True] < 0.02 and shares[False] > 0.03
