# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The benchmark: what a suite expands to, its statistics against plain versions, and real runs, cut and continued."""

from __future__ import annotations

import csv
import json
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from bundle.__main__ import main
from bundle.benchmark import choose
from bundle.benchmark.commands import commands
from bundle.benchmark.progress import Progress, expected_seconds
from bundle.benchmark.results import RESULT, case_rows, difference, find, public_commands
from bundle.benchmark.runner import Place, execute, locked, score_anew, shares
from bundle.benchmark.suite import Run, check_data, load_suite
from scripts.data import load_datalist
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
    runs = load_suite(suite()).runs
    assert len(runs) == 8 == len({run.name for run in runs})
    assert {run.name for run in runs} >= {"set/4/small/supervised/seed0", "set/0.5/small/mean_teacher/seed1"}
    for run in runs:
        assert run.settings["max_epochs"] == (2 if run.method == "mean_teacher" else 1)
        assert run.settings["dataset_dir"] == "set"
        assert run.configs == (f"configs/methods/{run.method}.yaml",)
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4  # every method has its first seed before any its second


def test_a_suite_extends_another_and_its_own_keys_win(suite, tmp_path):
    base = load_suite(suite()).runs
    (tmp_path / "larger.yaml").write_text("extends: suite.yaml\nsettings: {image_size: 48}\nbaseline: ''\n")
    larger = load_suite(tmp_path / "larger.yaml")
    assert [run.name for run in larger.runs] == [run.name for run in base] and larger.baseline == ""
    assert {run.settings["image_size"] for run in larger.runs} == {48}
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
        ({"grids": [{**SUITE["grids"][0], "methods": ["magic"]}]}, "'magic'"),
        ({"grids": [{key: value for key, value in SUITE["grids"][0].items() if key != "seeds"}]}, "'seeds'"),
        ({"baseline": "magic"}, "'magic'"),
        ({"comparisons": [{"ours": {"seed": 1}, "theirs": {}}]}, "label_ratio, network, method"),
        ({"peers": ["mean_teacher", "magic"]}, "'magic'"),
        ({"methods": {**SUITE["methods"], "supervised": {"kind": "magic"}}}, "'supervised' is of the kind magic"),
        ({"methods": {**SUITE["methods"], "supervised": {"kind": "clustering"}}}, "clustering alone has the ratio 0"),
        ({"grids": [{**SUITE["grids"][0], "label_ratios": [0]}]}, "clustering alone has the ratio 0"),
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
    with pytest.raises(InputError, match="does not exist"):
        load_suite(tmp_path / "other.yaml")


def test_commands_are_those_a_user_types(tmp_path):
    run = Run("set", "small", "less_net", 0.05, 3, ("configs/methods/less_net.yaml",), {"image_size": 64})
    train, evaluate = (" ".join(map(str, command)) for command in commands(run, "output", "data").values())
    assert "-m monai.bundle run training --config_file ['configs/train.json', 'configs/methods/less_n" in train
    assert "--image_size 64 --label_ratio 0.05 --seed 3" in train and "resume" not in train
    assert "'configs/evaluate.json']" in evaluate and "--part test" in evaluate
    resumed = commands(run, "output", "data", resume=True)
    assert "--resume true" in " ".join(map(str, resumed["train"]))
    assert "resume" not in " ".join(map(str, resumed["evaluate"]))


def test_commands_that_are_kept_can_be_pasted_into_a_shell():
    settings = {"network_def": SMALL_UNET, "dataset_dir": "some set", "method#name": "it's $HOME"}
    run = Run("set", "small", "less_net", 0.05, 3, ("configs/methods/less_net.yaml",), settings)
    for name, text in public_commands(run).items():
        assert shlex.split(text) == [str(word) for word in commands(run, "output", "data")[name]]
    assert "\"['configs/train.json', 'configs/methods/less_net.yaml']\"" in public_commands(run)["train"]


