# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the suites of the ablations change is a setting that the rule and the network really take."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from bundle.benchmark.commands import commands
from bundle.benchmark.lists import CurrentLists
from bundle.benchmark.plots import Style
from bundle.benchmark.suite import Run, load_suite
from scripts.data.synthetic import write_synthetic_set
from scripts.overrides import argument
from tests.tiny import ROOT, workflow

SUITES = ("less_net_ablation", "less_net_parts")
RUNS = {name: load_suite(ROOT / "bundle" / "suites" / f"{name}.yaml").runs for name in SUITES}
METHODS = {f"{name}-{run.method}": run for name in SUITES for run in RUNS[name] if run.network == "lessnet"}
NETWORKS = {run.network: run for run in RUNS["less_net_ablation"] if run.method == "less_net"}


@pytest.mark.parametrize("path", sorted((ROOT / "bundle" / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_two_methods_of_a_plot_share_a_colour(path):
    suite = load_suite(path)
    colours = Style(suite).colours
    shown = [colours[name] for name in colours if not suite.plotted or name in suite.plotted]
    assert len(set(shown)) == len(shown)


def made(run, synthetic_set, tmp_path, **tiny):
    """The workflow of a run, with what the suite sets of method and network."""
    names = ("method#", "network_def#")
    settings = {key.replace("#", "__"): value for key, value in run.settings.items() if key.startswith(names)}
    files = [name.removeprefix("configs/") for name in ("configs/train.json", *run.configs)]
    places = {"dataset_dir": str(synthetic_set), "output_dir": str(tmp_path / "run"), "max_epochs": 1}
    return workflow(files, **{**places, **tiny, **settings})


@pytest.mark.parametrize("name", METHODS)
def test_a_term_that_is_switched_off_is_off(name, synthetic_set, tmp_path):
    method = METHODS[name].method
    one = made(METHODS[name], synthetic_set, tmp_path)
    one.run()
    rule = one.parser.get_parsed_content("method")
    expected = {key.removeprefix("method#"): value for key, value in METHODS[name].settings.items() if "method#" in key}
    assert bool(expected) == (method != "supervised" and name != "less_net_parts-less_net")  # the default, as it is
    for key, value in expected.items():
        if key == "weights#consistency":
            assert rule.weights_at(1.0)["consistency"] == 0
        else:
            assert getattr(rule, key) == value
    last = one.parser.get_parsed_content("train#trainer").history[-1]
    assert ("loss/contrast" in last) == (method != "supervised" and not method.endswith("no_contrast"))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exchanged_network_is_another_one(name, synthetic_set, tmp_path):
    one = made(NETWORKS[name], synthetic_set, tmp_path, network_def=...)
    one.run()
    network = one.parser.get_parsed_content("network")
    parameters = {
        "lessnet": 1_364_142,
        "plain_sum": 1_362_114,
        "mobilevit_skips": 1_728_786,
        "plain_cnn": 1_948_434,
        "unet_mobilenet": 1_033_442,
        "mobilevit_xs": 2_355_054,
        "mobilevitv2_050": 1_539_383,
    }
    assert sum(p.numel() for p in network.parameters()) == parameters[name]


@pytest.mark.parametrize("suite", sorted((ROOT / "bundle" / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_command_line_tells_monai_every_setting(suite):
    settings = {(key, repr(value)): value for run in load_suite(suite).runs for key, value in run.settings.items()}
    assert settings
    for (key, _), value in settings.items():
        told = DefaultParseValue(argument(value))  # as `monai.bundle run` reads a word; it drops None without a word
        assert told is not None and ConfigParser({"value": told}).get_parsed_content("value") == value, key


def test_an_empty_setting_of_a_suite_switches_its_part_off_in_the_process_that_trains(synthetic_set, tmp_path):
    tiny = {"dataset_dir": str(synthetic_set), "max_epochs": 1, "epoch_length": 2, "batch_size": 2, "num_workers": 0}
    run = Run("set", "lessnet", "no_contrast", 1.0, 0, (), METHODS["less_net_parts-no_contrast"].settings | tiny)
    words = [
        sys.executable if word == "python" else word for word in map(str, commands(run, tmp_path / "run", ".")["train"])
    ]
    subprocess.run(words, cwd=ROOT, check=True)
    with (tmp_path / "run" / "history.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert {key for key in row if key.startswith("loss/")} == {"loss/supervised", "loss/consistency"}


def test_other_masks_are_others_and_the_same_for_every_rule(tmp_path):
    folder = write_synthetic_set(tmp_path / "set", count=100, size=32)  # of twenty patients
    current, found = CurrentLists(tmp_path), {}
    for run in load_suite(ROOT / "bundle/suites/other_masks.yaml").runs:
        if run.data.startswith("fuseg") and run.seed < 2:
            here = replace(run, label_ratio=0.3, settings=run.settings | {"dataset_dir": folder.name})
            found.setdefault(run.data, []).append(current(here))
    assert len(found) == 3 and all(len(lists) >= 4 and lists.count(lists[0]) == len(lists) for lists in found.values())
    assert len({lists[0]["test"]["fingerprint"] for lists in found.values()}) == 1
    assert len({lists[0]["training"]["fingerprint"] for lists in found.values()}) == 3
