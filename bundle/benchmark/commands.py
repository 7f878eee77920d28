# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The bundle commands of a run, as a user types them from the bundle's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.benchmark.suite import Run
from scripts.overrides import argument
from scripts.run.folder import BEST, LATEST

TRAINING_CONFIG = "configs/train.json"
CLUSTERS = "clusters"  # what a clustering writes into, below the folder of its run
#: the file that a cut run of each kind goes on from
RESUMES_FROM = {"training": LATEST, "clustering": f"{CLUSTERS}/clustering.json"}


def commands(run: Run, folder: str | Path, data_root: str | Path, resume: bool = False) -> dict[str, list[str]]:
    """Training and evaluation of a run, or its clustering, which scores as well.

    Args:
        run: of a suite.
        folder: output of the run.
        data_root: folder below which its data set lies.
        resume: the training goes on from its last checkpoint; a clustering goes on by itself.
    """
    settings = dict(run.settings)
    if settings.get("dataset_dir"):
        settings["dataset_dir"] = Path(data_root, settings["dataset_dir"])
    if run.kind == "clustering":
        own = {"seed": run.seed, "output_dir": Path(folder, CLUSTERS), "part": run.part}
        return {"cluster": _command("clustering", ["configs/clustering.json", *run.configs], settings | own)}
    settings |= {"label_ratio": run.label_ratio, "seed": run.seed, "output_dir": folder}
    score = {"ckpt_path": Path(folder, BEST), "part": run.part, "overwrite": "true"}
    files = [TRAINING_CONFIG, *run.configs]
    return {
        "train": _command("training", files, settings | ({"resume": "true"} if resume else {})),
        "evaluate": _command("evaluating", [*files, "configs/evaluate.json"], settings | score),
    }


def first(commands: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and command of the first step of a run: what tells the run from others."""
    return next(iter(commands.items()))


def _command(run_id: str, files: list[str], values: dict[str, Any]) -> list[str]:
    command = ["python", "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    return command + [part for key, value in values.items() for part in (f"--{key}", argument(value))]
