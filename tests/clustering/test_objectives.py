# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the released objective does and does not do, and what the intended one adds."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from scripts.clustering import FeatureClusteringObjective, IntendedObjective, ReleasedObjective
from scripts.errors import InputError
from scripts.losses import edge_difference, neighbour_difference
from scripts.networks.s3net import PlainClusterNet, S3Net


@pytest.fixture
def image():
    torch.manual_seed(0)
    return torch.rand(1, 3, 16, 16)


def gradients(objective, image, seed=3):
    torch.manual_seed(seed)
    network = S3Net(3, 8, 1, (16, 16))
    _, losses, values = objective(network, image)
    torch.stack(list(losses.values())).sum().backward()
    return [p.grad for p in network.parameters()], losses, values


def test_the_released_gradient_does_not_depend_on_the_spatial_weight(image):
    first, losses, values = gradients(ReleasedObjective(spatial=4.0), image)
    second, _, other = gradients(ReleasedObjective(spatial=400.0), image)
    assert set(losses) == {"clustering", "affine"} and not values["spatial"].requires_grad
    assert other["spatial"].item() == pytest.approx(100 * values["spatial"].item(), rel=1e-4)
    assert values["spatial"].item() > 0 and all(torch.equal(a, b) for a, b in zip(first, second))
    changed, _, _ = gradients(ReleasedObjective(clustering=7.0), image)
    assert not all(torch.equal(a, b) for a, b in zip(first, changed))


def test_turning_both_answers_changes_nothing_in_the_released_affine_term(image):
    network = S3Net(3, 8, 1, (16, 16))
    logits, losses, _ = ReleasedObjective()(network, image)
    main, auxiliary = network(image)
    plain = F.cross_entropy(auxiliary, main.argmax(dim=1))
    assert losses["affine"].item() == pytest.approx(0.2 * plain.item(), abs=1e-6)
    for turns in (1, 2, 3):
        turned = F.cross_entropy(torch.rot90(auxiliary, turns, (2, 3)), torch.rot90(main, turns, (2, 3)).argmax(1))
        assert turned.item() == pytest.approx(plain.item(), abs=1e-6)


def test_the_clustering_term_equals_the_plain_python_version(image):
    network = S3Net(3, 4, 1, (16, 16))
    logits, losses, _ = ReleasedObjective()(network, image)
    total = 0.0
    for x in range(16):
        for y in range(16):
            e = [math.exp(v) for v in logits[0, :, x, y].tolist()]
            total -= math.log(max(e) / sum(e))
    assert losses["clustering"].item() == pytest.approx(3.5 * total / 256, abs=1e-4)


def test_the_intended_spatial_loss_has_a_gradient_and_its_definition(image):
    network = S3Net(3, 8, 1)
    for smooth, expected in (("edges", lambda z: edge_difference(z.softmax(1))), ("neighbours", neighbour_difference)):
        logits, losses, _ = IntendedObjective(spatial=2.0, smooth=smooth)(network, image)
        assert losses["spatial"].item() == pytest.approx(2 * expected(logits).item(), abs=1e-5)
        gradient = torch.autograd.grad(losses["spatial"], network.main[2].weight)[0]
        assert gradient.abs().sum() > 0
    with pytest.raises(InputError, match="objective#smooth is 'edge': give edges or neighbours"):
        IntendedObjective(smooth="edge")


def test_the_intended_affine_term_compares_the_moved_image_with_the_moved_labels(image):
    torch.manual_seed(0)
    network = S3Net(3, 8, 1)

    def turn(x, labels):
        labels = torch.rot90(labels, 1, (2, 3)).clone()
        labels[:, :, :3] = 255  # past the frame
        return torch.rot90(x, 1, (2, 3)), labels

    _, losses, _ = IntendedObjective(view=turn)(network, image)
    labels = torch.rot90(network(image)[0].argmax(1), 1, (1, 2))[:, 3:]
    auxiliary = network(torch.rot90(image, 1, (2, 3)))[1][:, :, 3:]
    assert losses["affine"].item() == pytest.approx(0.2 * F.cross_entropy(auxiliary, labels).item(), abs=1e-5)


def test_the_default_view_leaves_some_pixels_out_and_stays_finite(image):
    torch.manual_seed(0)
    network, objective = S3Net(3, 8, 1), IntendedObjective()
    _, moved = objective.view(image, torch.zeros(1, 1, 16, 16, dtype=torch.long))
    assert set(moved.unique().tolist()) == {0, 255}
    assert all(value.isfinite() for value in objective(network, image)[1].values())


def test_feature_clustering_terms(image):
    network = PlainClusterNet(3, 8)
    twin = copy.deepcopy(network)
    logits, losses, _ = FeatureClusteringObjective(similarity=2.0, continuity=3.0)(network, image)
    z = twin(image)
    assert losses["similarity"].item() == pytest.approx(2 * F.cross_entropy(z, z.argmax(1)).item(), abs=1e-5)
    along = (z[:, :, 1:] - z[:, :, :-1]).abs().mean() + (z[..., 1:] - z[..., :-1]).abs().mean()
    assert losses["continuity"].item() == pytest.approx(3 * along.item(), abs=1e-5)