def test_a_run_is_known_by_its_settings_not_by_its_place():
    run = Run("set", "small", "m", 0.05, 3, (), {"dataset_dir": "sets/set", "max_epochs": 2})
    elsewhere = commands(run, "/elsewhere/runs/one", "/mnt", resume=True)["train"]
    assert difference(run, shlex.join(map(str, elsewhere))) == ""
    for settings, told in [({"max_epochs": 3}, "max_epochs is 2 now, was 3"), ({"amp": True}, "amp is not set now")]:
        other = Run("set", "small", "m", 0.05, 3, (), {**run.settings, **settings})
        assert told in difference(run, public_commands(other)["train"])
    other = Run("set", "small", "m", 0.05, 3, ("configs/methods/supervised.yaml",), run.settings)
    assert "config_file is" in difference(run, public_commands(other)["train"])


def write_csv(path, rows):
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_cases_are_volumes_and_images_that_belong_to_none(tmp_path):
    images = [{"key": "a", "dice": 0.1}, {"key": "b", "dice": 0.2}]
    write_csv(tmp_path / "per_image.csv", images)
    assert [name for name, _ in case_rows(tmp_path)] == ["a", "b"]
    write_csv(tmp_path / "per_volume.csv", [{"volume": "v", "dice": 0.3}])
    assert [name for name, _ in case_rows(tmp_path)] == ["v"]  # tables of before the column
    write_csv(tmp_path / "per_image.csv", [images[0] | {"volume": "v"}, images[1] | {"volume": ""}])
    assert [(name, row["dice"]) for name, row in case_rows(tmp_path)] == [("v", "0.3"), ("b", "0.2")]


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 5, 7}, raising=False)
    assert shares(1) == [[0, 1, 2, 5, 7]]
    split = shares(2)
    assert sorted(sum(split, [])) == [0, 1, 2, 5, 7] and [len(cores) for cores in split] == [3, 2]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert shares(2) == [[3], [3]]


def test_a_process_is_stopped_at_the_deadline(tmp_path):
    began = time.monotonic()
    state = Progress([], [], seconds=0.3)
    with locked(tmp_path / "run") as lock:
        assert execute(["sleep", "30"], tmp_path / "log", Place(shares(1)[0][:1], lock), state) < 0
    assert time.monotonic() - began < 20


def test_a_run_belongs_to_one_process_until_its_last_child_is_gone(tmp_path):
    with locked(tmp_path / "run") as lock:
        with locked(tmp_path / "run") as other:
            assert other is None
        orphan = subprocess.Popen(["sleep", "30"], pass_fds=[lock])  # as `execute` starts it
    try:
        with locked(tmp_path / "run") as other:
            assert other is None
    finally:
        orphan.kill()
        orphan.wait()
    with locked(tmp_path / "run") as lock:
        assert lock is not None


@pytest.mark.parametrize("scored", ["validation", "test"])
def test_scores_of_another_part_are_not_taken_for_those_of_the_suite(tmp_path, scored):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps({"part": scored}))
    (tmp_path / "evaluate.done").touch()
    score_anew(Run("set", "small", "m", 1.0, 0, part="test"), tmp_path)
    assert (tmp_path / "evaluate.done").exists() == (scored == "test")


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(suite, tmp_path, synthetic_set):
    data = {"set": {"settings": {"dataset_dir": synthetic_set.name, "epoch_length": 10, "batch_size": 2}}}
    grid = {**SUITE["grids"][0], "methods": ["supervised"], "label_ratios": [4], "seeds": [0]}
    path, output = suite(data=data, grids=[grid], settings={"image_size": 32, "max_epochs": 8}), tmp_path / "bench"
    command = [sys.executable, "-m", "bundle", "benchmark", path, "--output", output, "--data", synthetic_set.parent]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    folder = output / "set/4/small/supervised/seed0"
    while not (folder / "latest.pt").is_file() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    with locked(folder) as lock:
        assert lock is not None  # the training has ended too
    cut = len((folder / "history.csv").read_text().splitlines())
    assert cut < 8 and not (folder / RESULT).exists()
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--resume true" in (folder / "train.log").read_text()
    assert json.loads((folder / RESULT).read_text())["validation"]["iteration"] == [10 * n for n in range(1, 9)]


def timed(seconds, data="set", network="small", method="m"):
    return {"data": data, "network": network, "method": method, "train_minutes": seconds / 60, "evaluate_seconds": 1.0}


