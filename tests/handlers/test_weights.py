# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Weights that do not fit are refused with one sentence that says what differs."""

import json
import shlex

import pytest
import torch
from torch import nn

from scripts.errors import InputError
from scripts.handlers.weights import StrictCheckpointLoader, patterns_of
from scripts.networks import LESSNet


def a_network(classes=2, channels=3, width=4):
    return nn.Sequential(nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, classes, 1))


def saved(path, content):
    torch.save(content, path)
    return str(path)


def test_weights_are_loaded(tmp_path):
    source, target = a_network(), a_network()
    StrictCheckpointLoader(saved(tmp_path / "model.pt", source.state_dict()), target)()
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))


@pytest.mark.parametrize(
    "network, message",
    [
        (a_network(classes=4), "has 4 classes, the network 2: pass --num_classes 4, or weights for 2"),
        (a_network(channels=1), "has 1 input channels, the network 3: pass --in_channels 1, or weights for 3"),
        (a_network(width=5), r"'0.weight' is \[5, 3, 3, 3\] in the file and \[4, 3, 3, 3\].*network_def"),
        (nn.Conv2d(3, 2, 1), r"lacks '0.weight' \(9 missing, 2 unknown\).*network_def"),
        (nn.Sequential(*a_network(), nn.Conv2d(2, 2, 1)), "has the unknown entry '3.weight'"),
    ],
)
def test_other_networks_are_refused(tmp_path, network, message):
    path, target = saved(tmp_path / "model.pt", network.state_dict()), a_network()
    before = target[0].weight.clone()
    with pytest.raises(InputError, match=f"model.pt does not fit the network: .*{message}"):
        StrictCheckpointLoader(path, target, {"num_classes": 2, "in_channels": 3})()
    assert torch.equal(target[0].weight, before)


def test_the_numbers_are_right_for_the_default_network(tmp_path):
    """Its head holds four values a class, and two layers take the image."""
    for name, keys in (("num_classes", {"out_channels": 4}), ("in_channels", {"in_channels": 1})):
        path = saved(tmp_path / "model.pt", LESSNet(**keys).state_dict())
        with pytest.raises(InputError, match=f"pass --{name} {next(iter(keys.values()))},"):
            StrictCheckpointLoader(path, LESSNet(), {"num_classes": 2, "in_channels": 3})()


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="none.pt"):
        StrictCheckpointLoader(str(tmp_path / "none.pt"), a_network())()
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match="cut.pt"):
        StrictCheckpointLoader(str(tmp_path / "cut.pt"), a_network())()
    with pytest.raises(InputError, match="the path of the weights is empty: name the model.pt"):
        StrictCheckpointLoader("", a_network())()
    latest = saved(tmp_path / "latest.pt", {"network": a_network().state_dict(), "epoch": 3})
    with pytest.raises(InputError, match="latest.pt holds no network weights alone: give the model.pt"):
        StrictCheckpointLoader(latest, a_network())()


def test_the_run_beside_the_weights_is_compared(tmp_path):
    path = saved(tmp_path / "model.pt", a_network().state_dict())
    parameters = {"image_size": 128, "num_classes": 2}
    (tmp_path / "run.json").write_text(json.dumps({"parameters": parameters}))
    StrictCheckpointLoader(path, a_network(), {"image_size": [128, 128], "num_classes": 2, "seed": 1})()
    with pytest.raises(
        InputError, match="trained with image_size 128, but image_size is 256 here: pass --image_size 128"
    ):
        StrictCheckpointLoader(path, a_network(), {"image_size": 256})()
    (tmp_path / "run.json").write_text(json.dumps({"parameters": {"image_size": [96, 64]}}))
    with pytest.raises(InputError, match=r"pass --image_size '\[96, 64\]'"):
        StrictCheckpointLoader(path, a_network(), {"image_size": 96})()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is damaged"):
        StrictCheckpointLoader(path, a_network(), {"image_size": 96})()


def beside(tmp_path, **content):
    """Weights with a run.json beside them."""
    (tmp_path / "run.json").write_text(json.dumps(content))
    return saved(tmp_path / "model.pt", a_network().state_dict())


def test_the_run_beside_them_tells_which_network_they_are_of(tmp_path):
    wrapper = {"_target_": "Wrapper", "network": "@network_def"}
    definitions = {"network_def": {"_target_": "scripts.networks.UNet"}, "around": wrapper, "method": {"_target_": "M"}}
    path = beside(tmp_path, parameters={}, definitions=definitions)
    with pytest.raises(InputError, match=r"\(scripts.networks.UNet in Wrapper: add the overlay"):
        StrictCheckpointLoader(path, nn.Conv2d(3, 2, 1))()


def test_on_the_data_of_the_training_the_split_must_be_the_same(tmp_path):
    pattern = r"^(.*?\d[^ _.-]*)[ _.-]"
    path = beside(tmp_path, parameters={"dataset_dir": str(tmp_path), "group_pattern": pattern})
    here = {"dataset_dir": str(tmp_path / ".." / tmp_path.name), "group_pattern": None}
    with pytest.raises(InputError) as caught:
        StrictCheckpointLoader(path, a_network(), here)()
    assert shlex.split(str(caught.value).split("pass ")[1]) == ["--group_pattern", pattern]  # as a shell reads it
    StrictCheckpointLoader(path, a_network(), here | {"group_pattern": pattern})()
    StrictCheckpointLoader(path, a_network(), here | {"dataset_dir": "/elsewhere"})()  # another set has its own groups


def test_all_of_the_data_of_the_training_are_told_to_score_too_well(tmp_path, caplog):
    path = beside(tmp_path, parameters={"dataset_dir": str(tmp_path)})
    for part, folder in (("test", tmp_path), ("all", "/elsewhere")):
        StrictCheckpointLoader(path, a_network(), {"dataset_dir": str(folder)}, part=part)()
        assert "too good" not in caplog.text
    StrictCheckpointLoader(path, a_network(), {"dataset_dir": str(tmp_path)}, part="all")()
    assert f"part all holds the images that {path} was trained on: the scores will be too good" in caplog.text


def test_weights_that_the_user_may_have_meant_are_named(tmp_path, caplog):
    shared, own = (saved(tmp_path / name, a_network().state_dict()) for name in ("shared.pt", "own.pt"))
    StrictCheckpointLoader(own, a_network(), own=own)()
    StrictCheckpointLoader(own, a_network(), own=str(tmp_path / "none.pt"))()
    assert not caplog.records or "pass --ckpt_path" not in caplog.text
    StrictCheckpointLoader(shared, a_network(), own=own)()
    assert f"{own} is there too: to use it, pass --ckpt_path {own}" in caplog.text


def test_the_patterns_of_a_run_are_those_of_its_data_alone(tmp_path):
    weights, data = tmp_path / "model.pt", str(tmp_path / "data")
    assert patterns_of(weights, data) == patterns_of(None, data) == {}
    parameters = {"dataset_dir": data, "group_pattern": "^(P)", "volume_pattern": None}
    (tmp_path / "run.json").write_text(json.dumps({"parameters": parameters}))
    assert patterns_of(weights, data) == {"group_pattern": "^(P)"}
    assert patterns_of(weights, data, "^(Q)") == {"group_pattern": "^(Q)"}
    assert patterns_of(weights, str(tmp_path / "other")) == {}
    assert patterns_of(weights, str(tmp_path / "other"), "^(Q)") == {"group_pattern": "^(Q)"}
