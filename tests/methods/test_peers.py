# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What each of the peers' rules says, one by one."""

import copy
import math

import pytest
import torch
import torch.nn as nn

from scripts.errors import InputError
from scripts.losses import IGNORE_INDEX, cross_entropy, pseudo_label_loss
from scripts.methods import (
    USTM,
    BidirectionalCopyPaste,
    CrossPseudoSupervision,
    FixMatch,
    MultiscaleContrast,
    UncertaintyAwareMeanTeacher,
    UniMatch,
)
from scripts.networks import UNet


def unet(**arguments):
    return UNet(3, 2, (4, 4, 8, 8, 8), **arguments)


def batch(size=32, labelled=2, unlabelled=3):
    label = torch.randint(0, 2, (labelled, 1, size, size))
    return {
        "labelled": {"image": torch.rand(labelled, 3, size, size), "label": label},
        "unlabelled": {"image": torch.rand(unlabelled, 3, size, size)},
    }


def answering(module, logits):
    """``module`` answers with given logits, whatever it is asked."""
    module.forward = lambda x, **_: logits[: len(x)]
    return module


class Pixelwise(nn.Conv2d):
    """A network without batch statistics, so that the images of a batch do not meet."""

    def __init__(self) -> None:
        super().__init__(3, 2, 1)

    def forward(self, x, feature_dropout=None):
        return super().forward(x)


def test_uncertainty_is_the_entropy_of_the_mean_answer():
    torch.manual_seed(0)
    rule = UncertaintyAwareMeanTeacher(nn.Conv2d(3, 2, 1), passes=3, noise=0.3)
    seen = []
    rule.teacher.forward = lambda x: seen.append(x) or rule.teacher.module(x)
    images = torch.rand(2, 3, 4, 4)
    target, uncertainty = rule.teach(images)
    answers = [rule.teacher.module(x).softmax(1) for x in seen]
    assert len(seen) == 4 and all(0 < (x - images).abs().max() <= 0.601 for x in seen)
    for b, x, y in [(0, 1, 2), (1, 3, 0)]:
        mean = [sum(a[b, k, x, y].item() for a in answers[1:]) / 3 for k in range(2)]
        assert uncertainty[b, 0, x, y].item() == pytest.approx(-sum(p * math.log(p) for p in mean), abs=1e-5)
    assert torch.allclose(target, answers[0])


def test_uncertain_pixels_teach_nothing_and_the_bound_rises_to_the_largest_entropy():
    torch.manual_seed(0)
    rule = UncertaintyAwareMeanTeacher(nn.Conv2d(3, 2, 1), passes=1)
    assert rule.threshold(0.0, 4) == pytest.approx((0.75 + 0.25 * math.exp(-5)) * math.log(4))
    assert rule.threshold(1.0, 4) == pytest.approx(math.log(4))
    logits = torch.zeros(3, 2, 32, 32)
    logits[:, 1, :16] = 4.0  # sure in one half, undecided in the other
    answering(rule.teacher, logits)
    student = torch.zeros(5, 2, 32, 32, requires_grad=True)
    losses = rule(lambda x: student, batch(), 0.0)
    gradient = torch.autograd.grad(losses["consistency"], student)[0][2:]
    assert gradient[:, :, 16:].abs().sum() == 0 and (gradient[:, :, :16] != 0).all()
    p = 1 / (1 + math.exp(-4.0))
    assert losses["consistency"].item() == pytest.approx((p - 0.5) ** 2, abs=1e-6)


def test_only_the_teachers_dropout_is_active_and_only_for_the_passes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))
    rule = UncertaintyAwareMeanTeacher(network, passes=2, noise=0.0)
    before = copy.deepcopy(rule.teacher.module.state_dict())
    seen = []
    rule.teacher.forward = lambda x: seen.append(rule.teacher.module(x)) or seen[-1]
    rule.teach(torch.rand(2, 3, 8, 8))
    assert not torch.equal(seen[0], seen[1])
    assert not rule.teacher.module[2].training
    assert all(torch.equal(v, before[k]) for k, v in rule.teacher.module.state_dict().items())


def test_each_of_two_networks_learns_from_the_other():
    torch.manual_seed(0)
    network, peer, data = Pixelwise(), Pixelwise(), batch()
    rule = CrossPseudoSupervision(network, peer)
    losses = rule(network, data, 0.5)
    images = torch.cat([data["labelled"]["image"], data["unlabelled"]["image"]])
    first, second = network(images), peer(images)
    expected = cross_entropy(first, second.argmax(1)) + cross_entropy(second, first.argmax(1))
    assert losses["cross"].item() == pytest.approx(expected.item(), abs=1e-6)
    labels = data["labelled"]["label"]
    assert losses["supervised"].item() == pytest.approx(
        (rule.loss(first[:2], labels) + rule.loss(second[:2], labels)).item(), abs=1e-6
    )
    for value in losses.values():
        gradients = torch.autograd.grad(value, [network.weight, peer.weight], retain_graph=True)
        assert all(g.abs().sum() > 0 for g in gradients)


