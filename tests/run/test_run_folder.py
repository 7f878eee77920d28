# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: recorded, never overwritten, resumed only as the run that it is."""

import json
import platform
import subprocess
import sys

import pytest
import torch

from scripts.errors import InputError
from scripts.run.folder import began, check_folders, in_progress, is_of_run
from scripts.run.record import definitions, parameter_count
from tests.tiny import error_text, refusal, workflow


def finished(data, tmp_path, **overrides):
    """A run that is finished, in tmp_path/run."""
    made = workflow(dataset_dir=str(data), output_dir=str(tmp_path / "run"), max_epochs=1, **overrides)
    made.run()
    return tmp_path / "run"


def test_run_json_holds_parameters_data_and_versions(data, tmp_path):
    record = json.loads((finished(data, tmp_path) / "run.json").read_text())
    assert record["parameters"]["label_ratio"] == 4 and record["data"]["training"]["count"] == 4
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] and record["network_parameters"] > 0


@pytest.mark.parametrize("overlays, trained", [([], "@network"), (["methods/dmpls.yaml"], "@student")], ids=str)
def test_the_record_says_what_is_trained(data, tmp_path, overlays, trained):
    """Not through a key that stands for another, so that runs of before there was one are the same runs."""
    made = workflow(["train.json", *overlays], network_def=..., dataset_dir=str(data), output_dir=str(tmp_path))
    assert definitions(made)["optimizer"]["params"].startswith(f"$[*{trained}.parameters()")


def test_the_record_says_what_the_code_decides(data, tmp_path):
    """So that a run is not gone on with by a version whose default is another, unless the overlay says what it was."""
    record = json.loads((finished(data, tmp_path) / "run.json").read_text())
    assert record["definitions"]["supervised_loss"] == {"batch_dice": False}
    record["definitions"]["supervised_loss"]["batch_dice"] = True
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    made = workflow(dataset_dir=str(data), output_dir=str(tmp_path / "run"), max_epochs=1, resume=True)
    with pytest.raises(Exception) as caught:
        made.run()
    assert "supervised_loss#batch_dice was true in the run" in error_text(caught.value)


@pytest.mark.parametrize("count, text", [(56, "0.06 k"), (9_999, "10.00 k"), (10_000, "0.01 M"), (1_364_142, "1.36 M")])
def test_small_networks_are_counted_in_thousands(count, text):
    assert parameter_count(count) == text


def test_a_start_that_was_refused_blocks_no_other(data, tmp_path):
    with pytest.raises(Exception) as caught:
        workflow(dataset_dir=str(data), output_dir=str(tmp_path / "run"), progressive_size=2).run()
    assert "progressive_size" in error_text(caught.value)
    assert (finished(data, tmp_path) / "latest.pt").is_file()


@pytest.mark.parametrize("resume, named", [(False, "already holds a run"), (True, "still goes on")])
def test_a_run_that_is_going_on_is_left_alone(data, tmp_path, resume, named):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        (tmp_path / "run").mkdir()
        record = {"process": {"host": platform.node(), "id": process.pid, "began": began(process.pid)}}
        (tmp_path / "run" / "run.json").write_text(json.dumps(record))
        assert named in refusal(data, tmp_path, resume=resume)
        record["process"]["began"] = "0"  # it had the number before this one
        (tmp_path / "run" / "run.json").write_text(json.dumps(record))
        assert began(process.pid) is None or not in_progress(tmp_path / "run" / "run.json")
        process.communicate(b"\n")


def test_a_resumed_run_is_that_of_the_process_that_resumed_it(data, tmp_path):
    path = finished(data, tmp_path) / "run.json"
    record = json.loads(path.read_text())
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    path.write_text(json.dumps(record | {"process": record["process"] | {"id": ended.pid}, "mine": 1}))
    finished(data, tmp_path, resume=True)
    assert json.loads(path.read_text()) == record | {"mine": 1}


def test_a_folder_with_another_run_is_refused_and_left_alone(data, tmp_path):
    output = finished(data, tmp_path)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    made = workflow(dataset_dir=str(data), output_dir=str(output))
    with pytest.raises(Exception) as caught:
        made.run()
    assert "already holds a run" in error_text(caught.value) and "--resume true" in error_text(caught.value)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize("place", ["", "images", "masks/new"])
def test_results_are_not_written_among_the_images(data, tmp_path, place):
    with pytest.raises(InputError, match="would write among the images"):
        check_folders(str(data / place), str(data))


