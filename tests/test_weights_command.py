# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle weights``: trains, tests, and only then replaces the shared weights and what is said of them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import jsonschema
import pytest

from bundle import demo, weights
from bundle.__main__ import main
from scripts.handlers.checkpoint import load_checkpoint
from tests.zoo import SCHEMA, clone_of_the_checkout

NAME = "Invented frames, Apache-2.0"
QUICK = ["label_ratio=4", "max_epochs=1", "epoch_length=2", "batch_size=2", "unlabelled_batch_size=2", "device=cpu"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory, synthetic_set):
    """A clone in which the command has run; its folder, the run's, and what was printed."""
    place = tmp_path_factory.mktemp("weights")
    clone = clone_of_the_checkout(place / "clone")
    command = [sys.executable, "-W", "ignore", "-m", "bundle", "weights", "--data", str(synthetic_set), "--name", NAME]
    command += ["--output", str(place / "run"), "--config", "configs/data/dsb2018.yaml", "--settings", *QUICK]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return clone, place / "run", done.stdout


def section(clone) -> str:
    card = (clone / "docs" / "README.md").read_text()
    return card.split(weights.BEGIN)[1].split(weights.END)[0]


def test_the_weights_of_the_run_are_shared(shared):
    clone, run, _ = shared
    content = (clone / "models" / "model.pt").read_bytes()
    assert content == (run / "model.pt").read_bytes() and load_checkpoint(clone / "models" / "model.pt")
    assert hashlib.sha256(content).hexdigest() in section(clone)


def test_the_model_card_tells_the_figures_of_the_evaluation_and_how_they_were_made(shared):
    clone, run, _ = shared
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    text, data = section(clone), json.loads((run / "run.json").read_text())["data"]
    for key in ("mean_dice", "miou", "mean_recall", "worst_decile_dice"):
        assert f"{100 * metrics['scores'][key]:.1f} %" in text
    assert f"{data['training']['count']} images with mask, {data['unlabeled']['count']} without" in text
    assert NAME in text and f"{metrics['images']} to test once" in text and "2 iterations" in text
    training, evaluating = (line for line in text.splitlines() if line.startswith("`python -m monai.bundle run "))
    assert "run training" in training and "run evaluating" in evaluating and "'configs/evaluate.json'" in evaluating
    assert "--output_dir <run>" in training and evaluating.endswith("--output_dir <run> --ckpt_path <run>/model.pt`")
    assert "--label_ratio 4" in evaluating
    assert "--label_ratio 4" in text and "configs/data/dsb2018.yaml" in text and str(run) not in text
    card, before = ((folder / "docs" / "README.md").read_text() for folder in (clone, demo.ROOT))
    assert card.split(weights.BEGIN)[0] == before.split(weights.BEGIN)[0]
    assert card.split(weights.END)[1] == before.split(weights.END)[1]


def test_the_metadata_name_data_classes_and_scores(shared):
    clone, run, _ = shared
    metadata = json.loads((clone / "configs" / "metadata.json").read_text())
    scores = json.loads((run / "evaluation" / "metrics.json").read_text())["scores"]
    assert metadata["data_source"] == NAME and metadata["label_classes"] == "0 background, 1 nucleus"
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "nucleus"}
    assert metadata["eval_metrics"]["mean_dice"] == round(scores["mean_dice"], 4)
    assert list(metadata)[:3] == ["schema", "version", "changelog"]
    if SCHEMA.is_file():
        jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))


def test_what_a_person_still_has_to_read_is_said(shared):
    assert "docs/data_license.txt" in shared[2] and "then commit" in shared[2]


@pytest.mark.parametrize("other", ["data", "settings"])
def test_weights_of_another_run_are_not_given_for_those_asked_for(shared, synthetic_set, tmp_path, other):
    """``make weights`` has one folder for all its runs."""
    clone, run, _ = shared
    data = synthetic_set
    if other == "data":
        data = tmp_path / "same names"
        shutil.copytree(synthetic_set, data)
    settings = QUICK if other == "data" else [*QUICK, "learning_rate=0.5"]
    before = (clone / "models" / "model.pt").read_bytes(), section(clone)
    command = [sys.executable, "-W", "ignore", "-m", "bundle", "weights", "--data", str(data), "--name", "Other frames"]
    command += ["--output", str(run), "--config", "configs/data/dsb2018.yaml", "--settings", *settings]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    told = f"is on {synthetic_set}, not on {data}" if other == "data" else "learning_rate was 0.001 in the run"
    assert done.returncode == 2 and told in done.stderr
    assert ((clone / "models" / "model.pt").read_bytes(), section(clone)) == before


@pytest.mark.parametrize(
    "options, told",
    [
        (["--settings", "image_size=128"], "image_size would be 128, and configs/inference.json"),
        (["--config", "configs/data/acdc.yaml"], "image_size would be 192"),
        (["--config", "configs/networks/unet.yaml"], "leave its overlay out"),
        (["--settings", "label_ratio"], "give KEY=VALUE"),
        (["--name", ""], "--name is empty"),
    ],
)
def test_what_would_not_fit_is_refused_before_training(options, told, synthetic_set, tmp_path, capsys):
    before = (demo.ROOT / "models" / "model.pt").stat().st_mtime
    command = ["weights", "--data", str(synthetic_set), "--name", NAME, "--output", str(tmp_path / "run"), *options]
    assert main(command) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert (demo.ROOT / "models" / "model.pt").stat().st_mtime == before


def test_a_card_without_a_place_for_the_figures_is_refused(tmp_path, synthetic_set, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("# Card\n")
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    assert main(["weights", "--data", str(synthetic_set), "--name", NAME, "--output", str(tmp_path / "run")]) == 2
    assert "docs/README.md has no lines" in capsys.readouterr().err
