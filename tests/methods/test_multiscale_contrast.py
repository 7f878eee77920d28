# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Multiscale contrast and cross-supervision: who sees what, who follows whom, and what the memory keeps."""

import pytest
import torch
import torch.nn as nn

from scripts.losses import IGNORE_INDEX, cross_entropy, patch_classes, patch_contrast, pixel_contrast, pool_patches
from scripts.methods import ClassMemory, MultiscaleContrast


class Pixelwise(nn.Module):
    """A network whose images and pixels do not meet; it remembers what it was asked."""

    feature_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.asked = nn.Conv2d(3, 2, 1), []

    def forward(self, x, return_features=False, feature_dropout=None):
        self.asked.append((x, feature_dropout))
        return (self.conv(x), x[..., ::4, ::4]) if return_features else self.conv(x)


def batch():
    torch.manual_seed(0)
    label = torch.zeros(2, 1, 32, 32, dtype=torch.long)
    label[..., 8:24, 8:20] = 1
    return {
        "labelled": {"image": torch.rand(2, 3, 32, 32), "label": label},
        "unlabelled": {"image": torch.rand(3, 3, 32, 32)},
    }


def made(**arguments):
    torch.manual_seed(0)
    network = Pixelwise()
    arguments = {"strong_view": nn.Threshold(0.5, 0.0), "dim": 8, "samples": 16, "memory": 8} | arguments
    return network, MultiscaleContrast(network, Pixelwise(), **arguments)


def test_each_network_follows_the_others_decision_on_the_clean_image():
    network, rule = made(patch=False, pixel=False)
    data = batch()
    losses = rule(network, data, 0.5)
    clean = data["unlabelled"]["image"]
    views, expected = (rule.strong_view(clean), clean), 0.0
    for me, other in ((network, rule.peer), (rule.peer, network)):
        target = other.conv(clean).argmax(1)
        expected += sum(cross_entropy(me.conv(view), target).item() / 2 for view in views)
    assert losses["cross"].item() == pytest.approx(expected, abs=1e-6)
    labels, strong = data["labelled"]["label"], rule.strong_view(data["labelled"]["image"])
    supervised = sum(rule.loss(each.conv(strong), labels).item() for each in (network, rule.peer))
    assert losses["supervised"].item() == pytest.approx(supervised, abs=1e-6)
    for value in losses.values():
        gradients = torch.autograd.grad(value, [network.conv.weight, rule.peer.conv.weight], retain_graph=True)
        assert all(g.abs().sum() > 0 for g in gradients)


def test_only_the_clean_unlabelled_view_has_perturbed_features():
    network, rule = made()
    data, drawn = batch(), set()
    for _ in range(20):
        network.asked.clear()
        rule(network, data, 0.5)
        (inputs, kinds), (clean, none) = network.asked
        assert none is None and torch.equal(clean, data["unlabelled"]["image"]) and torch.equal(inputs[5:], clean)
        assert kinds[:5].tolist() == [0] * 5
        drawn |= set(kinds[5:].tolist())
    assert drawn == {1, 2, 3}


def test_without_perturbation_the_clean_image_is_seen():
    network, rule = made(perturbation="false")
    data = batch()
    rule(network, data, 0.5)
    inputs, kinds = network.asked[0]
    assert kinds is None and torch.equal(inputs[2:], data["unlabelled"]["image"])


def test_supervised_alone_looks_at_no_unlabelled_image():
    network, rule = made(cross=False, patch=False, pixel=False)
    assert set(rule(network, batch(), 0.5)) == {"supervised"}
    assert [len(x) for x, _ in network.asked] == [2] and not rule.embed


@pytest.mark.parametrize("off", ["cross", "patch", "pixel"])
def test_every_part_can_be_left_out(off):
    network, rule = made(**{off: "false"})
    assert set(rule(network, batch(), 0.5)) == {"supervised", "cross", "patch", "pixel"} - {off}


def test_only_what_both_networks_are_sure_of_enters_the_contrast():
    network, rule = made(confidence=0.8)
    answers = torch.zeros(2, 1, 2, 2, 2)
    answers[0, 0, 1] = torch.tensor([[9.0, 9.0], [9.0, -9.0]])
    answers[1, 0, 1] = torch.tensor([[9.0, -9.0], [0.1, -9.0]])
    (first, second), sure = rule.decide([lambda x, a=a: a for a in answers], torch.rand(1, 3, 2, 2))
    assert first.flatten().tolist() == [1, 1, 1, 0] and second.flatten().tolist() == [1, 0, 1, 0]
    assert sure.flatten().tolist() == [1, IGNORE_INDEX, IGNORE_INDEX, 0]


def test_contrast_reaches_both_networks_embeddings_and_fills_their_memories():
    network, rule = made()
    losses = rule(network, batch(), 0.5)
    for name in ("patch", "pixel"):
        for head in rule.embed:
            gradient = torch.autograd.grad(losses[name], head[0].weight, retain_graph=True)[0]
            assert losses[name].item() > 0 and gradient.abs().sum() > 0
    assert all(memory.filled[0].any() and memory.filled[1].any() for memory in rule.memories)
    assert not torch.equal(rule.memories[0].embeddings, rule.memories[1].embeddings)


def test_contrast_is_of_each_network_with_the_other_and_the_others_memory(monkeypatch):
    network, rule = made(temperature=0.3, confidence=0.5, samples=10_000)
    data = batch()
    rule(network, data, 0.5)  # fills the memories
    kept = [tuple(part.clone() for part in memory.keys()) for memory in rule.memories]
    assert not torch.equal(kept[0][0], kept[1][0])
    seen = []
    look = rule.look
    monkeypatch.setattr(rule, "look", lambda *given: seen.append(look(*given)) or seen[-1])
    torch.manual_seed(4)
    losses = rule(network, data, 0.5)
    _, sure = rule.decide((network, rule.peer), data["unlabelled"]["image"])
    labels = torch.cat([data["labelled"]["label"], sure])
    assert (sure != IGNORE_INDEX).any()
    first, second = (head(features[:5]) for head, (_, features) in zip(rule.embed, seen))
    classes = patch_classes(labels, 4, 2, 0.3, 0.02).flatten()
    one, other = (pool_patches(each, 4) for each in (first, second))
    expected = (
        patch_contrast(one, other, classes, *kept[1], 0.3) + patch_contrast(other, one, classes, *kept[0], 0.3)
    ) / 2
    assert losses["patch"].item() == pytest.approx(expected.item(), abs=1e-6)
    expected = pixel_contrast(first, second, labels, 2, 10_000, 0.3)  # every pixel is drawn, in whatever order
    assert losses["pixel"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_memory_keeps_the_latest_of_every_class():
    torch.manual_seed(0)
    memory, lists = ClassMemory(3, size=4, dim=2), [[], [], []]
    assert memory.keys()[1].tolist() == [-1] * 12
    for _ in range(6):
        embeddings, classes = torch.randn(5, 2), torch.randint(-1, 2, (5,))
        memory.push(embeddings, classes)
        for k in range(3):
            lists[k] = [e.tolist() for e, c in zip(embeddings, classes) if c == k] + lists[k]
        for k in range(3):
            kept = memory.embeddings[k][memory.filled[k]].tolist()
            assert kept == lists[k][:4]
    assert memory.keys()[1].tolist() == [0] * 4 + [1] * 4 + [-1] * 4
