# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``--tracking mlflow``: one MLflow run holds parameters, curves, pictures, weights and scores, also after a kill."""

import json
import os
import signal
import subprocess
import time
from importlib.util import find_spec

import pytest

from scripts.handlers.checkpoint import load_checkpoint
from tests.test_training import QUICK, command
from tests.tiny import ROOT, SMALL_UNET, error_text, workflow

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is optional and not installed")
TRAIN, EVALUATE = (str(ROOT / "configs" / f"{name}.json") for name in ("train", "evaluate"))
EPOCHS = 12


def start(*arguments: str, **values) -> subprocess.Popen:
    """``python -m monai.bundle run ... --tracking mlflow`` in a process of its own."""
    values |= {"bundle_root": ROOT, "device": "cpu", "network_def": SMALL_UNET, "tracking": "mlflow"}
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    full = command(*arguments, **values)
    return subprocess.Popen(full, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> None:
    """Waits for the end, which must be a good one."""
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def artefacts(client, run_id: str, place: str | None = None) -> set[str]:
    """Paths of every file of a run."""
    found = client.list_artifacts(run_id, place)
    inside = [artefacts(client, run_id, entry.path) for entry in found if entry.is_dir]
    return {entry.path for entry in found if not entry.is_dir}.union(*inside)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, synthetic_set):
    """A training that was killed, resumed and evaluated, on a server that has an unfinished run of somebody else."""
    import mlflow

    place = tmp_path_factory.mktemp("tracking")
    uri = f"sqlite:///{place / 'server.db'}"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("monai_experiment", artifact_location=(place / "files").as_uri())
    other = client.create_run(experiment, run_name="somebody else's").info.run_id
    folder = place / "out"
    shared = {"dataset_dir": synthetic_set, "output_dir": folder, "image_size": 32, "tracking_uri": uri}
    quick = shared | QUICK | {"max_epochs": EPOCHS}
    process = start("training", "--config_file", TRAIN, **quick)
    while not (folder / "latest.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = json.loads((folder / "mlflow.json").read_text())["run_id"]
    assert client.get_run(first).info.status == "RUNNING" and load_checkpoint(folder / "latest.pt")["epoch"] < EPOCHS
    finish(start("training", "--config_file", TRAIN, **quick, resume="true"))
    finish(start("evaluating", "--config_file", f"['{TRAIN}','{EVALUATE}']", **shared, ckpt_path=folder / "model.pt"))
    return client, experiment, first, other, folder


@needs_mlflow
def test_a_resumed_and_evaluated_training_is_one_finished_run(tracked):
    client, experiment, first, other, _ = tracked
    assert {run.info.run_id for run in client.search_runs([experiment])} == {first, other}
    assert client.get_run(first).info.status == "FINISHED" and client.get_run(first).info.run_name.startswith("out ")


@needs_mlflow
def test_an_unfinished_run_of_somebody_else_is_left_alone(tracked):
    client, _, _, other, _ = tracked
    data = client.get_run(other).data
    assert not data.metrics and not data.params and not artefacts(client, other)


@needs_mlflow
def test_the_parameters_are_recorded(tracked):
    client, _, first, _, folder = tracked
    record = json.loads((folder / "run.json").read_text())["parameters"]
    found = client.get_run(first).data.params
    for name in set(record) - {"resume"}:
        assert found[name] == str(record[name]), name
    assert {"learning_rate", "batch_size", "max_epochs", "seed"} <= set(found)


@needs_mlflow
def test_losses_and_validation_scores_are_recorded_for_every_epoch_as_in_the_history(tracked):
    client, _, first, _, folder = tracked
    history = load_checkpoint(folder / "latest.pt")["history"]
    for name in ("loss", "loss/supervised", "weight/consistency", "learning_rate", "val_mean_dice", "val_miou"):
        found = {metric.step: metric.value for metric in client.get_metric_history(first, name)}
        assert found == {row["epoch"]: pytest.approx(row[name]) for row in history}, name
    assert len(history) == EPOCHS


@needs_mlflow
def test_the_scores_of_the_evaluation_are_recorded_apart_from_those_of_validation(tracked):
    client, _, first, _, folder = tracked
    scores = json.loads((folder / "evaluation" / "metrics.json").read_text())["scores"]
    found = client.get_run(first).data.metrics
    assert {f"test_{name}": value for name, value in scores.items() if value is not None}.items() <= found.items()


@needs_mlflow
def test_pictures_weights_and_report_are_kept(tracked, tmp_path):
    client, _, first, _, folder = tracked
    names = artefacts(client, first)
    assert {"model.pt", "curves.png", "history.csv", "run.json", "evaluation/report.html"} <= names
    assert {"evaluation/metrics.json", "evaluation/cases.png", "evaluation/errors.png"} <= names
    overlays = {f"evaluation/overlays/{path.name}" for path in (folder / "evaluation" / "overlays").iterdir()}
    assert overlays and overlays <= names and any(name.startswith("config_") for name in names)
    for name in ("model.pt", "curves.png"):
        kept = client.download_artifacts(first, name, str(tmp_path))
        assert open(kept, "rb").read() == (folder / name).read_bytes()


def test_without_mlflow_a_sentence_says_what_to_install(tmp_path, synthetic_set, monkeypatch):
    monkeypatch.setattr("scripts.run.guard.find_spec", lambda name: None)
    uri = f"sqlite:///{tmp_path / 'server.db'}"
    made = workflow(dataset_dir=str(synthetic_set), output_dir=str(tmp_path / "out"), tracking_uri=uri)
    with pytest.raises(Exception) as caught:
        made.run()
    assert error_text(caught.value) == "tracking: mlflow is not installed: run pip install mlflow"
    assert not (tmp_path / "out").exists()


def test_without_tracking_nothing_is_tracked(tmp_path, synthetic_set):
    made = workflow(dataset_dir=str(synthetic_set), output_dir=str(tmp_path), max_epochs=1)
    made.run()
    assert not (tmp_path / "mlflow.json").exists()