def test_fixmatch_learns_from_the_students_sure_pixels_alone():
    torch.manual_seed(0)
    weak = torch.zeros(3, 2, 32, 32)
    weak[:, 1, :16] = 4.0
    strong = torch.zeros(5, 2, 32, 32, requires_grad=True)
    rule = FixMatch(nn.Conv2d(3, 2, 1), cutmix=0.0)
    losses = rule(lambda x: weak if len(x) == 3 else strong, batch(), 0.0)
    gradient = torch.autograd.grad(losses["consistency"], strong)[0][2:]
    assert gradient[:, :, 16:].abs().sum() == 0 and (gradient[:, 1, :16] < 0).all()
    assert rule.statistics["accepted"].item() == pytest.approx(0.5)


def test_fixmatch_may_let_the_teacher_label():
    torch.manual_seed(0)
    rule = FixMatch(nn.Conv2d(3, 2, 1), cutmix=0.0, threshold=0.0, teacher_labels="true")
    answering(rule.teacher, torch.tensor([0.0, 9.0]).view(1, 2, 1, 1).expand(3, 2, 32, 32))
    rule(lambda x: torch.zeros(len(x), 2, 32, 32, requires_grad=True), batch(), 0.0)
    assert rule.statistics["predicted_foreground"].item() == 1


def test_unimatch_perturbs_the_features_of_the_weak_view_only():
    torch.manual_seed(0)
    network, data, seen = Pixelwise(), batch(), []

    def spy(x, feature_dropout=None):
        seen.append((x, feature_dropout))
        return network(x)

    rule = UniMatch(network, threshold=0.6, cutmix=0.0, strong_view=nn.Threshold(0.5, 0.0))
    losses = rule(spy, data, 0.5)
    weak = data["unlabelled"]["image"]
    (first, no_dropout), (inputs, dropped) = seen
    assert torch.equal(first, weak) and no_dropout is None
    assert dropped.tolist() == [False] * 8 + [True] * 3 and torch.equal(inputs[8:], weak)
    assert torch.equal(inputs[2:5], rule.strong_view(weak)) and torch.equal(inputs[5:8], inputs[2:5])
    probabilities = network(weak).softmax(1)
    labels, accepted = probabilities.argmax(1, keepdim=True), (probabilities.amax(1, keepdim=True) >= 0.6).float()
    for key, x in (("strong", rule.strong_view(weak)), ("feature", weak)):
        expected = pseudo_label_loss(network(x), labels, accepted)
        assert losses[key].item() == pytest.approx(expected.item(), abs=1e-6)


def test_copy_paste_both_ways_with_the_label_of_each_pixels_source():
    torch.manual_seed(0)
    rule = BidirectionalCopyPaste(Pixelwise())
    images, unlabelled = torch.rand(2, 3, 30, 30), 2 + torch.rand(3, 3, 30, 30)
    labels, pseudo = torch.zeros(2, 1, 30, 30).long(), torch.ones(3, 1, 30, 30).long()
    mixed, labels, pseudo = rule.mix(images, labels, unlabelled, pseudo)
    from_labelled = mixed[:, :1] < 1.5
    assert mixed.shape == (6, 3, 30, 30)
    assert torch.equal(labels, torch.where(from_labelled, 0, IGNORE_INDEX))
    assert torch.equal(pseudo, torch.where(from_labelled, IGNORE_INDEX, 1))
    share = from_labelled.float().mean(dim=(1, 2, 3))
    assert torch.allclose(share, torch.tensor([5 / 9] * 3 + [4 / 9] * 3), atol=0.05)
    assert all(torch.isin(mixed[b][mixed[b] < 1.5], images[b % 2]).all() for b in range(6))


def test_copy_paste_starts_on_labelled_images_alone():
    torch.manual_seed(0)
    network, data, seen = Pixelwise(), batch(), []
    rule = BidirectionalCopyPaste(network)
    losses = rule(lambda x: seen.append(x) or network(x), data, 0.2)
    images = data["labelled"]["image"]
    assert set(losses) == {"supervised"} and torch.isin(seen[0], images).all() and not torch.equal(seen[0], images)
    assert set(rule(network, data, 0.25)) == {"supervised", "consistency"}


@pytest.mark.parametrize(
    "rule, name, value",
    [
        (BidirectionalCopyPaste, "pretrain", 25),
        (BidirectionalCopyPaste, "side", 66),
        (UncertaintyAwareMeanTeacher, "certain", 75),
        (UncertaintyAwareMeanTeacher, "passes", 0),
        (USTM, "certain", 75),
        (MultiscaleContrast, "confidence", 90),
        (MultiscaleContrast, "foreground", 30),
        (MultiscaleContrast, "background", -1),
    ],
)
def test_a_share_in_percent_is_refused_by_name(rule, name, value):
    """It would quietly leave out all unlabelled images, or no pixel at all."""
    second = {"peer": unet()} if rule is MultiscaleContrast else {}
    with pytest.raises(InputError, match=f"method#{name} is {value}: give "):
        rule(unet(), **second, **{name: value})
