# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Perturbations of feature maps: what each kind changes, and that every image has its own."""

import torch

from scripts.networks.perturbation import attention_factor, channel_factor, noise_factor, perturb


def test_whole_channels_are_dropped_and_the_rest_is_scaled():
    torch.manual_seed(0)
    dropped = channel_factor(torch.ones(4, 200, 3, 3))
    assert set(dropped.unique().tolist()) == {0.0, 2.0} and dropped.shape == (4, 200, 1, 1)
    assert 0.4 < (dropped == 0).float().mean() < 0.6


def test_noise_is_relative_and_bounded():
    torch.manual_seed(0)
    features = torch.randn(2, 8, 20, 20)
    ratio = perturb(features, torch.tensor([2, 2])) / features
    assert torch.allclose(ratio[0], ratio[1]) and noise_factor(features).shape == (1, 8, 20, 20)
    assert 0.699 < ratio.min() < 0.71 and 1.29 < ratio.max() < 1.301


def test_the_most_attended_positions_are_dropped():
    torch.manual_seed(0)
    features = torch.rand(3, 5, 16, 16) - 0.5
    dropped = features * attention_factor(features)
    attention = features.mean(1)
    gone = (dropped == 0).all(1)
    for image in range(3):
        low, high = attention[image].min(), attention[image].max()
        bound = attention[image][gone[image]].min()
        assert 0.7 <= (bound - low) / (high - low) and attention[image][~gone[image]].max() < bound
        assert (attention[image] > low + 0.9 * (high - low)).sum() <= gone[image].sum() < 256
    assert torch.equal(torch.where(gone.unsqueeze(1), 0, features), dropped)


def test_every_image_gets_the_kind_it_asks_for():
    torch.manual_seed(0)
    features = torch.rand(4, 30, 8, 8) + 0.1
    plain, dropped, noisy, attended = perturb(features, torch.arange(4))
    assert torch.equal(plain, features[0])
    assert 5 < (dropped == 0).all(2).all(1).sum() < 25
    assert (noisy != features[2]).all() and (noisy > 0).all()
    gone = (attended == 0).all(0)
    assert 0 < gone.sum() < 32 and torch.equal(attended[:, ~gone], features[3][:, ~gone])


def test_a_boolean_mask_means_dropped_channels():
    features, mask = torch.rand(3, 6, 4, 4), torch.tensor([True, False, True])
    torch.manual_seed(1)
    first = perturb(features, mask)
    torch.manual_seed(1)
    assert torch.equal(first, perturb(features, mask.long())) and torch.equal(first[1], features[1])