def test_time_left_comes_from_the_runs_most_alike():
    run = Run("set", "small", "m", 1.0, 0)
    results = [timed(10), timed(20), timed(100, data="other"), timed(1000, method="other")]
    assert expected_seconds(run, results) == pytest.approx(16)
    assert expected_seconds(run, results[2:]) == pytest.approx(101)
    assert expected_seconds(run, results[3:]) == pytest.approx(1001)
    assert expected_seconds(run, []) is None
    waiting = [Run("set", "small", "m", 1.0, seed) for seed in range(4)]
    assert Progress(waiting, [timed(899)], workers=2).left() == "; about 30 min 0 s left"
    assert Progress(waiting, []).left() == "" == Progress([], [timed(9)]).left()


def test_real_runs_one_after_the_other_and_again(suite, tmp_path, synthetic_set, capsys):
    data = {"set": {"settings": {"dataset_dir": synthetic_set.name, "epoch_length": 2, "batch_size": 2}}}
    grid = {**SUITE["grids"][0], "label_ratios": [4], "seeds": [0]}
    path, output = suite(data=data, grids=[grid]), tmp_path / "bench"
    arguments = ["benchmark", str(path), "--output", str(output), "--data", str(synthetic_set.parent)]
    assert main([*arguments, "--minutes", "0.0001"]) == 1  # no time at all: nothing is done, and that is said
    assert "2 of 2 runs are not done" in capsys.readouterr().out
    assert main([*arguments, "--workers", "2"]) == 0
    shown = capsys.readouterr().out
    assert "[2/2]" in shown and "| mean_teacher | small |" in shown
    found = {path: path.stat().st_mtime_ns for path in output.rglob(RESULT)}
    assert len(found) == 2
    for made in found:
        result = json.loads(made.read_text())
        folder = made.parent / "evaluation"
        scores = json.loads((folder / "metrics.json").read_text())["scores"]
        assert result["scores"] == pytest.approx(scores, abs=1e-6)
        assert np.mean(list(result["cases"].values())) == pytest.approx(scores["mean_dice"], abs=1e-4)
        assert result["train_minutes"] > 0
        assert len(result["validation"]["minutes"]) == result["validation"]["iteration"][-1] // 2
        assert str(tmp_path) not in made.read_text()  # no path of the machine
    with (output / "results.csv").open() as stream:
        assert {row["method"] for row in csv.DictReader(stream)} == {"supervised", "mean_teacher"}
    assert main(arguments) == 0  # everything is there: nothing runs again
    assert {path: path.stat().st_mtime_ns for path in output.rglob(RESULT)} == found

    # published, and another machine goes on from there: only the seed that was added is run
    published, second = tmp_path / "published", tmp_path / "second"
    assert main([*arguments, "--tables", "--publish", str(published)]) == 0
    path = suite(data=data, grids=[{**grid, "methods": ["supervised"], "seeds": [0, 1]}])
    capsys.readouterr()
    arguments[3] = str(second)
    assert main([*arguments, "--results", str(published), "--publish", str(tmp_path / "both")]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 runs are done, 1 to go" in shown and "M | 2 |" in shown
    assert [made.parent.name for made in second.rglob(RESULT)] == ["seed1"]
    assert {made.stem for made in (tmp_path / "both" / "runs").rglob("*.json")} == {"seed0", "seed1"}

    # a changed setting is another run: that of before is kept, and said to be
    path = suite(data=data, grids=[{**grid, "methods": ["supervised"], "seeds": [1]}], settings={"image_size": 48})
    assert main(arguments) == 0
    assert "image_size is 48 now, was 32" in capsys.readouterr().out
    assert {made.parent.name for made in second.rglob(RESULT)} == {"seed1", "seed1.before1"}


def test_clusterings_are_cut_go_on_and_are_scored_by_the_same_command(suite, tmp_path, synthetic_set, capsys):
    small = {"algorithm#clusters": 2, "algorithm#starts": 1}
    kmeans = {"kind": "clustering", "configs": ["configs/methods/kmeans.yaml"], "settings": small}
    methods = {"kmeans": kmeans, "three": {**kmeans, "settings": {**small, "algorithm#clusters": 3}}}
    grid = {**SUITE["grids"][0], "methods": [*methods], "label_ratios": [0], "seeds": [0]}
    data = {"set": {"settings": {"dataset_dir": synthetic_set.name}}}
    changes = {"baseline": "kmeans", "methods": methods, "data": data, "networks": {"small": {}}}
    path, output = suite(grids=[grid], settings={"image_size": 32}, **changes), tmp_path / "bench"
    arguments = ["benchmark", str(path), "--output", str(output), "--data", str(synthetic_set.parent)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "**set, no labels**" in shown and "Clusterings learn from no mask" in shown and "hd95" not in shown.lower()
    folder = output / "set" / "0" / "small" / "kmeans" / "seed0"
    result = json.loads((folder / RESULT).read_text())
    with (folder / "clusters" / "scores.csv").open() as stream:
        rows = {row["key"]: row for row in csv.DictReader(stream)}
    assert set(result["cases"]) == {item["key"] for item in load_datalist(synthetic_set)["test"]} == set(rows)
    for key, row in rows.items():
        expected = float(row["blind_dice"]) if row["blind_dice"] else float(float(row["marked"]) == 0)
        assert result["cases"][key] == pytest.approx(expected, abs=1e-4)
        assert (key in result["empty"]) == (not row["blind_dice"])
    metrics = json.loads((folder / "clusters" / "metrics.json").read_text())["scores"]
    assert result["scores"]["mean_dice"] == pytest.approx(np.mean(list(result["cases"].values())), abs=1e-4)
    assert result["scores"]["mean_dice_lesion"] == pytest.approx(metrics["blind"]["dice"], abs=1e-6)
    assert result["scores"]["oracle_cropped_dice"] == pytest.approx(metrics["oracle_cropped"]["dice"], abs=1e-6)
    assert not list(output.glob("*.png")) and "no labels" in (output / "index.html").read_text()

    # cut after some images: what is done is kept, and the rest gives what an uncut run gives
    before = {path: path.stat().st_mtime_ns for path in (folder / "clusters" / "masks").iterdir()}
    again = sorted(before)[0]
    again.unlink()
    for name in (RESULT, "cluster.done"):
        (folder / name).unlink()
    assert main(arguments) == 0
    after = {path: path.stat().st_mtime_ns for path in (folder / "clusters" / "masks").iterdir()}
    assert {path for path in before if after[path] != before[path]} == {again}
    assert json.loads((folder / RESULT).read_text())["cases"] == result["cases"]

    # published they count, and another seed is not taken for a change of the configs
    published = tmp_path / "published"
    assert main([*arguments, "--tables", "--publish", str(published)]) == 0
    path = suite(grids=[{**grid, "seeds": [0, 1], "methods": ["kmeans"]}], settings={"image_size": 32}, **changes)
    arguments[3] = str(tmp_path / "second")
    capsys.readouterr()
    assert main([*arguments, "--results", str(published)]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 runs are done" in shown and "| kmeans | small | - | 2 |" in shown

    path = suite(grids=[{**grid, "seeds": [1], "methods": ["kmeans"]}], settings={"image_size": 40}, **changes)
    assert main(arguments) == 0
    assert "image_size is 40 now, was 32" in capsys.readouterr().out


def test_results_of_before_they_held_their_cases(suite, tmp_path):
    run = load_suite(suite()).runs[0]
    folder = tmp_path / run.name
    (folder / "evaluation").mkdir(parents=True)
    write_csv(folder / "evaluation" / "per_image.csv", [{"key": "a", "dice": 0.5, "reference_pixels": 0}])
    write_csv(folder / "history.csv", [{"seconds": 30.0, "iteration": 2, "val_mean_dice": 0.25}])
    (folder / "evaluation" / "metrics.json").write_text(json.dumps({"distance_unit": "px"}))
    (folder / "run.json").write_text(json.dumps({"data": {}}))
    old = {"scores": {"mean_dice": 0.5}, "part": "test", "commands": public_commands(run)}
    (folder / RESULT).write_text(json.dumps(old))
    result = find(run, [tmp_path])
    assert result["cases"] == {"a": 0.5} and result["empty"] == ["a"]
    assert result["validation"] == {"minutes": [0.5], "iteration": [2], "val_mean_dice": [0.25]}
    (folder / "history.csv").unlink()
    with pytest.raises(InputError, match="not whole"):
        find(run, [tmp_path])
