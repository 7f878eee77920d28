# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Bad input: one sentence with the file or key and the mend, before training starts."""

import json
import platform
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from scripts.errors import InputError
from scripts.run import chain, check_device, check_folders, check_parameters, definitions, install_excepthook
from tests.tiny import ROOT, error_text, workflow


@pytest.fixture
def data(synthetic_set, tmp_path):
    """A copy of the synthetic set that a test may spoil."""
    return shutil.copytree(synthetic_set, tmp_path / "data set")


def refusal(data, tmp_path, config="train.json", **overrides) -> str:
    """The sentence with which a run is refused."""
    output = tmp_path / "run"
    made = workflow(config, dataset_dir=str(data), **{"output_dir": str(output)} | overrides)
    with pytest.raises(Exception) as caught:
        made.run()
    assert not (output / "latest.pt").exists()
    return error_text(caught.value)


def training_files(data) -> list[str]:
    """Names of the training images."""
    return [name for name in json.loads((data / "splits.json").read_text())["train"]]


def image_of(data, key):
    """Path of an image by its key."""
    return next((data / "images").glob(f"{key}.*"))


def mask_of(data, key):
    """Path of a mask by its image's key."""
    return next((data / "masks").glob(f"{key}.*"))


def truncate(data):
    path = image_of(data, training_files(data)[0])
    path.write_bytes(path.read_bytes()[:200])
    return path.name


def shrink_mask(data):
    path = mask_of(data, training_files(data)[0])
    Image.open(path).crop((0, 0, 30, 32)).save(path)
    return training_files(data)[0]


def strange_value(data):
    path = mask_of(data, training_files(data)[0])
    Image.new("L", (32, 32), 7).save(path)
    return path.name


def remove_masks(data):
    shutil.rmtree(data / "masks")
    for name in ("pairs.csv", "splits.json"):
        (data / name).unlink()
    return "mask"


def duplicate_stem(data):
    for name in ("pairs.csv", "splits.json"):
        (data / name).unlink()
    path = sorted((data / "images").iterdir())[0]
    Image.open(path).save(path.with_suffix(".bmp"))
    return path.stem


def group_on_two_sides(data):
    table = (data / "pairs.csv").read_text().splitlines()
    splits = json.loads((data / "splits.json").read_text())
    column = table[0].split(",").index("group")
    rows = {}
    for line in table[1:]:
        cells = line.split(",")
        rows[cells[0]] = cells
    names = list(rows)
    find = {
        key: next(n for n in names if key in n) for side in splits.values() if isinstance(side, list) for key in side
    }
    rows[find[splits["train"][0]]][column] = rows[find[splits["test"][0]]][column]
    (data / "pairs.csv").write_text("\n".join([table[0], *(",".join(rows[name]) for name in names)]) + "\n")
    return rows[find[splits["test"][0]]][column]


@pytest.mark.parametrize(
    "spoil",
    [truncate, shrink_mask, strange_value, remove_masks, duplicate_stem, group_on_two_sides],
    ids=lambda function: function.__name__,
)
def test_bad_data_is_named_before_training(data, tmp_path, spoil):
    named = spoil(data)
    sentence = refusal(data, tmp_path, label_ratio=1.0)
    assert named in sentence and "\n" not in sentence


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, 1000, "many"])
def test_a_label_ratio_out_of_range_is_refused(data, tmp_path, ratio):
    assert "label_ratio" in refusal(data, tmp_path, label_ratio=ratio)


def test_one_labelled_image_is_too_few(data, tmp_path):
    assert "fewer than 2 labelled" in refusal(data, tmp_path, label_ratio=0.01)


