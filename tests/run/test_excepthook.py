# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A program that meets bad input ends with one sentence."""

import subprocess
import sys

import pytest

from scripts.errors import InputError
from scripts.run.excepthook import chain, install_excepthook
from tests.tiny import ROOT


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
