# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The scribble overlays through the bundle's configs: trained, resumed, and evaluated without their overlay."""

import csv
import json

import pytest

from scripts.handlers.checkpoint import load_checkpoint
from tests.tiny import workflow

TERMS = {
    "partial_ce": {"supervised"},
    "entropy_minimisation": {"supervised", "entropy"},
    "ustm": {"supervised", "consistency"},
    "dmpls": {"supervised", "pseudo"},
    "scribsd_plus": {"supervised", "distillation", "contrast"},
}


@pytest.mark.parametrize("name", TERMS)
def test_an_overlay_trains_resumes_and_its_weights_need_no_overlay(tmp_path, synthetic_set, name):
    run = {"dataset_dir": str(synthetic_set), "output_dir": str(tmp_path)}
    files = ["train.json", f"methods/{name}.yaml"]
    for resume in (False, True):  # the second finds a finished run: it loads all of it and has nothing to do
        made = workflow(files, resume=resume, unlabelled_batch_size=0, **run)
        made.run()
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {column[5:] for column in rows[0] if column.startswith("loss/")} == TERMS[name]
    assert all(float(row[f"loss/{term}"]) >= 0 for row in rows for term in TERMS[name])
    plain = made.parser.get_parsed_content("network").state_dict()
    assert load_checkpoint(tmp_path / "model.pt").keys() == plain.keys()
    weights = {"ckpt_path": str(tmp_path / "model.pt"), "results_dir": str(tmp_path / "evaluation")}
    workflow(["train.json", "evaluate.json"], "evaluating", **run, **weights).run()
    assert 0 <= json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["scores"]["mean_dice"] <= 1
