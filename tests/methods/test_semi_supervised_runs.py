# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The overlays for masks, and the pretraining, through the configs: trained, resumed to the same bit, evaluated."""

import csv
import json
import subprocess
import sys

import pytest
from ignite.engine import Events

from tests.test_training import same_run
from tests.tiny import ROOT, SMALL_UNET, workflow

TERMS = {
    "bcp": {"supervised", "consistency"},
    "cluster_pretraining": {"clustering", "affine", "spatial"},
    "cps": {"supervised", "cross"},
    "crii_net": {"supervised", "consistency", "intra", "inter"},
    "fixmatch": {"supervised", "consistency"},
    "mean_teacher": {"supervised", "consistency"},
    "multiscale_contrast": {"supervised", "cross", "patch", "pixel"},
    "ua_mt": {"supervised", "consistency"},
    "unimatch": {"supervised", "strong", "feature"},
}


def train(name, folder, data, epochs=None, **overrides):
    """One run; with ``epochs`` it is ended early, as if killed there."""
    files = ["train.json", f"methods/{name}.yaml"]
    made = workflow(files, dataset_dir=str(data), output_dir=str(folder), **overrides)
    if epochs:
        trainer = made.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), lambda engine: engine.terminate())
    made.run()
    return folder


@pytest.mark.parametrize("name", TERMS)
def test_an_overlay_trains_resumes_bit_for_bit_and_evaluates(tmp_path, synthetic_set, name):
    whole = train(name, tmp_path / "whole", synthetic_set)
    rows = list(csv.DictReader((whole / "history.csv").open()))
    assert {column[5:] for column in rows[0] if column.startswith("loss/")} <= TERMS[name]
    assert {column[5:] for column in rows[-1] if column.startswith("loss/")} == TERMS[name]
    assert all(float(rows[-1][f"loss/{term}"]) >= 0 for term in TERMS[name])
    train(name, tmp_path / "cut", synthetic_set, epochs=1)
    assert same_run(whole, train(name, tmp_path / "cut", synthetic_set, resume=True))
    weights = {"ckpt_path": str(whole / "model.pt"), "results_dir": str(tmp_path / "evaluation")}
    run = {"dataset_dir": str(synthetic_set), "output_dir": str(whole)}
    workflow(["train.json", f"methods/{name}.yaml", "evaluate.json"], "evaluating", **run, **weights).run()
    assert 0 <= json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["scores"]["mean_dice"] <= 1


def test_a_coarse_refined_network_predicts_with_its_overlay(tmp_path, synthetic_set):
    folder = train("crii_net", tmp_path / "run", synthetic_set)
    configs = [str(ROOT / "configs" / name) for name in ("inference.json", "networks/coarse_refined.yaml")]
    settings = {"dataset_dir": synthetic_set / "images", "output_dir": tmp_path / "masks", "image_size": 32}
    settings |= {"ckpt_path": folder / "model.pt", "network_def": SMALL_UNET, "bundle_root": ROOT, "device": "cpu"}
    arguments = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inferring", "--config_file", str(configs)]
    done = subprocess.run(command + arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "masks").glob("*.png"))) == len(list((synthetic_set / "images").iterdir()))
