# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a suite of the benchmark expands to, and the commands of its runs."""

from __future__ import annotations

import shlex

import pytest

from bundle.benchmark import choose
from bundle.benchmark.commands import commands
from bundle.benchmark.results import difference, public_commands
from bundle.benchmark.suite import Run, check_data, load_suite
from scripts.errors import InputError
from tests.small_suite import SUITE
from tests.tiny import ROOT, SMALL_UNET


def test_a_grid_is_every_combination_and_the_narrower_setting_wins(suite, tmp_path):
    runs = load_suite(suite()).runs
    assert len(runs) == 8 == len({run.name for run in runs})
    assert {run.name for run in runs} >= {"set/4/small/supervised/seed0", "set/0.5/small/mean_teacher/seed1"}
    for run in runs:
        assert run.settings["max_epochs"] == (2 if run.method == "mean_teacher" else 1)
        assert run.settings["dataset_dir"] == "set"
        assert run.configs == (f"configs/methods/{run.method}.yaml",)
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4  # every method has its first seed before any its second


def test_the_configs_of_a_suite_come_last_in_every_run(suite):
    own = "configs/losses/batch_dice.yaml"
    runs = load_suite(suite(configs=[own])).runs
    assert {run.configs for run in runs} == {(f"configs/methods/{run.method}.yaml", own) for run in runs}


