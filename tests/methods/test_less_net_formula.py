# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""All three losses of the LESS-Net rule against a plain version, and what each switch takes out."""

import copy

import pytest
import torch
from torch import nn

from scripts.errors import InputError
from scripts.losses import IGNORE_INDEX, weighted_cross_entropy, weighted_dice_loss
from scripts.methods import LessNet, SimilarityContrast
from tests.methods.test_multiscale_contrast import Pixelwise
from tests.methods.test_rules import batch
from tests.methods.test_views_of_rules import Brighter


def whole(**changes):
    """The rule with all its parts, those that are off by default too."""
    torch.manual_seed(0)
    network = Pixelwise()
    nn.init.normal_(network.conv.weight, std=3.0)
    settings = {
        "threshold": 0.9,
        "dice": 0.5,
        "cutmix": 1.0,
        "feature_perturbation": 1.0,
        "adaptive": True,
        "trust": True,
    }
    settings |= {"contrast": SimilarityContrast(3, dim=4, samples=16), "strong_view": Brighter()}
    rule = LessNet(network, **settings | changes)
    return network, rule, copy.deepcopy(rule)


@pytest.mark.parametrize("batch_dice", [True, "false"])
def test_the_losses_are_those_of_mixed_strong_views_against_the_teachers_accepted_pixels(batch_dice):
    network, rule, twin = whole(batch_dice=batch_dice)
    data = batch(size=(32, 32))
    images, labels, unlabelled = data["labelled"]["image"], data["labelled"]["label"], data["unlabelled"]["image"]
    torch.manual_seed(7)
    losses = rule(network, data, 0.5)
    ((inputs, perturbed),) = network.asked
    torch.manual_seed(7)  # the same draws again, step by step
    target, weight = twin.pseudo_label(unlabelled, labels)
    mixed, target, weight = twin.mix(images, labels, unlabelled, target, weight)
    torch.rand(5)
    assert 0 < (weight > 0).float().mean() < 1 and not torch.equal(mixed, unlabelled)
    assert torch.equal(inputs, torch.cat([images, mixed]) + 10)
    assert perturbed.tolist() == [False, False, True, True, True]
    answers = network.conv(inputs)
    assert losses["supervised"].item() == pytest.approx(rule.loss(answers[:2], labels).item(), abs=1e-6)
    expected = weighted_cross_entropy(answers[2:], target, weight) + 0.5 * weighted_dice_loss(
        answers[2:], target, weight, batch=batch_dice is True
    )
    assert losses["consistency"].item() == pytest.approx(expected.item(), abs=1e-6)
    pseudo = torch.where(weight > 0.5, target.argmax(1, keepdim=True), IGNORE_INDEX)
    expected = twin.contrast(inputs[..., ::4, ::4], torch.cat([labels, pseudo]), 2)
    assert losses["contrast"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_what_is_switched_off_is_out_of_the_computation():
    data = batch(size=(32, 32))
    images, labels, unlabelled = data["labelled"]["image"], data["labelled"]["label"], data["unlabelled"]["image"]
    _, rule, _ = whole(align=False, soft=True)
    assert torch.equal(rule.pseudo_label(unlabelled, labels)[0], rule.teach(unlabelled))
    _, rule, _ = whole(align=True, soft=True)
    assert not torch.allclose(rule.pseudo_label(unlabelled, labels)[0], rule.teach(unlabelled), atol=1e-3)
    _, rule, _ = whole(trust=False)
    rule.prior.images.fill_(1.0)
    assert set(rule.pseudo_label(unlabelled, labels)[1].unique().tolist()) <= {0.0, 1.0}
    target, weight = torch.rand(3, 2, 32, 32), torch.rand(3, 1, 32, 32)
    _, rule, _ = whole(cutmix=0.0)
    found = rule.mix(images, labels, unlabelled, target, weight)
    assert all(torch.equal(a, b) for a, b in zip(found, (unlabelled, target, weight)))
    for share, present in ((0.0, False), (1.0, True)):
        _, rule, _ = whole(mix_labelled=share)
        mixed, _, _ = rule.mix(images + 5, labels, unlabelled, target, weight)
        assert (mixed > 5).any().item() == present
    network, rule, _ = whole(feature_perturbation=0.0)
    rule(network, data, 0.5)
    assert network.asked[0][1] is None
    network, rule, _ = whole(contrast=None, dice=0.0, cutmix=0.0)
    assert set(rule(network, data, 0.5)) == {"supervised", "consistency"}


def test_an_empty_answer_that_is_hardly_trusted_stays_out_of_the_contrast(monkeypatch):
    network, rule, _ = whole(adaptive=False, align=False, cutmix=0.0)
    data, given = batch(size=(32, 32), labelled=4, unlabelled=2), []
    data["labelled"]["label"].zero_()[1:, :, 8:] = 1  # one labelled image of four is empty
    lesion = torch.full((2, 1, 32, 32), 0.01)
    lesion[1, :, 8:16] = 0.99  # the teacher finds one in the second image only
    monkeypatch.setattr(rule, "teach", lambda _: torch.cat([1 - lesion, lesion], 1))
    monkeypatch.setattr(rule.contrast, "forward", lambda f, labels, _: given.append(labels[4:]) or f.sum())
    rule(network, data, 0.5)
    assert rule.statistics["trusted_images"].item() == pytest.approx((0.25 + 1) / 2)
    assert (given[0][0] == IGNORE_INDEX).all() and torch.equal(given[0][1:] == 1, lesion[1:] > 0.5)


@pytest.mark.parametrize("name, value", [("flips", 4), ("flips", 1.5), ("threshold", 90), ("mix_labelled", -1)])
def test_settings_out_of_their_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"method#{name} is {value}"):
        LessNet(Pixelwise(), **{name: value})


