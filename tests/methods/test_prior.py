# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The class prior: running frequencies, alignment, and distrust of empty answers."""

import pytest
import torch

from scripts.losses import IGNORE_INDEX
from scripts.methods import ClassPrior


def test_first_batches_are_exact_means_and_ignored_pixels_do_not_count():
    torch.manual_seed(0)
    prior = ClassPrior(3, momentum=0.01)
    shares, present = [], []
    for _ in range(10):
        labels = torch.randint(0, 3, (4, 1, 6, 6))
        labels[0] = 0  # one image without foreground
        labels[torch.rand(labels.shape) < 0.2] = IGNORE_INDEX
        prior.observe(labels, torch.full((2, 3, 6, 6), 1 / 3))
        shares.append([(labels == k).sum().item() / (labels != IGNORE_INDEX).sum().item() for k in range(3)])
        present.append([sum((labels[b] == k).any().item() for b in range(4)) / 4 for k in range(3)])
    assert torch.allclose(prior.pixels, torch.tensor(shares).mean(0), atol=1e-5)
    assert torch.allclose(prior.images, torch.tensor(present).mean(0), atol=1e-5)
    assert torch.allclose(prior.predicted, torch.full((3,), 1 / 3), atol=1e-5)


def test_alignment_gives_the_labelled_frequencies_within_the_limit():
    prior = ClassPrior(2, limit=3.0)
    labels = torch.zeros(1, 1, 10, 10, dtype=torch.long)
    labels[..., :2] = 1  # 20 % lesion
    probabilities = torch.stack([torch.full((1, 10, 10), 0.9), torch.full((1, 10, 10), 0.1)], dim=1)
    prior.observe(labels, probabilities)
    aligned = prior.align(probabilities)
    factors = 0.2 / 0.1, 0.8 / 0.9
    expected = 0.1 * factors[0] / (0.1 * factors[0] + 0.9 * factors[1])
    assert aligned[0, 1].mean().item() == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(aligned.sum(1), torch.ones(1, 10, 10))
    prior.predicted.copy_(torch.tensor([0.999, 0.001]))
    limited = 0.1 * 3 / (0.1 * 3 + 0.9 * 0.8 / 0.999)
    assert prior.align(probabilities)[0, 1].mean().item() == pytest.approx(limited, abs=1e-5)


def test_an_empty_answer_is_trusted_as_much_as_empty_labels_are_common():
    prior = ClassPrior(3)
    prior.images.copy_(torch.tensor([1.0, 0.9, 0.25]))
    pseudo = torch.zeros(4, 1, 4, 4, dtype=torch.long)
    pseudo[1, 0, 0, 0], pseudo[2, 0, 0, 0] = 1, 2
    pseudo[3, 0, 0, :2] = torch.tensor([1, 2])
    assert prior.trust(pseudo).flatten().tolist() == pytest.approx([0.1, 0.75, 0.1, 1.0])


def test_labels_that_are_ignored_all_over_say_nothing():
    prior, labels = ClassPrior(2), torch.zeros(2, 1, 4, 4, dtype=torch.long)
    labels[..., 0] = 1
    unknown, probabilities = torch.full_like(labels, IGNORE_INDEX), torch.full((1, 2, 4, 4), 0.5)
    for seen in (labels, unknown, labels, unknown):
        prior.observe(seen, probabilities)
    assert prior.pixels.tolist() == [0.75, 0.25] and prior.images.tolist() == [1.0, 1.0]
