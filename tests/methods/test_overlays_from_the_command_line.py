# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every overlay as a user runs it: `python -m monai.bundle run` in a process of its own, on the whole network.

That each loss reaches a parameter is tested in ``test_rules.py``, where gradients can be looked at.
"""

import csv
import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from PIL import Image

from scripts.files import load_checkpoint
from scripts.methods import LearningRule
from tests.methods.test_scribble_runs import TERMS as SCRIBBLES
from tests.methods.test_semi_supervised_runs import TERMS as SEMI_SUPERVISED
from tests.tiny import ROOT

TERMS = SEMI_SUPERVISED | SCRIBBLES
TERMS |= {
    "supervised": {"supervised"},
    "less_net": {"supervised", "consistency", "contrast"},
    "mean_teacher": {"supervised", "consistency"},
    "cluster_pretraining": {"clustering", "affine", "spatial"},
}
#: here in every run of the tests; the peers, which ``test_semi_supervised_runs.py`` and ``test_scribble_runs.py`` train
#: through the same configs, with the slow ones
OFTEN = ("supervised", "less_net", "crii_net", "multiscale_contrast", "scribsd_plus", "cluster_pretraining")
PEERS = [pytest.param(name, marks=pytest.mark.slow) for name in TERMS if name not in OFTEN]
CLUSTERING = ("kmeans", "feature_clustering", "s3_net")
WRAPPED = {"crii_net": ["networks/coarse_refined.yaml"]}  # what inference needs besides


def start(command, files, **settings):
    """The process."""
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    names = str([f"configs/{name}" for name in files])
    call = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", command, "--config_file", names, *words]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes)


def bundle(command, files, **settings):
    """Runs it to a good end."""
    with start(command, files, **settings) as process:
        complaint = process.communicate()[1]
    assert process.returncode == 0, complaint


def training(name, data, folder, **settings):
    """What ``start`` and ``bundle`` take for a tiny training."""
    tiny = {"image_size": 32, "max_epochs": 2, "epoch_length": 2, "batch_size": 2, "label_ratio": 0.5, "device": "cpu"}
    both = {"dataset_dir": data, "output_dir": folder}
    return ("training", ["train.json", f"methods/{name}.yaml"]), tiny | both | settings


def train(name, data, folder, **settings):
    words, values = training(name, data, folder, **settings)
    bundle(*words, **values)
    return folder


def rows(folder):
    with (folder / "history.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_overlay_is_here():
    assert {path.stem for path in (ROOT / "configs" / "methods").glob("*.yaml")} == set(TERMS) | set(CLUSTERING)


@pytest.mark.parametrize("name", [*OFTEN, *PEERS])
def test_it_trains_and_every_loss_it_names_is_finite(tmp_path, synthetic_set, name):
    folder = train(name, synthetic_set, tmp_path / "run")
    for row in rows(folder):
        losses = {column.removeprefix("loss/"): float(row[column]) for column in row if column.startswith("loss/")}
        assert all(math.isfinite(value) for value in losses.values()) and set(losses) <= TERMS[name]
    assert set(losses) == TERMS[name]
    target = yaml.safe_load((ROOT / "configs" / "methods" / f"{name}.yaml").read_text())["method"]["_target_"]
    rule = getattr(__import__("scripts.methods", fromlist=["methods"]), target.rpartition(".")[2])
    assert issubclass(rule, LearningRule) and TERMS[name] <= set(rule.losses)
    weights = load_checkpoint(folder / "model.pt")
    assert weights and all(value.isfinite().all() for value in weights.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", TERMS)
def test_it_goes_on_is_evaluated_and_predicts(tmp_path, synthetic_set, name):
    folder, longer = tmp_path / "run", {"max_epochs": 8, "epoch_length": 3}
    words, values = training(name, synthetic_set, folder, **longer)
    with start(*words, **values) as process:
        while process.poll() is None and not (folder / "latest.pt").is_file():
            time.sleep(0.01)
        process.kill()
    assert 0 < len(rows(folder)) < 8
    train(name, synthetic_set, folder, **longer, resume=True)
    assert [row["epoch"] for row in rows(folder)] == [str(epoch) for epoch in range(1, 9)]
    weights = {"ckpt_path": folder / "model.pt", "device": "cpu", "image_size": 32}
    data = {"dataset_dir": synthetic_set, "output_dir": folder, "results_dir": tmp_path / "evaluation"}
    bundle("evaluating", ["train.json", f"methods/{name}.yaml", "evaluate.json"], **weights, **data)
    scores = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["scores"]
    assert 0 <= scores["mean_dice"] <= 1
    data = {"dataset_dir": synthetic_set / "images", "output_dir": tmp_path / "masks"}
    bundle("inferring", ["inference.json", *WRAPPED.get(name, [])], **weights, **data)
    assert len(list((tmp_path / "masks").glob("*.png"))) == len(list((synthetic_set / "images").iterdir()))


@pytest.mark.parametrize("name", CLUSTERING)
def test_it_clusters_a_folder(tmp_path, synthetic_set, name):
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((synthetic_set / "images").iterdir())[:2]:
        Image.open(path).save(images / path.name)
    bundle(
        "clustering",
        ["clustering.json", f"methods/{name}.yaml"],
        dataset_dir=images,
        output_dir=tmp_path / "out",
        image_size=48,
    )
    found = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").rglob("*.png"))]
    assert len(found) >= 2 and any(len(np.unique(values)) > 1 for values in found)
