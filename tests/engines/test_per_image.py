# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The per-image trainer: its stop rule, its steps, and what it keeps when all pixels fall into one cluster."""

import pytest
import torch
import torch.nn as nn

from scripts.engines import PerImageTrainer
from scripts.engines.per_image import by_size


class Scripted(nn.Module):
    """Answers with a given map of clusters at each call, and the last of them from then on."""

    def __init__(self, *maps):
        super().__init__()
        self.maps, self.calls, self.weight, self.modes = maps, 0, nn.Parameter(torch.zeros(())), set()

    def forward(self, image):
        labels = torch.tensor(self.maps[min(self.calls, len(self.maps) - 1)])
        self.calls += 1
        self.modes.add(self.training)
        logits = nn.functional.one_hot(labels, 6).movedim(-1, 0).unsqueeze(0).float()
        return logits + 0 * self.weight, None


def objective(network, image):
    logits, _ = network(image)
    return logits, {"loss": (network.weight - 1) ** 2}, {"seen": torch.tensor(5.0)}


MANY, THREE, TWO, ONE = [[0, 1], [2, 3]], [[0, 1], [2, 2]], [[4, 1], [4, 4]], [[3, 3], [3, 3]]
IMAGE = torch.zeros(1, 3, 2, 2)


def test_the_stop_rule_waits_for_the_sixth_iteration():
    early = PerImageTrainer().fit(Scripted(TWO), objective, IMAGE)
    assert early.iterations == 6 and early.clusters == 2 and not early.collapsed
    assert PerImageTrainer().fit(Scripted(*[MANY] * 9, THREE), objective, IMAGE).iterations == 10
    assert PerImageTrainer(max_iterations=7).fit(Scripted(MANY), objective, IMAGE).iterations == 7


def test_a_single_cluster_gives_the_last_map_that_had_two():
    fit = PerImageTrainer().fit(Scripted(MANY, THREE, TWO, ONE), objective, IMAGE)
    assert fit.collapsed and fit.clusters == 2 and fit.labels.tolist() == [[0, 1], [0, 0]]
    flat = PerImageTrainer().fit(Scripted(ONE), objective, IMAGE)
    assert flat.collapsed and flat.clusters == 1 and (flat.labels == 0).all()


def test_the_labels_are_those_of_one_more_forward_pass_in_training_mode():
    network = Scripted(*[TWO] * 6, THREE)
    fit = PerImageTrainer().fit(network, objective, IMAGE)
    assert fit.iterations == 6 and fit.clusters == 3 and not fit.collapsed
    assert network.calls == 7 and network.modes == {True}


def test_the_steps_are_those_of_sgd_with_momentum():
    network = Scripted(TWO)
    fit = PerImageTrainer(learning_rate=0.1, momentum=0.9).fit(network, objective, IMAGE)
    weight, velocity = 0.0, 0.0
    for row in fit.history:
        assert row["loss"] == pytest.approx((weight - 1) ** 2, abs=1e-5) and row["seen"] == 5 and row["clusters"] == 2
        velocity = 0.9 * velocity + 2 * (weight - 1)
        weight -= 0.1 * velocity
    assert network.weight.item() == pytest.approx(weight, abs=1e-5)


def test_a_loss_that_is_not_finite_ends_the_training_with_what_there_is():
    def broken(network, image):
        logits, losses, values = objective(network, image)
        return logits, {"loss": losses["loss"] * (float("nan") if network.calls > 3 else 1)}, values

    network = Scripted(TWO)
    fit = PerImageTrainer().fit(network, broken, IMAGE)
    assert fit.iterations == 3 and fit.clusters == 2 and network.weight.isfinite()


def test_clusters_are_numbered_by_size():
    labels = torch.tensor([[7, 7, 2], [7, 5, 2]])
    assert by_size(labels).tolist() == [[0, 0, 1], [0, 2, 1]]