def test_a_suite_extends_another_and_its_own_keys_win(suite, tmp_path):
    base = load_suite(suite()).runs
    (tmp_path / "larger.yaml").write_text("extends: suite.yaml\nsettings: {image_size: 48}\nbaseline: ''\n")
    larger = load_suite(tmp_path / "larger.yaml")
    assert [run.name for run in larger.runs] == [run.name for run in base] and larger.baseline == ""
    assert {run.settings["image_size"] for run in larger.runs} == {48}
    (tmp_path / "longer.yaml").write_text("extends: larger.yaml\n")
    assert load_suite(tmp_path / "longer.yaml").runs == larger.runs
    (tmp_path / "larger.yaml").write_text("extends: longer.yaml\n")
    with pytest.raises(InputError, match="larger.yaml extends itself: correct 'extends'"):
        load_suite(tmp_path / "larger.yaml")
    (tmp_path / "larger.yaml").write_text("extends: other.yaml\n")
    with pytest.raises(InputError, match="other.yaml does not exist"):
        load_suite(tmp_path / "larger.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "bundle" / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_suites_of_the_bundle_name_configs_that_exist_and_their_methods(path):
    suite = load_suite(path)
    assert all((ROOT / config).is_file() for run in suite.runs for config in run.configs)
    assert {suite.baseline, *suite.peers} <= {run.method for run in suite.runs}


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"grid": []}, "unknown key 'grid'"),
        ({"grids": []}, "no grids"),
        ({"grids": 5}, "suite.yaml has 5 under 'grids': give a list"),
        ({"peers": "mean_teacher"}, "suite.yaml has 'mean_teacher' under 'peers': give a list"),
        ({"comparisons": {"ours": {}, "theirs": {}}}, "under 'comparisons': give a list"),
        ({"baseline": ["supervised"]}, "'methods'"),
        ({"grids": [{**SUITE["grids"][0], "methods": [["supervised"]]}]}, "under 'methods': give names"),
        # numbers would train, and no table could be made of them
        ({"data": {2018: {}}, "grids": [{**SUITE["grids"][0], "data": [2018]}]}, "2018 under 'data': give names, in q"),
        ({"data": {"set": {"settings": {"dataset_dir": 2018}}}}, "'set' has the dataset_dir 2018: put it in quotes"),
        ({"part": "tset"}, "suite.yaml has the part 'tset': give one of training, validation, test, unlabeled, all"),
        # the run would have another one
        ({"settings": {"seed": 5}}, "suite.yaml has the setting seed, which 'seeds' of a grid gives"),
        ({"data": {"set": {"settings": {"label_ratio": 0.5}}}}, "'set' under 'data' has the setting label_ratio"),
        ({"grids": [{**SUITE["grids"][0], "methods": ["magic"]}]}, "'magic'"),
        ({"grids": [{key: value for key, value in SUITE["grids"][0].items() if key != "seeds"}]}, "'seeds'"),
        ({"baseline": "magic"}, "'magic'"),
        ({"configs": "configs/losses/batch_dice.yaml"}, "suite.yaml has the configs 'configs/losses/batch_dice.yaml'"),
        ({"configs": ["configs/losses/magic.yaml"]}, "suite.yaml has the configs .*magic.yaml"),
        ({"comparisons": [{"ours": {"seed": 1}, "theirs": {}}]}, "label_ratio, network, method"),
        ({"comparisons": [{"ours": {}, "theirs": None}]}, "label_ratio, network, method"),
        ({"comparisons": [{"ours": {}, "theirs": {"method": ["magic"]}}]}, "the method 'magic', which no grid has"),
        ({"grids": [{**SUITE["grids"][0], "label_ratios": ["5%"]}]}, "'5%' under 'label_ratios'"),
        ({"grids": [{**SUITE["grids"][0], "seeds": [0.5]}]}, "'0.5' under 'seeds'"),
        ({"peers": ["mean_teacher", "magic"]}, "'magic'"),
        ({"plotted": ["mean_teacher", "magic"]}, "'magic'"),
        ({"methods": {**SUITE["methods"], "supervised": {"kind": "magic"}}}, "'supervised' is of the kind magic"),
        ({"methods": {**SUITE["methods"], "supervised": {"kind": "clustering"}}}, "clustering alone has the ratio 0"),
        ({"grids": [{**SUITE["grids"][0], "label_ratios": [0]}]}, "clustering alone has the ratio 0"),
        # a key that nobody reads would run another method under this one's name
        (
            {"methods": {**SUITE["methods"], "supervised": {"config": ["a.yaml"]}}},
            "'supervised' under 'methods' .*'config'",
        ),
        ({"methods": {**SUITE["methods"], "supervised": {"setting": {"seed": 1}}}}, "unknown key 'setting'"),
        ({"methods": {**SUITE["methods"], "supervised": {"settings": 3}}}, "settings 3"),
        ({"methods": {**SUITE["methods"], "supervised": "configs/methods/cps.yaml"}}, "must be a mapping"),
        (
            {"methods": {**SUITE["methods"], "supervised": {"configs": "configs/methods/cps.yaml"}}},
            "give a list of files",
        ),
        ({"methods": {**SUITE["methods"], "supervised": {"configs": ["configs/methods/magic.yaml"]}}}, "magic.yaml"),
        ({"methods": ["supervised", "mean_teacher"]}, "'supervised', which is not defined under 'methods'"),
        ({"data": {"set": {"kind": "training"}}}, "'set' under 'data' has the unknown key 'kind'"),
        ({"grids": [{**SUITE["grids"][0], "setting": {}}]}, "a grid has the unknown key 'setting'"),
        (
            {"grids": [*SUITE["grids"], {**SUITE["grids"][0], "settings": {"image_size": 48}}]},
            "with different settings",
        ),
    ],
)
def test_a_wrong_suite_is_refused_by_name(suite, changes, named):
    with pytest.raises(InputError, match=named):
        load_suite(suite(**changes))


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="elsewhere"):
        check_data([Run("set", "n", "m", 1.0, 0, settings={"dataset_dir": "elsewhere"})], tmp_path)
    check_data([Run("synthetic", "n", "m", 1.0, 0)], tmp_path)  # the embedded set is made where it is needed


def test_runs_are_chosen_by_text_or_pattern(suite):
    runs = load_suite(suite()).runs
    assert {run.seed for run in choose(runs, ["seed0"], "s")} == {0}
    assert {run.name for run in choose(runs, ["set/4/*/seed1"], "s")} == {
        f"set/4/small/{method}/seed1" for method in ("supervised", "mean_teacher")
    }
    assert len(choose(runs, ["set/4/*/seed1", "supervised"], "s")) == 5
    assert choose(runs, [], "s") == list(runs)
    with pytest.raises(InputError, match="'seed7'"):
        choose(runs, ["seed0", "seed7"], "s")


