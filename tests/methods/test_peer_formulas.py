# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Formulas of the peers against plain versions that replay the same draws."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scripts.losses import (
    class_info_nce,
    cross_entropy,
    entropy,
    gate,
    soft_dice_loss,
    weighted_cross_entropy,
    weighted_dice_loss,
)
from scripts.methods import (
    USTM,
    BidirectionalCopyPaste,
    CriiNet,
    EntropyMinimisation,
    FixMatch,
    MeanTeacher,
    SimilarityContrast,
    UniMatch,
    similarity,
)
from scripts.networks import CoarseRefined
from tests.methods.test_peers import Pixelwise, batch, unet


class Noise(nn.Module):
    """A strong view that is another one at every call."""

    def forward(self, image):
        return image + torch.rand_like(image)


def test_mean_teacher_follows_the_teacher_on_another_strong_view():
    torch.manual_seed(0)
    network, data = Pixelwise(), batch()
    rule, seen = MeanTeacher(network, strong_view=Noise()), []
    with torch.no_grad():
        rule.teacher.module.weight.add_(0.5)
    for one in (rule.teacher.module, network):
        one.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    losses = rule(network, data, 0.5)
    taught, own = seen
    assert not torch.equal(taught, own[2:])
    expected = F.mse_loss(network(own[2:]).softmax(1), rule.teacher.module(taught).softmax(1))
    assert losses["consistency"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert losses["supervised"].item() == pytest.approx(rule.loss(network(own[:2]), data["labelled"]["label"]).item())


def test_copy_paste_is_supervised_on_labelled_pixels_and_follows_the_teacher_on_the_others():
    torch.manual_seed(0)
    network, data = Pixelwise(), batch()
    rule = BidirectionalCopyPaste(network)
    with torch.no_grad():
        rule.teacher.module.weight.mul_(-1)
    torch.manual_seed(3)
    losses = rule(network, data, 0.5)
    torch.manual_seed(3)
    pseudo = rule.teacher(data["unlabelled"]["image"]).argmax(1, keepdim=True)
    mixed, labels, pseudo = rule.mix(*data["labelled"].values(), data["unlabelled"]["image"], pseudo)
    answers = network(mixed)
    assert losses["supervised"].item() == pytest.approx(rule.loss(answers, labels).item(), abs=1e-6)
    over_the_batch = cross_entropy(answers, pseudo) + soft_dice_loss(answers, pseudo)
    assert losses["consistency"].item() == pytest.approx(over_the_batch.item(), abs=1e-6)


@pytest.mark.parametrize("rule, streams", [(FixMatch, 1), (UniMatch, 2)])
def test_cutmix_pastes_into_every_strong_stream_apart(rule, streams):
    torch.manual_seed(0)
    data, plain = batch(), []
    for share in (0.0, 1.0):
        network = Pixelwise()
        made, seen = rule(network, cutmix=share, threshold=0.0), []
        network.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        made(network, data, 0.5)
        views = seen[-1][2 : 2 + 3 * streams].split(3)
        assert all(torch.equal(view, data["unlabelled"]["image"]) == (share == 0) for view in views)
        plain.append(views)
    assert streams == 1 or not torch.equal(*plain[1])


@pytest.mark.parametrize("rule, streams", [(FixMatch, 1), (UniMatch, 3)])
def test_cutmix_carries_decision_and_acceptance_with_each_streams_image(monkeypatch, rule, streams):
    torch.manual_seed(0)
    network, given, data = Pixelwise(), [], batch(unlabelled=2)
    with torch.no_grad():  # sure of class 1 where the image is white, undecided where it is black
        network.weight.zero_()[1, 0], network.bias[:] = 10.0, 0.0
    monkeypatch.setattr(f"{rule.__module__}.pseudo_label_loss", lambda *a: given.append(a) or a[0].sum())
    data["unlabelled"]["image"] = torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)])
    rule(network, cutmix=1.0)(network, data, 0.5)
    assert len(given) == streams
    for logits, labels, accepted, _ in given:
        white = logits[:, 1:] > 5
        assert torch.equal(labels == 1, white) and torch.equal(accepted.bool(), white)
    assert all(0 < (logits[0, 1] > 5).float().mean() < 1 for logits, *_ in given[:2])