def test_resume_without_a_run_is_refused(data, tmp_path):
    assert "holds no latest.pt" in refusal(data, tmp_path, resume=True)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"label_ratio": 5}, "label_ratio was 4"),
        ({"num_classes": 3}, "pass --num_classes 2"),  # the masks say so before the record does
        ({"network_def__dropout": 0.5}, "network_def#dropout was "),
        ({"method__threshold": 0.25}, "method#threshold was 0.8 in the run in "),
        ({"method__weights__contrast": 0.5}, "method#weights#contrast was "),
        ({"max_epochs": 3}, "max_epochs was 1"),
        ({"train__trainer__max_norm": 0.01}, "max_norm was "),
        ({"channels_last": False}, "channels_last was true"),
        ({"planned_iterations": 100000}, "planned_iterations was "),
        ({"teacher_iterations": 0}, "teacher_iterations was 400"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_is_not_resumed_as_another(data, tmp_path, change, named):
    output = finished(data, tmp_path)
    made = workflow(**{"dataset_dir": str(data), "output_dir": str(output), "max_epochs": 1, "resume": "true"} | change)
    with pytest.raises(Exception) as caught:
        made.run()
    assert named in error_text(caught.value)


def test_a_run_of_a_device_with_mixed_precision_is_resumed_on_one_without(data, tmp_path):
    output = finished(data, tmp_path)
    record = json.loads((output / "run.json").read_text())
    record["parameters"] |= {"device": "cuda:0", "amp": True}
    (output / "run.json").write_text(json.dumps(record))
    workflow(dataset_dir=str(data), output_dir=str(output), max_epochs=1, resume=True).run()


def test_a_run_of_before_a_parameter_was_recorded_is_resumed(data, tmp_path):
    output = finished(data, tmp_path)
    record = json.loads((output / "run.json").read_text())
    del record["parameters"]["group_pattern"]
    (output / "run.json").write_text(json.dumps(record))
    workflow(dataset_dir=str(data), output_dir=str(output), max_epochs=1, resume=True).run()


@pytest.mark.parametrize("content", ["{", "[]", '{"parameters": 1}'], ids=["cut", "list", "other"])
def test_a_damaged_record_is_named(data, tmp_path, content):
    output = finished(data, tmp_path)
    (output / "run.json").write_text(content)
    made = workflow(dataset_dir=str(data), output_dir=str(output), max_epochs=1, resume=True)
    with pytest.raises(Exception) as caught:
        made.run()
    assert "run.json is damaged" in error_text(caught.value) and "another output_dir" in error_text(caught.value)


def test_other_labelled_images_are_not_resumed(data, tmp_path):
    output = finished(data, tmp_path)
    splits = json.loads((data / "splits.json").read_text())
    splits["train"].reverse()
    (data / "splits.json").write_text(json.dumps(splits))
    made = workflow(dataset_dir=str(data), output_dir=str(output), max_epochs=1, resume=True)
    with pytest.raises(Exception) as caught:
        made.run()
    assert "the list of training images was" in error_text(caught.value)


def test_a_run_cut_before_its_first_checkpoint_starts_anew(data, tmp_path):
    output, straight = tmp_path / "cut", tmp_path / "straight"
    values = {"dataset_dir": str(data), "max_epochs": 1}
    workflow(output_dir=str(output), **values).run()
    for name in ("latest.pt", "model.pt", "history.csv"):
        (output / name).unlink()
    workflow(output_dir=str(output), resume=True, **values).run()
    workflow(output_dir=str(straight), **values).run()
    assert (output / "model.pt").read_bytes() == (straight / "model.pt").read_bytes()


def test_whose_weights_they_are(tmp_path, monkeypatch):
    mine = tmp_path / "output" / "mine"
    mine.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for own in (mine / "model.pt", "output/mine/latest.pt", "output/other/../mine/model.pt", "/before/mine/model.pt"):
        assert is_of_run(own, mine) and is_of_run(own, "output/mine")
    elsewhere = tmp_path / "elsewhere" / "mine" / "model.pt"
    elsewhere.parent.mkdir(parents=True)
    for content in (b"theirs", b"mine"):
        elsewhere.write_bytes(content)
        (mine / "model.pt").write_bytes(b"mine")
        assert is_of_run(elsewhere, mine) == (content == b"mine")  # another run of that name, or a copy of this one
    for other in ("models/model.pt", tmp_path / "output" / "model.pt", "output/mine2/model.pt", "model.pt"):
        assert not is_of_run(other, mine)
