# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The replayed clinician: a whole small loop against real servers, and its going on after a kill."""

import csv
import subprocess
import sys
from importlib.util import find_spec

import pytest

from bundle.__main__ import main, make_parser
from bundle.label import settings_of
from bundle.label_loop import claim, images_of
from bundle.label_loop_replay import Plan
from scripts.errors import InputError
from tests.folders import mixed_folder, pairs
from tests.tiny import ROOT

QUICK = ["image_size=32", "epoch_length=2", "batch_size=2", "unlabelled_batch_size=2"]


def loop(data, output, *more) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bundle", "label-loop", "--data", str(data), "--output", str(output), "--images"]
    command += ["10", "--test-images", "2", "--start", "2", "--rounds", "1", "--add", "2", "--epochs", "1", *more]
    for value in QUICK:
        command += ["--set", value]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_folder_is_taken_by_one_loop(tmp_path):
    arguments = {"data": "a", "images": 60, "seeds": [0], "orders": ["random"]}
    claim(tmp_path / "new", arguments)
    claim(tmp_path / "new", arguments | {"seeds": [0, 1], "orders": ["first"]})
    with pytest.raises(InputError, match="holds a loop with --images 60, not 50"):
        claim(tmp_path / "new", arguments | {"images": 50})
    (tmp_path / "other").write_text("")
    with pytest.raises(InputError, match="is in use"):
        claim(tmp_path, arguments)


def test_the_data_are_split_by_the_pattern_and_other_classes_are_told_in_options_of_the_command(tmp_path):
    photos, data = mixed_folder(tmp_path / "photos", pairs(10, classes=3)), str(tmp_path / "data")
    assert main(["prepare", str(photos), "--output", data, "--values", "254=1,255=2"]) == 0

    def images(*words):
        words = ["label-loop", "--data", data, "--output", str(tmp_path / "out"), *words]
        arguments = make_parser().parse_args(words)
        return images_of(arguments, Plan(1, 1, 1, 1, settings_of(arguments)))

    with pytest.raises(InputError, match="has 3 classes, but num_classes is 2: pass --set num_classes=3"):
        images()
    assert all(images("--set", "num_classes=3"))
    with pytest.raises(InputError, match="is not a regular expression"):
        images("--set", "num_classes=3", "--group_pattern", "(")


@pytest.mark.skipif(not find_spec("monailabel"), reason="MONAI Label is not installed: run `make test-label`")
def test_a_loop_goes_on_with_the_round_that_was_cut(tmp_path, synthetic_set):
    output = tmp_path / "a loop"
    done = loop(synthetic_set, output, "--orders", "uncertainty")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((output / "curve.csv").open()))
    assert [(row["order"], row["labelled"]) for row in rows] == [("uncertainty", "2"), ("uncertainty", "4")]
    assert [len(row["images"].split()) for row in rows] == [2, 2] and (output / "curve.png").is_file()
    assert not set(rows[0]["images"].split()) & set(rows[1]["images"].split())
    first = (output / "uncertainty-0" / "round00.json").read_bytes()
    again = loop(synthetic_set, output, "--orders", "uncertainty")
    assert "0 rounds to do" in again.stdout and again.returncode == 0
    # as after a kill at the end of the training of round 1: labelled, trained, not yet written down
    weights = output / "uncertainty-0" / "round01.pt"
    weights.rename(output / "uncertainty-0" / "round00.pt")
    (output / "uncertainty-0" / "round01.json").unlink()
    cut = loop(synthetic_set, output, "--orders", "uncertainty")
    assert "1 rounds to do" in cut.stdout and cut.returncode == 0, cut.stderr
    assert (output / "uncertainty-0" / "round00.json").read_bytes() == first
    again = list(csv.DictReader((output / "curve.csv").open()))
    assert [row["labelled"] for row in again] == ["2", "4"]
    assert set(again[1]["images"].split()) == set(rows[1]["images"].split())


@pytest.mark.skipif(not find_spec("monailabel"), reason="MONAI Label is not installed: run `make test-label`")
def test_too_few_images_are_refused(tmp_path, synthetic_set):
    done = loop(synthetic_set, tmp_path / "a", "--add", "20")
    assert done.returncode == 2 and "are to be labelled" in done.stderr and not (tmp_path / "a").exists()
