# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The runs of a benchmark: real ones, cut and continued, and what they share."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from bundle.__main__ import main
from bundle.benchmark.lists import CurrentLists
from bundle.benchmark.progress import Progress, expected_seconds
from bundle.benchmark.results import RESULT, case_rows, find, public_commands
from bundle.benchmark.runner import Place, execute, locked, score_anew, set_aside, shares
from bundle.benchmark.suite import Run, load_suite
from scripts.errors import InputError
from tests.small_suite import SUITE
from tests.tiny import ROOT


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


def test_data_are_looked_for_where_the_command_was_typed(suite, tmp_path, monkeypatch):
    """The runs themselves begin in the folder of the bundle."""
    roots = []
    monkeypatch.setattr("bundle.benchmark.run_all", lambda *given: roots.append(given[3].data_root) or [])
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", suite().name, "--output", "bench", "--data", "."]) == 0
    assert roots == [tmp_path]


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
    assert "1 of 2 runs are done, 1 to go" in shown and "k | 2 |" in shown
    assert [made.parent.name for made in second.rglob(RESULT)] == ["seed1"]
    assert {made.stem for made in (tmp_path / "both" / "runs").rglob("*.json")} == {"seed0", "seed1"}

    # a changed setting is another run: that of before is kept, and said to be
    path = suite(data=data, grids=[{**grid, "methods": ["supervised"], "seeds": [1]}], settings={"image_size": 48})
    assert main(arguments) == 0
    assert "image_size is 48 now, was 32" in capsys.readouterr().out
    assert {made.parent.name for made in second.rglob(RESULT)} == {"seed1", "seed1.before1"}

    # nothing that is published is dropped from its tables or written over
    kept = {made: made.read_bytes() for made in published.rglob("*") if made.is_file()}
    for seeds, said in ([1], "seed0.json is of no run of this suite"), ([0], "image_size is 48 now, was 32"):
        grids = [{**grid, "methods": ["supervised", "mean_teacher"], "seeds": seeds}]
        suite(data=data, grids=grids, settings={"image_size": 48})
        assert main([*arguments, "--tables", "--publish", str(published)]) != 0
        error = capsys.readouterr().err
        assert said in error and "name a new folder, or remove it first" in error
    assert kept == {made: made.read_bytes() for made in published.rglob("*") if made.is_file()}


def test_a_result_of_other_images_is_another_runs(suite, tmp_path, synthetic_set):
    """Images come, go or change sides: what was trained and tested on those of before must not stand beside it."""
    shutil.copytree(synthetic_set, tmp_path / "set")
    run = next(run for run in load_suite(suite()).runs if run.label_ratio == 0.5)
    lists = CurrentLists(tmp_path)
    known = lists(run)
    assert set(known) == {"training", "unlabeled", "validation", "test"} and known["training"]["count"] > 0
    assert lists(run) is known  # listed once
    folder = tmp_path / "bench" / run.name
    folder.mkdir(parents=True)
    result = {"part": "test", "commands": public_commands(run), "cases": {}, "lists": known}
    (folder / RESULT).write_text(json.dumps(result))
    (folder / "run.json").write_text(json.dumps({"data": known}))
    (folder / "train.log").write_text(f"$ {result['commands']['train']}\n")
    told, state = [], Progress([run], [])
    state.say = told.append
    assert find(run, [tmp_path / "bench"], told.append, lists)["lists"] == known
    set_aside(run, folder, lists, state)
    assert not told and folder.is_dir()

    splits = json.loads((tmp_path / "set" / "splits.json").read_text())
    splits["val"].pop()
    (tmp_path / "set" / "splits.json").write_text(json.dumps(splits))
    changed = CurrentLists(tmp_path)
    assert find(run, [tmp_path / "bench"], told.append, changed) is None
    assert "the list of validation images is another one" in told.pop()
    set_aside(run, folder, changed, state)  # a run that was cut cannot go on with other images
    assert "the list of validation images" in told.pop() and (folder.parent / f"{folder.name}.before1").is_dir()


def test_lists_that_cannot_be_known_compare_with_nothing(suite, tmp_path):
    run = load_suite(suite()).runs[0]
    assert CurrentLists(tmp_path)(run) is None  # an empty folder: the run itself says so
    assert CurrentLists(tmp_path / "elsewhere")(run) is None
    assert CurrentLists(tmp_path)(replace(run, settings={})) is None  # the embedded set
    assert CurrentLists(tmp_path)(replace(run, kind="clustering")) is None


def test_settings_of_the_lists_count(suite, tmp_path, synthetic_set):
    run = load_suite(suite()).runs[0]
    settings = {**run.settings, "dataset_dir": "free"}
    shutil.copytree(synthetic_set, tmp_path / "free")
    (tmp_path / "free" / "splits.json").unlink()
    table = tmp_path / "free" / "pairs.csv"
    table.write_text(table.read_text().replace("group", "unknown"))  # every image is split on its own
    lists = CurrentLists(tmp_path)
    counts = [
        lists(replace(run, settings=settings | more))["validation"]["count"]
        for more in ({}, {"datalist#val_share": 0.4}, {"datalist#val_share": 0.1})
    ]
    assert counts[1] > counts[0] == counts[2] > 0


def test_results_of_before_they_held_their_cases(suite, tmp_path):
    run = load_suite(suite()).runs[0]
    folder = tmp_path / run.name
    (folder / "evaluation").mkdir(parents=True)
    write_csv(folder / "evaluation" / "per_image.csv", [{"key": "a", "dice": 0.5, "reference_pixels": 0}])
    rows = [(30.0, 2, 0.25), (15.0, 4, ""), (45.0, 6, 0.5)]  # an epoch without validation counts its time
    write_csv(folder / "history.csv", [dict(zip(("seconds", "iteration", "val_mean_dice"), row)) for row in rows])
    (folder / "evaluation" / "metrics.json").write_text(json.dumps({"distance_unit": "px"}))
    (folder / "run.json").write_text(json.dumps({"data": {}}))
    old = {"scores": {"mean_dice": 0.5}, "part": "test", "commands": public_commands(run)}
    (folder / RESULT).write_text(json.dumps(old))
    result = find(run, [tmp_path])
    assert result["cases"] == {"a": 0.5} and result["empty"] == ["a"]
    assert result["validation"] == {"minutes": [0.5, 1.5], "iteration": [2, 6], "val_mean_dice": [0.25, 0.5]}
    (folder / "history.csv").unlink()
    with pytest.raises(InputError, match="not whole"):
        find(run, [tmp_path])