@pytest.mark.parametrize(
    "override, answer",
    [
        ({"lerning_rate": 0.1}, "unknown key lerning_rate: did you mean learning_rate?"),
        ({"nosuchkey": 1}, "unknown key nosuchkey: it is in no config file"),
        (
            {"train__trainer__max_epoch": 3},
            "unknown key train#trainer#max_epoch: did you mean train#trainer#max_epochs?",
        ),
        ({"optimizer__learning_rate": 3}, "unknown key optimizer#learning_rate"),
        ({"train__loaders": {}}, "unknown key train#loaders: did you mean train#loader?"),
        ({"method__treshold": 0.9}, "unknown key method#treshold: did you mean method#threshold?"),
        ({"method__self": 1}, "unknown key method#self"),
        ({"method__weights": {"contast": 1.0}}, "has no loss contast"),
        ({"max_epochs": 0}, "max_epochs is 0: give a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5: give a whole number"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast': give a number above 0"),
        ({"image_size": 8}, "image_size is 8: "),
        ({"amp": "perhaps"}, "amp is 'perhaps': give true or false"),
        ({"num_classes": 1}, "num_classes is 1: give a whole number of at least 2"),
        ({"weight_decay": -1}, "weight_decay is -1: give a number of at least 0"),
        ({"save_interval": 0}, "save_interval is 0: give a whole number of at least 1"),
        ({"method": "mean_teacher"}, "method is 'mean_teacher', but it is a section of the config: add the overlay"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_parameters_are_refused_by_name(data, tmp_path, override, answer):
    assert answer in refusal(data, tmp_path, **override)
    assert not (tmp_path / "run").exists() or "loss" in answer


def test_parameters_of_a_component_and_of_a_new_section_are_accepted(data, tmp_path):
    made = workflow(
        dataset_dir=str(data),
        output_dir=str(tmp_path / "run"),
        max_epochs=1,
        train__trainer__channels_last=True,
        datalist__val_share=0.2,
        decay=0.9,
        method__decay="@decay",
    )
    made.run()


def told(tmp_path, data, *files, **overrides):
    """What a training started from the command line ends with."""
    arguments = {"dataset_dir": data, "output_dir": tmp_path / "run", "device": "cpu", "max_epochs": 1} | overrides
    words = [word for key, value in arguments.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", *files, *words]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1 and "Traceback" not in process.stderr
    return process.stderr.strip().splitlines()[-1]


METHOD, TRAIN = "configs/methods/mean_teacher.yaml", "configs/train.json"


@pytest.mark.parametrize(
    "files, sentence",
    [
        ([f"['{METHOD}','{TRAIN}']"], f"{TRAIN} stands after {METHOD} and undoes its method: name {TRAIN} first"),
        ([TRAIN, METHOD], f"{METHOD} stands apart from the other config files: give one list"),
        ([f"['{TRAIN}','configs/methods/kmeans.yaml']"], "reads the algorithm of configs/methods/kmeans.yaml"),
        ([f"['{TRAIN}','configs/evaluate.json']"], "configs/evaluate.json is for `run evaluating`"),
    ],
    ids=["order", "apart", "other config", "evaluate"],
)
def test_a_config_file_without_effect_is_refused(data, tmp_path, files, sentence):
    assert sentence in told(tmp_path, data, *files)
    assert not (tmp_path / "run").exists()


def test_a_seed_that_is_no_number_is_refused(data, tmp_path):
    assert "seed is 'abc': give a whole number of at least 0" in told(tmp_path, data, TRAIN, seed="abc")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(data, tmp_path, device):
    with pytest.raises(InputError, match=f"device is '{device}'"):
        check_device(device)


@pytest.mark.parametrize("overlays, trained", [([], "@network"), (["methods/dmpls.yaml"], "@student")], ids=str)
def test_the_record_says_what_is_trained(data, tmp_path, overlays, trained):
    """Not through a key that stands for another, so that runs of before there was one are the same runs."""
    made = workflow(["train.json", *overlays], network_def=..., dataset_dir=str(data), output_dir=str(tmp_path))
    assert definitions(made)["optimizer"]["params"].startswith(f"$[*{trained}.parameters()")


def test_a_start_that_was_refused_blocks_no_other(data, tmp_path):
    with pytest.raises(Exception) as caught:
        workflow(dataset_dir=str(data), output_dir=str(tmp_path / "run"), progressive_size=2).run()
    assert "progressive_size" in error_text(caught.value)
    assert (finished(data, tmp_path) / "latest.pt").is_file()


def test_a_run_that_is_going_on_is_left_alone(data, tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        (tmp_path / "run").mkdir()
        record = {"process": {"host": platform.node(), "id": process.pid}}
        (tmp_path / "run" / "run.json").write_text(json.dumps(record))
        made = workflow(dataset_dir=str(data), output_dir=str(tmp_path / "run"))
        with pytest.raises(Exception) as caught:
            made.run()
        process.communicate(b"\n")
    assert "already holds a run" in error_text(caught.value)


def finished(data, tmp_path, **overrides):
    """A run that is finished, in tmp_path/run."""
    made = workflow(dataset_dir=str(data), output_dir=str(tmp_path / "run"), max_epochs=1, **overrides)
    made.run()
    return tmp_path / "run"


def test_a_folder_with_another_run_is_refused_and_left_alone(data, tmp_path):
    output = finished(data, tmp_path)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    made = workflow(dataset_dir=str(data), output_dir=str(output))
    with pytest.raises(Exception) as caught:
        made.run()
    assert "already holds a run" in error_text(caught.value) and "--resume true" in error_text(caught.value)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize(
    "change, named",
    [
        ({"label_ratio": 5}, "label_ratio was 4"),
        ({"num_classes": 3}, "num_classes was 2"),
        ({"network_def__dropout": 0.5}, "network_def#dropout was "),
        ({"method__threshold": 0.25}, "method#threshold was 0.8 in the run in "),
        ({"method__weights__contrast": 0.5}, "method#weights#contrast was "),
        ({"max_epochs": 3}, "max_epochs was 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_is_not_resumed_as_another(data, tmp_path, change, named):
    output = finished(data, tmp_path)
    made = workflow(**{"dataset_dir": str(data), "output_dir": str(output), "max_epochs": 1, "resume": "true"} | change)
    with pytest.raises(Exception) as caught:
        made.run()
    assert named in error_text(caught.value)


def test_a_run_of_before_a_parameter_was_recorded_is_resumed(data, tmp_path):
    output = finished(data, tmp_path)
    record = json.loads((output / "run.json").read_text())
    del record["parameters"]["group_pattern"]
    (output / "run.json").write_text(json.dumps(record))
    workflow(dataset_dir=str(data), output_dir=str(output), max_epochs=1, resume=True).run()


def test_other_labelled_images_are_not_resumed(data, tmp_path):
    output = finished(data, tmp_path)
    splits = json.loads((data / "splits.json").read_text())
    splits["train"].reverse()
    (data / "splits.json").write_text(json.dumps(splits))
    made = workflow(dataset_dir=str(data), output_dir=str(output), max_epochs=1, resume=True)
    with pytest.raises(Exception) as caught:
        made.run()
    assert "the list of training images was" in error_text(caught.value)


def test_resume_without_a_run_is_refused(data, tmp_path):
    assert "holds no latest.pt" in refusal(data, tmp_path, resume=True)


@pytest.mark.parametrize("place", ["", "images", "masks/new"])
def test_results_are_not_written_among_the_images(data, tmp_path, place):
    with pytest.raises(InputError, match="would write among the images"):
        check_folders(str(data / place), str(data))


def test_parameters_that_are_fine_pass():
    check_parameters({"max_epochs": 1, "learning_rate": 1e-3, "image_size": [64, 48], "amp": "True", "other": object()})


def test_run_json_holds_parameters_data_and_versions(data, tmp_path):
    record = json.loads((finished(data, tmp_path) / "run.json").read_text())
    assert record["parameters"]["label_ratio"] == 4 and record["data"]["training"]["count"] == 4
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] and record["network_parameters"] > 0


def test_the_chain_of_an_exception_is_walked():
    try:
        try:
            raise InputError("inner")
        except InputError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        assert [str(e) for e in chain(error)] == ["outer", "inner"]


def test_the_hook_is_installed_once(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_excepthook()
    first = sys.excepthook
    install_excepthook()
    assert sys.excepthook is first is not sys.__excepthook__


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--lerning_rate", "1"], "error: unknown key lerning_rate: did you mean learning_rate?"),
        (["--dataset_dir", "nowhere"], "nowhere does not exist: correct dataset_dir."),
        (
            ["--method#contrast", "None"],
            "method#contrast is None, which MONAI would not set to nothing: give --method#contrast '$None'",
        ),
    ],
    ids=["key", "folder", "nothing"],
)
def test_the_program_ends_with_the_sentence_alone(tmp_path, arguments, sentence):
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
    command += ["--config_file", str(ROOT / "configs" / "train.json"), "--bundle_root", str(ROOT)]
    command += ["--output_dir", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith(sentence)


def test_a_run_cut_before_its_first_checkpoint_starts_anew(data, tmp_path):
    output, straight = tmp_path / "cut", tmp_path / "straight"
    values = {"dataset_dir": str(data), "max_epochs": 1}
    workflow(output_dir=str(output), **values).run()
    for name in ("latest.pt", "model.pt", "history.csv"):
        (output / name).unlink()
    workflow(output_dir=str(output), resume=True, **values).run()
    workflow(output_dir=str(straight), **values).run()
    assert (output / "model.pt").read_bytes() == (straight / "model.pt").read_bytes()
