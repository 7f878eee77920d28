# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The benchmark: what a suite expands to, its statistics against plain versions, and real runs, cut and continued."""

from __future__ import annotations

import csv
import json
import time

import numpy as np
import pytest
import yaml

from bundle.__main__ import main
from bundle.benchmark.runner import RESULT, _State, commands, execute, shares
from bundle.benchmark.suite import Run, load_suite
from bundle.benchmark.tables import case_means, markdown, mean_sd, paired
from scripts.errors import InputError
from tests.tiny import ROOT, SMALL_UNET

SUITE = {
    "baseline": "supervised",
    "settings": {"image_size": 32, "max_epochs": 1},
    "data": {"set": {"settings": {"dataset_dir": "set"}}},
    "networks": {"small": {"settings": {"network_def": SMALL_UNET}}},
    "methods": {
        "supervised": {"configs": ["configs/methods/supervised.yaml"]},
        "mean_teacher": {"configs": ["configs/methods/mean_teacher.yaml"], "settings": {"max_epochs": 2}},
    },
    "grids": [
        {
            "data": ["set"],
            "networks": ["small"],
            "methods": ["supervised", "mean_teacher"],
            "label_ratios": [4, 0.5],
            "seeds": [0, 1],
        }
    ],
}


@pytest.fixture
def suite(tmp_path):
    """Writes the suite, changed."""

    def write(**changes):
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(SUITE | changes))
        (tmp_path / "set").mkdir(exist_ok=True)
        return path

    return write


def test_a_grid_is_every_combination_and_the_narrower_setting_wins(suite, tmp_path):
    runs = load_suite(suite(), tmp_path)
    assert len(runs) == 8 == len({run.name for run in runs})
    assert {run.name for run in runs} >= {"set/4/small/supervised/seed0", "set/0.5/small/mean_teacher/seed1"}
    for run in runs:
        assert run.settings["max_epochs"] == (2 if run.method == "mean_teacher" else 1)
        assert run.settings["dataset_dir"] == str(tmp_path / "set")
        assert run.configs == (f"configs/methods/{run.method}.yaml",)


def test_the_suites_of_the_bundle_are_valid_and_name_configs_that_exist(tmp_path):
    paths = sorted((ROOT / "bundle" / "suites").glob("*.yaml"))
    assert paths
    for path in paths:
        content = yaml.safe_load(path.read_text())
        for data in content["data"].values():
            (tmp_path / data["settings"]["dataset_dir"]).mkdir(exist_ok=True)
        runs = load_suite(path, tmp_path)
        assert all((ROOT / config).is_file() for run in runs for config in run.configs)
        methods = {run.method for run in runs}
        assert content.get("baseline") in methods


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"grid": []}, "unknown key 'grid'"),
        ({"grids": []}, "no grids"),
        ({"grids": [{**SUITE["grids"][0], "methods": ["magic"]}]}, "'magic'"),
        ({"grids": [{key: value for key, value in SUITE["grids"][0].items() if key != "seeds"}]}, "'seeds'"),
        ({"data": {"set": {"settings": {"dataset_dir": "elsewhere"}}}}, "elsewhere"),
    ],
)
def test_a_wrong_suite_is_refused_by_name(suite, tmp_path, changes, named):
    with pytest.raises(InputError, match=named):
        load_suite(suite(**changes), tmp_path)


def test_a_suite_that_is_no_yaml(tmp_path):
    (tmp_path / "suite.yaml").write_text("grids: [")
    with pytest.raises(InputError, match="suite.yaml is not valid YAML"):
        load_suite(tmp_path / "suite.yaml")
    with pytest.raises(InputError, match="does not exist"):
        load_suite(tmp_path / "other.yaml")


def test_commands_are_those_a_user_types(tmp_path):
    run = Run("set", "small", "less_net", 0.05, 3, ("configs/methods/less_net.yaml",), {"image_size": 64})
    made = commands(run, tmp_path)
    train, evaluate = (" ".join(command[3:]) for command in made.values())
    assert train.startswith("-m monai.bundle run training --config_file ['configs/train.json', 'configs/methods/less_n")
    assert "--image_size 64 --label_ratio 0.05 --seed 3" in train and "resume" not in train
    assert "'configs/evaluate.json']" in evaluate and "--part test" in evaluate
    (tmp_path / "latest.pt").touch()
    assert "--resume true" in " ".join(commands(run, tmp_path)["train"])
    assert "resume" not in " ".join(commands(run, tmp_path)["evaluate"])


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 5, 7}, raising=False)
    assert shares(1) == [[0, 1, 2, 5, 7]]
    split = shares(2)
    assert sorted(sum(split, [])) == [0, 1, 2, 5, 7] and [len(cores) for cores in split] == [3, 2]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert shares(2) == [[3], [3]]


