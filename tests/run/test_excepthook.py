# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A program that meets bad input ends with one sentence."""

import subprocess
import sys

import pytest
from torch.distributed import DistBackendError

from scripts import distributed
from scripts.errors import InputError
from scripts.run.excepthook import chain, install_excepthook
from tests.tiny import ROOT, TinyNetwork


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


def test_a_network_without_feature_maps_ends_with_its_mend(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_excepthook()
    try:
        try:
            TinyNetwork().feature_channels
        except AttributeError as error:
            raise RuntimeError("Failed to evaluate ConfigExpression") from error
    except RuntimeError as error:
        sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == (
        "error: network_def: tests.tiny.TinyNetwork gives no feature maps, which the rule needs: subclass "
        "scripts.networks.SegmentationNetwork, or use configs/methods/supervised.yaml\n"
    )


def test_a_process_that_lost_the_others_says_why(monkeypatch, capsys):
    """NCCL may also fail where no process has ended, as on a GPU without memory left for it."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(distributed, "active", lambda: True)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    install_excepthook()
    error = DistBackendError("NCCL error in: NCCLUtils.cpp:77\nLast error:\nCuda failure 2 'out of memory'\n")
    sys.excepthook(type(error), error, None)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: process 1 lost the others (Cuda failure 2 'out of memory'): if one of them has")


def test_other_attributes_that_are_missing_keep_their_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_excepthook()
    for wrong in (lambda: TinyNetwork().other, lambda: object().feature_channels):
        with pytest.raises(AttributeError) as caught:
            wrong()
        sys.excepthook(caught.type, caught.value, caught.tb)
        assert capsys.readouterr().err.startswith("Traceback")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--lerning_rate", "1"], "error: unknown key lerning_rate: did you mean learning_rate?"),
        (["--cache", "none", "--dataset_dir", "nowhere"], "nowhere does not exist: correct dataset_dir."),
        (["--dataset_dir", "nowhere"], "nowhere does not exist: correct dataset_dir."),
        (
            ["--method#contrast", "None"],
            "method#contrast is None, which MONAI would not set to nothing: give --method#contrast '$None'",
        ),
        (
            ["--dataset_dir", "/data/set#3"],
            "dataset_dir holds '/data/set#3', in which MONAI reads # as a separator: rename it without #",
        ),
        (
            ["--class_names", "['wound','ulcer #1']"],
            "class_names holds 'ulcer #1', in which MONAI reads # as a separator: rename it without #",
        ),
        (
            ["--network_def#_target_", "scripts.networks.LESNet"],
            "network_def: there is no scripts.networks.LESNet: correct its _target_, export it in the __init__.py "
            "of its package, or put the folder of its module on PYTHONPATH",
        ),
    ],
    ids=["key", "cache", "folder", "nothing", "separator", "separator in a list", "target"],
)
def test_the_program_ends_with_the_sentence_alone(tmp_path, arguments, sentence):
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
    command += ["--config_file", str(ROOT / "configs" / "train.json"), "--bundle_root", str(ROOT)]
    command += ["--output_dir", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith(sentence)
