# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The scribble overlays through the bundle's configs: trained, resumed to the same bit, and evaluated alone."""

import csv
import json

import pytest

from scripts.handlers.checkpoint import load_checkpoint
from tests.methods.test_semi_supervised_runs import train
from tests.test_training import same_run
from tests.tiny import workflow

TERMS = {
    "partial_ce": {"supervised"},
    "entropy_minimisation": {"supervised", "entropy"},
    "ustm": {"supervised", "consistency"},
    "dmpls": {"supervised", "pseudo"},
    "scribsd_plus": {"supervised", "distillation", "contrast"},
}


@pytest.mark.parametrize("name", TERMS)
def test_an_overlay_trains_resumes_bit_for_bit_and_its_weights_need_no_overlay(tmp_path, synthetic_set, name):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(name, whole, synthetic_set, unlabelled_batch_size=0)
    train(name, cut, synthetic_set, epochs=1, unlabelled_batch_size=0)
    assert same_run(whole, train(name, cut, synthetic_set, resume=True, unlabelled_batch_size=0))
    rows = list(csv.DictReader((whole / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {column[5:] for column in rows[0] if column.startswith("loss/")} == TERMS[name]
    assert all(float(row[f"loss/{term}"]) >= 0 for row in rows for term in TERMS[name])
    weights = {"ckpt_path": str(whole / "model.pt"), "results_dir": str(tmp_path / "evaluation")}
    run = {"dataset_dir": str(synthetic_set), "output_dir": str(whole)}
    alone = workflow(["train.json", "evaluate.json"], "evaluating", **run, **weights)
    plain = alone.parser.get_parsed_content("network").state_dict()
    assert load_checkpoint(whole / "model.pt").keys() == plain.keys()
    alone.run()
    assert 0 <= json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["scores"]["mean_dice"] <= 1