def test_a_process_is_stopped_at_the_deadline(tmp_path):
    began = time.monotonic()
    state = _State(1, began, began + 0.3)
    assert execute(["sleep", "30"], tmp_path / "log", shares(1)[0][:1], state) < 0
    assert time.monotonic() - began < 20


def test_mean_and_spread():
    mean, spread = mean_sd([1.0, 2.0, 6.0])
    assert mean == 3 and spread == pytest.approx((((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2) ** 0.5)
    assert mean_sd([4.0]) == (4, None) and mean_sd([]) == (None, None)


def test_cases_are_averaged_over_seeds():
    assert case_means([{"a": 0.2, "b": 1.0}, {"a": 0.4, "b": 0.0}]) == pytest.approx({"a": 0.3, "b": 0.5})


def results(offset: float, noise: float, seeds=(0, 1)) -> list[dict]:
    base = np.random.default_rng(0).random(60)
    rng = np.random.default_rng(round(1000 * offset))
    return [
        {"seed": seed, "cases": {f"c{n}": float(base[n] + offset + noise * rng.standard_normal()) for n in range(60)}}
        for seed in seeds
    ]


def test_paired_interval_against_a_plain_version():
    ours, theirs = results(0.05, 0.1), results(0.0, 0.1)
    difference, low, high = paired(ours, theirs)
    values = []
    for n in range(60):
        mine = sum(r["cases"][f"c{n}"] for r in ours) / 2
        other = sum(r["cases"][f"c{n}"] for r in theirs) / 2
        values.append(100 * (mine - other))
    assert difference == pytest.approx(sum(values) / 60)
    error = np.std(values, ddof=1) / 60**0.5
    assert low == pytest.approx(difference - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(difference + 1.96 * error, abs=0.1 * error)


def test_pairing_takes_what_all_cases_share_out_of_the_interval():
    difference, low, high = paired(results(0.05, 0.0), results(0.0, 0.0))
    assert difference == pytest.approx(5) and high - low < 1e-6


def test_only_seeds_that_both_have_are_paired():
    ours, theirs = results(0.05, 0.0, seeds=(0, 1)), results(0.0, 0.0, seeds=(1, 2))
    ours[0]["cases"] = {key: 9.0 for key in ours[0]["cases"]}
    assert paired(ours, theirs)[0] == pytest.approx(5)
    assert paired(results(0, 0, seeds=(0,)), results(0, 0, seeds=(1,))) == (None, None, None)


def test_a_row_without_a_score_is_printed():
    names = ("mean_dice", "mean_dice_lesion", "worst_decile_dice", "miou", "mean_recall", "hd95")
    row = {"data": "set", "label_ratio": 0.05, "network": "n", "method": "m", "seeds": 1, "minutes": 1.0}
    row |= {name: None for name in names} | {f"{name}_sd": None for name in names}
    text = markdown([row], "supervised")
    assert "**set, 5 % of the labels**" in text and "| m | n | 1 | - |" in text


def test_real_runs_one_after_the_other_and_again(suite, tmp_path, synthetic_set, capsys):
    data = {"set": {"settings": {"dataset_dir": synthetic_set.name, "epoch_length": 2, "batch_size": 2}}}
    grid = {**SUITE["grids"][0], "label_ratios": [4], "seeds": [0]}
    path, output = suite(data=data, grids=[grid]), tmp_path / "bench"
    arguments = ["benchmark", str(path), "--output", str(output), "--data", str(synthetic_set.parent)]
    assert main([*arguments, "--minutes", "0.0001"]) == 1  # no time at all: nothing is done, and that is said
    assert "2 of 2 runs are not done" in capsys.readouterr().out
    assert main([*arguments, "--workers", "2"]) == 0
    shown = capsys.readouterr().out
    assert "[2/2]" in shown and "| mean_teacher | small | 1 |" in shown
    found = {path: path.stat().st_mtime_ns for path in output.rglob(RESULT)}
    assert len(found) == 2
    for path in found:
        result = json.loads(path.read_text())
        folder = path.parent / "evaluation"
        assert result["scores"] == json.loads((folder / "metrics.json").read_text())["scores"]
        assert 0 <= result["scores"]["mean_dice"] <= 1 and result["train_minutes"] > 0
    rows = json.loads((output / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"supervised", "mean_teacher"}
    with (output / "results.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 2
    assert main(arguments) == 0  # everything is there: nothing runs again
    assert {path: path.stat().st_mtime_ns for path in output.rglob(RESULT)} == found
