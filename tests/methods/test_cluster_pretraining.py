# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pretraining by clustering: no label is used, everything but the head learns, another rule starts from it."""

from pathlib import Path

import pytest
import torch

from scripts.errors import InputError
from scripts.files import load_checkpoint
from scripts.handlers import Checkpoints
from scripts.methods import ClusterPretraining
from scripts.networks import LESSNet
from scripts.run.excepthook import chain
from tests.tiny import workflow


def losses_of(batch):
    torch.manual_seed(0)
    network = LESSNet(3, 2)
    rule = ClusterPretraining(network, clusters=8)
    network.train()
    torch.manual_seed(1)
    return network, rule, rule(network, batch, 0.5)


def batch(labelled=2, size=(48, 41)):
    torch.manual_seed(2)
    label = torch.randint(0, 2, (labelled, 1, *size))
    return {
        "labelled": {"image": torch.rand(labelled, 3, *size), "label": label},
        "unlabelled": {"image": torch.rand(3, 3, *size)},
    }


def test_every_loss_is_finite_and_trains_all_but_the_head():
    network, rule, losses = losses_of(batch())
    assert set(losses) == set(rule.losses)
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, network.encoder.parameters(), retain_graph=True, allow_unused=True)
        assert loss.isfinite() and any(g is not None and g.abs().sum() > 0 for g in gradients), name
    rule.total(losses, 0.5).backward()
    assert network.head.weight.grad is None and network.fusions[2].mix[0][0].weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in rule.heads.parameters())
    assert 1 <= rule.statistics["clusters"] <= 8 and 0 < rule.statistics["largest_cluster"] <= 1


def test_labels_change_nothing_and_are_not_needed():
    one, other = batch(), batch()
    other["labelled"]["label"] = 1 - other["labelled"]["label"]
    first, second = losses_of(one)[2], losses_of(other)[2]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses_of(batch(labelled=0))[2]["clustering"].isfinite()


def test_another_rule_starts_from_the_weights(tmp_path, synthetic_set):
    def train(name, *overlays, **values):
        files = ["train.json", *overlays]
        made = workflow(files, dataset_dir=str(synthetic_set), output_dir=str(tmp_path / name), **values)
        made.run()
        return load_checkpoint(tmp_path / name / "model.pt")

    train("pretrained", "methods/cluster_pretraining.yaml")
    weights = str(tmp_path / "pretrained" / "model.pt")
    started = train("started", initial_weights=weights, max_epochs=1, epoch_length=1, learning_rate=1e-9)
    expected = load_checkpoint(weights)
    Path(weights).unlink()  # the run goes on without them
    resumed = train("started", initial_weights=weights, max_epochs=1, epoch_length=1, learning_rate=1e-9, resume="true")
    assert all(torch.equal(resumed[key], started[key]) for key in started)
    kept = [key for key in expected if "running" not in key and "num_" not in key]
    assert all(torch.allclose(started[key], expected[key], atol=1e-6) for key in kept)
    fresh = train("fresh", max_epochs=1, epoch_length=1, learning_rate=1e-9)
    assert not all(torch.allclose(fresh[key], expected[key], atol=1e-6) for key in kept)


def test_it_is_saved_after_every_epoch_and_validated_once(tmp_path, synthetic_set, monkeypatch):
    saved, save = [], Checkpoints.save_latest
    monkeypatch.setattr(
        Checkpoints, "save_latest", lambda self, engine: saved.append(engine.state.epoch) or save(self, engine)
    )
    files = ["train.json", "methods/cluster_pretraining.yaml"]
    made = workflow(files, dataset_dir=str(synthetic_set), output_dir=str(tmp_path / "run"), epoch_length=1)
    made.run()
    history = made.parser.get_parsed_content("train#trainer").history
    assert saved == [1, 2] and ["val_mean_dice" in row for row in history] == [False, True]


def test_weights_that_are_not_there_are_refused(tmp_path, synthetic_set):
    made = workflow(dataset_dir=str(synthetic_set), output_dir=str(tmp_path / "x"), initial_weights="nowhere.pt")
    with pytest.raises(RuntimeError) as caught:
        made.run()
    (known,) = [e for e in chain(caught.value) if isinstance(e, InputError)]
    assert "nowhere.pt" in str(known)