@pytest.mark.parametrize("dice", [0.0, 0.7])
def test_fixmatch_follows_its_own_sure_decisions_by_cross_entropy_and_a_share_of_dice(dice):
    torch.manual_seed(0)
    network, data = Pixelwise(), batch()
    rule = FixMatch(network, threshold=0.6, cutmix=0.0, dice=dice)
    images = data["unlabelled"]["image"]
    labels, accepted = gate(network(images).softmax(1), 0.6)
    assert 0 < accepted.mean() < 1
    target = F.one_hot(labels[:, 0], 2).movedim(-1, 1).float()
    logits = network(images)
    expected = weighted_cross_entropy(logits, target, accepted) + dice * weighted_dice_loss(logits, target, accepted)
    assert rule(network, data, 0.5)["consistency"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_ustms_teacher_sees_every_turn():
    torch.manual_seed(0)
    network, image = nn.Conv2d(1, 2, 1), torch.rand(1, 1, 8, 6)
    rule, seen = USTM(network, passes=1, noise=0.0), []
    rule.teacher.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    data = {"labelled": {"image": image, "label": torch.zeros(1, 1, 8, 6, dtype=torch.long)}}
    for _ in range(40):
        rule(network, data, 0.5)
    turns = {n for n in range(4) for x in seen if torch.equal(x, torch.rot90(image, n, (2, 3)))}
    assert turns == {0, 1, 2, 3}


def test_both_heads_of_crii_net_are_supervised():
    torch.manual_seed(0)
    network, data = CoarseRefined(unet(), 3, 2, width=8).train(), batch()
    rule = CriiNet(network, consistency=False, intra=False, inter=False)
    losses = rule(network, data, 0.5)
    refined, coarse, _ = network(data["labelled"]["image"], return_heads=True)
    expected = sum(rule.loss(head, data["labelled"]["label"]).item() for head in (refined, coarse)) / 2
    assert losses["supervised"].item() == pytest.approx(expected, abs=1e-5)


def test_the_ranked_losses_get_their_settings_and_the_margin(monkeypatch):
    given, sizes = [], []
    for name in ("intra_patch_loss", "inter_patch_loss"):
        monkeypatch.setattr(
            f"scripts.methods.crii_net.{name}",
            lambda *a, **more: sizes.append(a[-3:]) or given.append(more) or torch.zeros(()),
        )
    network = CoarseRefined(unet(), 3, 2, width=8)
    CriiNet(network, margin=0.6, patch=16, band=3, samples=7)(network, batch(), 0.5)
    assert [(one["margin"], one["outer"]) for one in given] == [(0.6, 1.3)] * 2
    assert sizes[0] == (16, 3, 7) and sizes[1][1:] == (2, 16)  # classes, patch


def test_the_entropy_is_the_mean_over_all_pixels():
    torch.manual_seed(0)
    network, data = Pixelwise(), batch()
    images = torch.cat([data["labelled"]["image"], data["unlabelled"]["image"]])
    found = EntropyMinimisation(network)(network, data, 0.5)["entropy"]
    assert found.item() == pytest.approx(entropy(network(images).softmax(1)).mean().item(), abs=1e-6)


def test_contrast_of_all_pixels_is_the_info_nce_with_the_prototypes_as_keys(monkeypatch):
    torch.manual_seed(0)
    contrast, scores = SimilarityContrast(4, 2, dim=4, samples=100, reject_noise=False, hardness=1.5), []
    contrast.projection = nn.Identity()
    draw = similarity.sample_per_class
    monkeypatch.setattr(similarity, "sample_per_class", lambda *a: scores.append(a[3]) or draw(*a))
    features, labels = F.normalize(torch.randn(2, 4, 6, 6), dim=1), torch.randint(0, 2, (2, 1, 6, 6))
    value = contrast(features, labels, 1)
    flat, classes = features.movedim(1, -1).flatten(0, 2), labels.flatten()
    own = (flat * contrast.prototypes[classes]).sum(1)
    assert torch.allclose(scores[0], -1.5 * own, atol=1e-6)  # the least similar are drawn first
    keys, kinds = torch.cat([flat, contrast.prototypes]), torch.cat([classes, torch.arange(2)])
    same = F.pad(torch.eye(72, dtype=torch.bool), (0, 2))
    assert value.item() == pytest.approx(class_info_nce(flat, classes, keys, kinds, 0.1, same).item(), abs=1e-5)
