# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Contrast between two networks against loops, and its corner cases."""

import math

import pytest
import torch
import torch.nn.functional as F

from scripts.losses import IGNORE_INDEX, boundary_band, patch_contrast, pixel_contrast, pool_patches, tile


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=1)


def test_pooled_patches_are_the_directions_of_the_means():
    torch.manual_seed(0)
    maps = unit(2, 5, 8, 12)
    pooled = pool_patches(maps, 4)
    first = maps[1, :, 2:4, 3:6].flatten(1).mean(1)
    assert pooled.shape == (32, 5) and torch.allclose(pooled[16 + 5], F.normalize(first, dim=0))
    assert torch.allclose(pool_patches(maps[:, :, :, :8], 4), F.normalize(tile(maps[:, :, :, :8], 2).mean(1), dim=1))


@pytest.mark.parametrize("remembered", [0, 7])
def test_patches_are_the_loop_over_anchors(remembered):
    torch.manual_seed(remembered)
    anchors, others, memory = unit(9, 6), unit(9, 6), unit(7, 6)[:remembered]
    classes, memory_classes = torch.randint(-1, 3, (9,)), torch.randint(-1, 3, (7,))[:remembered]
    losses = []
    for i, k in enumerate(classes.tolist()):
        if k < 0:
            continue
        negatives = [others[j] for j, other in enumerate(classes.tolist()) if other not in (k, -1)]
        negatives += [v for v, other in zip(memory, memory_classes.tolist()) if other not in (k, -1)]
        own = math.exp(float(anchors[i] @ others[i]) / 0.1)
        losses.append(-math.log(own / (own + sum(math.exp(float(anchors[i] @ n) / 0.1) for n in negatives))))
    value = patch_contrast(anchors, others, classes, memory, memory_classes, 0.1)
    assert value.item() == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_pixels_are_the_loop_when_all_are_drawn():
    torch.manual_seed(0)
    first, second = unit(1, 4, 6, 6), unit(1, 4, 6, 6)
    labels = torch.zeros(1, 1, 6, 6, dtype=torch.long)
    labels[..., 1:4, 2:5], labels[..., 5, :] = 1, IGNORE_INDEX
    classes = labels.flatten().tolist()
    near = boundary_band(labels, 1).flatten().tolist()
    # pixels beside a boundary are drawn twice: once as such, once as any
    drawn = [i for i, k in enumerate(classes) if k != IGNORE_INDEX] + [i for i in range(36) if near[i]]

    def one_way(anchors, keys):
        a, b = (v[0].flatten(1).T for v in (anchors, keys))
        losses = []
        for i in drawn:
            s = {j: math.exp(float(a[i] @ b[j]) / 0.5) for j in drawn}
            negatives = sum(s[j] for j in drawn if classes[j] != classes[i])
            pairs = [-math.log(s[j] / (s[j] + negatives)) for j in drawn if classes[j] == classes[i]]
            losses.append(sum(pairs) / len(pairs))
        return sum(losses) / len(losses)

    expected = (one_way(first, second) + one_way(second, first)) / 2
    assert pixel_contrast(first, second, labels, 2, 100, 0.5).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("value", [0, 1, IGNORE_INDEX])
def test_with_one_class_or_none_both_are_zero_and_finite(value):
    embeddings = torch.randn(2, 4, 8, 8, requires_grad=True)
    first, labels = F.normalize(embeddings, dim=1), torch.full((2, 1, 16, 16), value)
    classes = torch.full((32,), value if value != IGNORE_INDEX else -1)
    pooled = pool_patches(first, 4)
    for loss in (
        pixel_contrast(first, first.detach(), labels, 2, 16),
        patch_contrast(pooled, pooled.detach(), classes, torch.zeros(3, 4), torch.full((3,), -1)),
    ):
        (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
        assert loss.item() == pytest.approx(0, abs=1e-6) and gradient.isfinite().all()