def test_a_suite_that_is_no_yaml(tmp_path):
    (tmp_path / "suite.yaml").write_text("grids: [")
    with pytest.raises(InputError, match="suite.yaml is not valid YAML"):
        load_suite(tmp_path / "suite.yaml")
    (tmp_path / "suite.yaml").write_bytes(b"baseline: S\xe9gur\n")
    with pytest.raises(InputError, match="suite.yaml is not valid YAML"):
        load_suite(tmp_path / "suite.yaml")
    with pytest.raises(InputError, match="does not exist"):
        load_suite(tmp_path / "other.yaml")


def test_commands_are_those_a_user_types(tmp_path):
    run = Run("set", "small", "less_net", 0.05, 3, ("configs/methods/less_net.yaml",), {"image_size": 64})
    train, evaluate = (" ".join(map(str, command)) for command in commands(run, "output", "data").values())
    assert "-m monai.bundle run training --config_file ['configs/train.json', 'configs/methods/less_n" in train
    assert "--image_size 64 --label_ratio 0.05 --seed 3" in train and "resume" not in train
    assert "'configs/evaluate.json']" in evaluate and "--ckpt_path output/model.pt --part test" in evaluate
    resumed = commands(run, "output", "data", resume=True)
    assert "--resume true" in " ".join(map(str, resumed["train"]))
    assert "resume" not in " ".join(map(str, resumed["evaluate"]))


def test_commands_that_are_kept_can_be_pasted_into_a_shell():
    settings = {"network_def": SMALL_UNET, "dataset_dir": "some set", "method#name": "it's $HOME"}
    run = Run("set", "small", "less_net", 0.05, 3, ("configs/methods/less_net.yaml",), settings)
    for name, text in public_commands(run).items():
        assert shlex.split(text) == [str(word) for word in commands(run, "output", "data")[name]]
    assert "\"['configs/train.json', 'configs/methods/less_net.yaml']\"" in public_commands(run)["train"]


@pytest.mark.parametrize("folder", ["/home/someone/clinic/set", "../someone/clinic/set"])
def test_commands_that_are_kept_do_not_say_where_things_lie(folder):
    settings = {"dataset_dir": folder, "initial_weights": "/home/someone/model.pt"}
    run = Run("set", "small", "less_net", 0.05, 3, ("/home/someone/mine.yaml",), settings)
    kept, real = public_commands(run)["train"], shlex.join(map(str, commands(run, "output", "/elsewhere")["train"]))
    assert "--dataset_dir data/set " in kept and "--initial_weights model.pt " in kept and "'mine.yaml'" in kept
    assert "someone" not in kept and real.count("/someone/") == 3
    assert difference(run, kept) == "" == difference(run, real)


def test_grids_may_name_a_run_twice(suite):
    assert load_suite(suite(grids=SUITE["grids"] * 2)) == load_suite(suite())


def test_a_run_is_known_by_its_settings_not_by_its_place():
    run = Run("set", "small", "m", 0.05, 3, (), {"dataset_dir": "sets/set", "max_epochs": 2})
    elsewhere = commands(run, "/elsewhere/runs/one", "/mnt", resume=True)["train"]
    assert difference(run, shlex.join(map(str, elsewhere))) == ""
    for settings, told in [({"max_epochs": 3}, "max_epochs is 2 now, was 3"), ({"amp": True}, "amp is not set now")]:
        other = Run("set", "small", "m", 0.05, 3, (), {**run.settings, **settings})
        assert told in difference(run, public_commands(other)["train"])
    other = Run("set", "small", "m", 0.05, 3, ("configs/methods/supervised.yaml",), run.settings)
    assert "config_file is" in difference(run, public_commands(other)["train"])