def test_thresholds_follow_the_running_confidence_of_each_class():
    _, rule, _ = whole(threshold=0.8)
    usual = [0.5, 0.5]
    for confidences in ([0.99, 0.6], [0.95, 0.7], [0.9, None]):  # the last batch has no foreground: it keeps its value
        classes = torch.zeros(2, 1, 4, 4, dtype=torch.long)
        if confidences[1] is not None:
            classes[..., :2] = 1
        confidence = torch.tensor([each or 0.0 for each in confidences])[classes]
        found = rule.class_thresholds(confidence, nn.functional.one_hot(classes[:, 0], 2).movedim(-1, 1).float())
        usual = [old if new is None else 0.99 * old + 0.01 * new for old, new in zip(usual, confidences)]
        assert found.tolist() == pytest.approx([0.8 * each / max(usual) for each in usual], abs=1e-6)
    _, rule, _ = whole(threshold=0.8, adaptive=False)
    assert rule.class_thresholds(confidence, confidence).tolist() == pytest.approx([0.8, 0.8])


def test_prototypes_follow_the_labelled_pixels_alone():
    torch.manual_seed(0)
    contrast = SimilarityContrast(4, 2, dim=4, samples=8, momentum=0.25)
    contrast.projection = nn.Identity()
    features = nn.functional.normalize(torch.randn(3, 4, 6, 6), dim=1)
    labels = torch.randint(0, 2, (3, 1, 6, 6))

    def mean(k):
        own = features[:1].movedim(1, -1).flatten(0, 2)[labels[:1].flatten() == k]
        return nn.functional.normalize(own.mean(0), dim=0)

    contrast(features, labels, 1)
    first = torch.stack([mean(0), mean(1)])
    assert torch.allclose(contrast.prototypes, first, atol=1e-6)
    features = nn.functional.normalize(torch.randn(3, 4, 6, 6), dim=1)
    contrast(features, labels, 1)
    moved = nn.functional.normalize(0.75 * first + 0.25 * torch.stack([mean(0), mean(1)]), dim=1)
    assert torch.allclose(contrast.prototypes, moved, atol=1e-6)
