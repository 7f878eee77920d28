# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Class-aware contrast against a double loop, and its corner cases."""

import math

import pytest
import torch
import torch.nn.functional as F

from scripts.losses import class_info_nce, class_means, sample_per_class


def slow_info_nce(anchors, anchor_classes, keys, key_classes, temperature, same):
    losses = []
    for i, a in enumerate(anchor_classes.tolist()):
        if a < 0:
            continue
        usable = [j for j, k in enumerate(key_classes.tolist()) if k >= 0 and not same[i, j]]
        s = {j: float(anchors[i] @ keys[j]) / temperature for j in usable}
        negatives = sum(math.exp(s[j]) for j in usable if key_classes[j] != a)
        pairs = [-math.log(math.exp(s[j]) / (math.exp(s[j]) + negatives)) for j in usable if key_classes[j] == a]
        if pairs:
            losses.append(sum(pairs) / len(pairs))
    return sum(losses) / max(len(losses), 1)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_equal_to_the_plain_python_version(classes, temperature):
    torch.manual_seed(classes)
    anchors, keys = (F.normalize(torch.randn(n, 8, dtype=torch.float64), dim=1) for n in (9, 14))
    anchor_classes, key_classes = torch.randint(-1, classes, (9,)), torch.randint(-1, classes, (14,))
    same = torch.rand(9, 14) < 0.1
    value = class_info_nce(anchors, anchor_classes, keys, key_classes, temperature, same)
    slow = slow_info_nce(anchors, anchor_classes, keys, key_classes, temperature, same)
    assert value.item() == pytest.approx(slow, abs=1e-4)


@pytest.mark.parametrize("classes", [(0, 0), (0, 1), (-1, 0), (-1, -1)], ids=str)
def test_without_positives_or_negatives_value_and_gradient_are_finite(classes):
    anchors = F.normalize(torch.randn(4, 8), dim=1).requires_grad_()
    keys = F.normalize(torch.randn(5, 8), dim=1)
    value = class_info_nce(anchors, torch.full((4,), classes[0]), keys, torch.full((5,), classes[1]))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6) and torch.isfinite(anchors.grad).all()


def test_the_loss_falls_as_classes_part():
    together = F.normalize(torch.ones(6, 4), dim=1)
    apart = F.one_hot(torch.tensor([0, 0, 0, 1, 1, 1]), 4).float()
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    assert class_info_nce(apart, classes, apart, classes) < 0.01 < class_info_nce(together, classes, together, classes)


def test_sampling_is_balanced_without_replacement_and_never_from_elsewhere():
    torch.manual_seed(0)
    labels = torch.tensor([0] * 500 + [1] * 20 + [255] * 100 + [-1] * 30)[torch.randperm(650)]
    index, classes = sample_per_class(labels, 3, 32)
    for k, available in ((0, 32), (1, 20), (2, 0)):
        chosen = index[classes == k]
        assert len(chosen) == available == len(chosen.unique())
        assert (labels[chosen] == k).all()


def test_sampling_follows_the_score():
    torch.manual_seed(0)
    score = torch.cat([torch.zeros(200), torch.full((200,), 3.0)])
    counts = sum(
        (sample_per_class(torch.zeros(400, dtype=torch.long), 1, 20, score)[0] >= 200).sum() for _ in range(50)
    )
    # odds e^3 : 1, with a little depletion
    assert 0.90 < counts / 1000 < 0.98


def test_lists_of_candidates_are_drawn_from_independently():
    torch.manual_seed(0)
    labels = torch.randint(-1, 3, (2, 5, 60))
    index, classes = sample_per_class(labels, 3, 8)
    assert index.shape == classes.shape == (2, 5, 24)
    found = labels.gather(-1, index)
    assert torch.equal(found[classes >= 0], classes[classes >= 0])
    for row, drawn, own in zip(labels.flatten(0, 1), index.flatten(0, 1), classes.flatten(0, 1)):
        assert [(own == k).sum() for k in range(3)] == [min(8, (row == k).sum()) for k in range(3)]
        assert len(drawn[own >= 0].unique()) == (own >= 0).sum()


def test_class_means_are_normalised_means():
    torch.manual_seed(0)
    embeddings, labels = torch.randn(50, 6), torch.randint(0, 2, (50,))
    means, counts = class_means(embeddings, labels, 3)
    for k in (0, 1):
        assert torch.allclose(means[k], F.normalize(embeddings[labels == k].mean(0), dim=0), atol=1e-6)
    assert counts.tolist() == [int((labels == 0).sum()), int((labels == 1).sum()), 0] and (means[2] == 0).all()
