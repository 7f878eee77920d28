# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Bad keys, values and config files: one sentence that names them, before anything is written."""

import subprocess
import sys

import pytest

from bundle.__main__ import main
from scripts.errors import InputError
from scripts.losses import PartialCrossEntropy, SegmentationLoss
from scripts.methods import LessNet, PartialCE
from scripts.networks import UNet
from scripts.run.excepthook import asked_for_features
from scripts.run.parameters import check_annotation, check_device, check_parameters
from tests.tiny import ROOT, refusal, workflow

ONLY_LOGITS = {"_target_": "tests.tiny.TinyNetwork"}


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
        (
            {"learning_rate": "1e-3"},
            "learning_rate is '1e-3', a text to YAML: give the number a point and a sign, as in 1.0e-3",
        ),
        ({"image_size": 8}, "image_size is 8: "),
        ({"image_size": [64]}, "image_size is [64]: give one whole number, or [width, height]"),
        ({"amp": "perhaps"}, "amp is 'perhaps': give true or false"),
        ({"class_names": "lesion"}, "class_names is 'lesion': give a list of 2 names, the background's first"),
        ({"class_names": ["lesion"]}, "class_names is ['lesion']: give a list of 2 names"),
        ({"num_classes": 1}, "num_classes is 1: give a whole number of at least 2"),
        ({"weight_decay": -1}, "weight_decay is -1: give a number of at least 0"),
        ({"max_norm": -1}, "max_norm is -1: give a number above 0, or 0 for no clipping"),
        ({"patience": "x"}, "patience is 'x': give a whole number"),
        ({"ignore_value": "white"}, "ignore_value is 'white': give a whole number"),
        ({"teacher_iterations": "x"}, "teacher_iterations is 'x': give a whole number of at least 0"),
        ({"planned_iterations": 0}, "planned_iterations is 0: give a whole number of at least 1"),
        ({"group_pattern": 5}, "group_pattern is 5: give a regular expression"),
        ({"initial_weights": 5}, "initial_weights came as 5, for its name looks like a value: put ./ before it"),
        ({"save_interval": 0}, "save_interval is 0: give a whole number of at least 1"),
        (
            {"method___target_": "scripts.methods.LesNet"},
            "method: there is no scripts.methods.LesNet: correct its _target_",
        ),
        ({"network_def": {"_target_": "broken_network.Net"}}, "network_def: broken_network.Net cannot be imported"),
        ({"output_dir": 20240105}, "output_dir came as 20240105, for its name looks like a value: put ./ before it"),
        ({"output_dir": ""}, "output_dir is empty: give a path, or leave it out"),
        ({"initial_weights": ""}, "initial_weights is empty: give a path, or leave it out"),
        ({"method": "mean_teacher"}, "method is 'mean_teacher', but it is a section of the config: add the overlay"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_parameters_are_refused_by_name(data, tmp_path, override, answer, broken_module):
    assert answer in refusal(data, tmp_path, **override)
    assert not (tmp_path / "run").exists() or "loss" in answer


@pytest.fixture
def broken_module(tmp_path, monkeypatch):
    """``broken_network``, which does not get through its import."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "broken_network.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")


@pytest.mark.parametrize("overlay, user", [("unimatch", "UniMatch"), ("crii_net", "CoarseRefined")])
def test_a_network_that_gives_only_logits_is_refused_by_what_asks_for_more(data, tmp_path, overlay, user):
    told = refusal(data, tmp_path, ["train.json", f"methods/{overlay}.yaml"], network_def=ONLY_LOGITS)
    assert told == (
        f"network_def: tests.tiny.TinyNetwork gives no feature maps, which {user} needs: subclass "
        "scripts.networks.SegmentationNetwork, or use configs/methods/supervised.yaml"
    )


def test_the_config_of_the_default_rule_asks_a_network_for_its_features(data, tmp_path):
    made = workflow(dataset_dir=str(data), output_dir=str(tmp_path / "run"), network_def=ONLY_LOGITS)
    with pytest.raises(RuntimeError, match="feature_channels") as caught:
        made.run()
    assert "tests.tiny.TinyNetwork gives no feature maps" in str(asked_for_features(caught.value))


@pytest.mark.parametrize("overlay", ["supervised", "mean_teacher"])
def test_other_rules_take_any_module(data, tmp_path, overlay):
    files = ["train.json", f"methods/{overlay}.yaml"]
    arguments = {"unlabelled_batch_size": ...} if overlay == "supervised" else {}
    workflow(files, dataset_dir=str(data), output_dir=str(tmp_path), network_def=ONLY_LOGITS, **arguments).run()
    assert (tmp_path / "model.pt").is_file()


def test_parameters_that_are_fine_pass():
    check_parameters({"max_epochs": 1, "learning_rate": 1e-3, "image_size": [64, 48], "amp": "True", "other": object()})


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


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "vulkan"])
def test_a_device_that_is_not_there_is_refused(data, tmp_path, device):
    with pytest.raises(InputError, match=f"device is '{device}'"):
        check_device(device)


def test_a_rule_that_takes_scribbles_for_masks_is_refused(data, tmp_path):
    assert main(["scribbles", str(data), "--output", str(tmp_path / "drawn")]) == 0
    settings = {"annotation": "scribble", "ignore_value": 2}
    sentence = refusal(tmp_path / "drawn", tmp_path, **settings)
    assert "LessNet takes the strokes for whole masks: add a rule for scribbles, such as configs/methods/" in sentence
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_rule_without_dice_may_learn_from_scribbles():
    network = UNet(3, 2, (4, 4, 8, 8, 8))
    for rule in (PartialCE(network), LessNet(network, loss=PartialCrossEntropy()), None):
        check_annotation("scribble", rule)
    check_annotation("scribble", LessNet(network, loss=SegmentationLoss(dice_weight=0.0)))
    check_annotation("mask", LessNet(network))
