# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The report is one well-formed page that loads nothing, and the command line makes it anew."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.__main__ import main
from scripts.errors import InputError
from scripts.metrics import DEFINITIONS
from scripts.report import absence_note, duration, write_report

ROOT = Path(__file__).parents[1]


def a_run(folder):
    """A training with an evaluation, whose texts would break a page that does not escape them."""
    evaluation = folder / "evaluation"
    (evaluation / "overlays").mkdir(parents=True)
    run = {"parameters": {"dataset_dir": "<b>&\"'", "image_size": [64, 48]}, "versions": {"torch": "2"}}
    run |= {"definitions": {"network_def": {"_target_": "scripts.networks.<LESSNet>"}}, "data": {"test": {"count": 9}}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "history.csv").write_text("epoch,seconds,loss,val_mean_dice\n1,30,0.5,\n2,35.5,0.25,0.75\n")
    scores = {"mean_dice": 0.81234, "hd95": None, "distance_left_out": 3}
    metrics = {"scores": scores, "definitions": DEFINITIONS, "images": 9, "images_with_lesion": 8, "seconds": 3.2}
    metrics |= {"scored_at": {"size": [64, 48], "how": "here"}, "classes": [], "device": "cpu", "part": "test"}
    (evaluation / "metrics.json").write_text(json.dumps(metrics))
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    for path in (folder / "curves.png", evaluation / "cases.png", evaluation / "overlays" / "worst_1_a&b.png"):
        Image.fromarray(noise if path.name == "cases.png" else noise[:20, :20]).save(path)
    return folder


@pytest.mark.parametrize("part", ["", "evaluation"])
def test_the_page_is_whole_and_loads_nothing(tmp_path, part):
    page = write_report(a_run(tmp_path) / part)
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / part / "report.html"
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))  # well-formed: every tag closed, every text escaped
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link", re.sub(r'base64,[^"]*', "", text))
    assert set(re.findall(r'src="(data:image/\w+);base64', text)) == {"data:image/png", "data:image/jpeg"}
    assert text.count("<img") == 3
    for expected in (
        "0.8123",
        "no value",
        "1 min 6 s",
        "image_size",
        "64 x 48",
        DEFINITIONS["mean_dice"][:20],
        "0.75",
        "&lt;LESSNet",
    ):
        assert expected in text, expected


def test_weights_of_another_run_are_reported_apart(tmp_path):
    run = a_run(tmp_path / "mine")
    path = run / "evaluation" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": "models/model.pt"}))
    alone, training = (write_report(folder).read_text(encoding="utf-8") for folder in (path.parent, run))
    assert "0.8123" in alone and "LESSNet" not in alone and "1 min 6 s" not in alone
    assert "0.8123" not in training and "LESSNet" in training and "1 min 6 s" in training
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": str(run / "model.pt")}))
    assert "LESSNet" in write_report(path.parent).read_text(encoding="utf-8")


def test_volumes_and_millimetres_are_told(tmp_path):
    path = a_run(tmp_path) / "evaluation" / "metrics.json"
    scores = {"hd95": 4.2, "assd": 1.0}
    classes = [{"class": k, "name": f"class {k}", "cases": 3, "hd95": 2.5} for k in (1, 2)]
    volumes = {"volumes": 3, "cases": 4, "cases_with_lesion": 2, "distance_unit": "mm", "images": 90}
    content = json.loads(path.read_text()) | volumes | {"scores": scores, "classes": classes}
    path.write_text(json.dumps(content | {"scored_at": {"size": None, "how": "here"}}))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    for expected in (
        "4.20 mm",
        "2.50 mm",
        "3 volumes of slices, in all 4 cases, 2 with a lesion",
        "that of each image",
    ):
        assert expected in text, expected
    assert " px" not in text


def test_several_absent_classes_and_all_of_them():
    rows = [{"class": k, "name": name} for k, name in ((1, "disc"), (2, "class 2"), (3, "cup"))]
    metrics = {"classes": rows, "absent_classes": [2, 3], "mean_dice_without_absent": 0.25}
    metrics |= {"scores": {"mean_dice": 0.75}}
    assert absence_note(metrics) == (
        "classes 2 and 3 (cup) are in no reference mask of these cases and count 1 where they are not predicted: "
        "without them mean_dice is 0.250 instead of 0.750"
    )
    alone = absence_note(metrics | {"absent_classes": [1], "mean_dice_without_absent": None})
    assert alone == "class 1 (disc) is in no reference mask of these cases and counts 1 where it is not predicted"
    assert absence_note({"classes": rows}) == ""


def test_a_training_alone_has_a_page_too(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,seconds,loss\n1,30,0.5\n")
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "The last epoch in numbers" in text and "Scores" not in text


def test_bad_folders_are_refused(tmp_path):
    for folder, message in ((tmp_path / "none", "no folder"), (tmp_path, "holds no run")):
        with pytest.raises(InputError, match=message):
            write_report(folder)
    (tmp_path / "run.json").write_text("{cut")
    with pytest.raises(InputError, match="run.json is damaged"):
        write_report(tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "history.csv").write_text("epoch,seconds\n1,abc\n")
    with pytest.raises(InputError, match="history.csv is damaged .*'abc'"):
        write_report(tmp_path)


@pytest.mark.parametrize("seconds, text", [(3.21, "3.2 s"), (42.4, "42 s"), (303, "5 min 3 s"), (7810, "2 h 10 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_command_line(tmp_path, capsys):
    assert main(["report", str(a_run(tmp_path / "run"))]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    assert main(["report", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: no folder")
    for argv in ([], ["nonsense"], ["report"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2


def test_the_module_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bundle", "report", str(a_run(tmp_path))], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0 and (tmp_path / "report.html").is_file()
