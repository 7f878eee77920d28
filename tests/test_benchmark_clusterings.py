# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Clusterings in a suite: cut, continued, scored, published."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from bundle.__main__ import main
from bundle.benchmark.results import RESULT
from scripts.data import load_datalist
from tests.small_suite import SUITE

SMALL = {"algorithm#clusters": 2, "algorithm#starts": 1}
KMEANS = {"kind": "clustering", "configs": ["configs/methods/kmeans.yaml"], "settings": SMALL}


def test_clusterings_are_cut_go_on_and_are_scored_by_the_same_command(suite, tmp_path, synthetic_set, capsys):
    methods = {"kmeans": KMEANS, "three": {**KMEANS, "settings": {**SMALL, "algorithm#clusters": 3}}}
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


def test_images_without_any_lesion_are_said_to_have_no_score(suite, tmp_path, synthetic_set, capsys):
    healthy = shutil.copytree(synthetic_set, tmp_path / "healthy")
    for path in (healthy / "masks").iterdir():
        Image.new("L", Image.open(path).size).save(path)
    data = {"set": {"settings": {"dataset_dir": healthy.name}}}
    grid = {**SUITE["grids"][0], "methods": ["kmeans"], "label_ratios": [0], "seeds": [0]}
    changes = {"baseline": "kmeans", "methods": {"kmeans": KMEANS}, "data": data, "networks": {"small": {}}}
    path = suite(grids=[grid], settings={"image_size": 32}, **changes)
    arguments = ["benchmark", str(path), "--output", str(tmp_path / "bench"), "--data", str(tmp_path)]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert "has a lesion to score" in shown and "1 of 1 runs are not done" in shown
