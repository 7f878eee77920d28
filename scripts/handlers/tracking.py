# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Makes MONAI's ``--tracking mlflow`` complete: parameters, every row of the history, pictures, weights, scores.

MONAI appends its ``MLFlowHandler`` to the handlers of trainer and evaluator when a run is started with ``--tracking``;
the handlers here stand before it, find it, and do nothing where there is none. On its own it would mix up runs of one
experiment that are under way at the same time (it takes any unfinished one where no name is given), and its record of
the loss expects outputs that are split into single images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from scripts import overrides
from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.files import atomic_write
from scripts.run.folder import BEST, HISTORY, RUN_FILE, is_of_run

#: which run of which server belongs to the folder
MLFLOW_FILE = "mlflow.json"
#: of a training's and of an evaluation's folder
TRAINING_FILES = (RUN_FILE, "config_*.json", HISTORY, "curves.png", BEST)
EVALUATION_FILES = ("metrics.json", "per_image.csv", "per_volume.csv", "confusion.csv")
EVALUATION_FILES += ("cases.png", "errors.png", "confusion.png", "report.html", "overlays")


class _Tracked:
    """What training and evaluation share.

    Args:
        output_dir: folder of the training, which remembers its MLflow run.
    """

    def __init__(self, output_dir: str) -> None:
        self.output_dir = Path(output_dir)
        self.tracker: MLFlowHandler | None = None

    def known_run(self) -> Any:
        """The run that the folder remembers, if it remembers one and the server knows it."""
        path = self.output_dir / MLFLOW_FILE
        if not path.is_file():
            return None
        from mlflow.exceptions import MlflowException

        try:
            return self.tracker.client.get_run(json.loads(path.read_text(encoding="utf-8"))["run_id"])
        except MlflowException:  # recorded on another server
            return None

    def open_run(self, engine: Engine, name: str) -> None:
        """Goes on in the run that the folder remembers, else begins one of this name."""
        self.tracker.cur_run = self.known_run()
        self.tracker.run_name = self.tracker.run_name or name
        self.tracker.start(engine)  # when MONAI calls it again it finds the run and changes nothing

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Records the numbers among the values."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        numbers = [Metric(k, float(v), now, step) for k, v in metrics.items() if isinstance(v, (int, float))]
        self.tracker.client.log_batch(self.tracker.cur_run.info.run_id, metrics=numbers)

    def log_files(self, folder: Path, patterns: tuple[str, ...], place: str | None = None) -> None:
        """Keeps those of the files and folders that are there, in ``place`` among the artefacts."""
        run_id, client = self.tracker.cur_run.info.run_id, self.tracker.client
        for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
            if path.is_dir():
                client.log_artifacts(run_id, str(path), f"{place}/{path.name}" if place else path.name)
            else:
                client.log_artifact(run_id, str(path), place)


class TrackedTraining(_Tracked):
    """The training's parameters at its start, a row of the history an epoch, its files at the end.

    A resumed training goes on in the run in which it began, and the validator's scores, which MONAI records, go there
    too. Stands after the history and the checkpoints.

    Args:
        output_dir: folder of the training.
        parameters: the user's parameters by name.
    """

    def __init__(self, output_dir: str, parameters: Mapping[str, Any]) -> None:
        super().__init__(output_dir)
        self.parameters = dict(parameters)
        self.recorded: set[int] = set()  # epochs

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: SemiSupervisedTrainer) -> None:
        """Before MONAI's handler starts: which run it shall record, and how; the parameters."""
        self.tracker = tracker_among("train#handlers")
        if self.tracker is None:
            return
        self.tracker.iteration_logger, self.tracker.epoch_logger = self.no_iteration, self.epoch
        self.open_run(engine, f"{self.output_dir.resolve().name} {self.started()}")
        run_id, client = self.tracker.cur_run.info.run_id, self.tracker.client
        known = client.get_run(run_id).data.params
        for name, value in self.parameters.items():
            if name not in known and name != "resume":
                client.log_param(run_id, name, value)
        self.recorded = {metric.step for metric in client.get_metric_history(run_id, "loss")}
        address = {"run_id": run_id, "tracking_uri": client.tracking_uri}
        atomic_write(self.output_dir / MLFLOW_FILE, json.dumps(address).encode())
        watcher = tracker_among("validate#handlers")
        if watcher is not None:
            watcher.cur_run = self.tracker.cur_run

    def started(self) -> str:
        """When the training began, also where it is resumed now."""
        record = self.output_dir / RUN_FILE
        if not record.is_file():
            return time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return json.loads(record.read_text(encoding="utf-8"))["started"]

    def epoch(self, engine: SemiSupervisedTrainer) -> None:
        """Records the rows of the history that are not there yet: the epoch's, and what a kill cut off before.

        The validator's scores are recorded by MONAI's own handler.
        """
        for row in engine.history:
            if row["epoch"] not in self.recorded:
                self.log({k: v for k, v in row.items() if not k.startswith("val_") and k != "epoch"}, row["epoch"])
                self.recorded.add(row["epoch"])

    def no_iteration(self, engine: SemiSupervisedTrainer) -> None:
        """Nothing: a record an iteration would wait for the device and the server each time."""

    def finish(self, engine: SemiSupervisedTrainer) -> None:
        """Curves, history and weights, before MONAI's handler closes the run."""
        if self.tracker is not None:
            self.log_files(self.output_dir, TRAINING_FILES)


class TrackedEvaluation(_Tracked):
    """The scores of ``metrics.json``, the pictures and the report, in the run of the training in ``output_dir``.

    Without a tracked training there, or with the weights of another one, it makes a run of its own. Stands after
    :class:`EvaluationResults`.

    Args:
        output_dir: folder of the training.
        results_dir: folder of the evaluation.
        part: of the data set; its scores are recorded as ``<part>_<score>``.
        checkpoint: the weights that are evaluated; None: those of the training.
    """

    def __init__(self, output_dir: str, results_dir: str, part: str = "test", checkpoint: str | None = None) -> None:
        super().__init__(output_dir)
        self.results_dir, self.part, self.checkpoint = Path(results_dir), part, checkpoint

    def known_run(self) -> Any:
        """The run of the training, if its weights are evaluated."""
        own = self.checkpoint is None or is_of_run(self.checkpoint, self.output_dir)
        return super().known_run() if own else None

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Before MONAI's handler starts: which run it shall record, and that the scores come at the end."""
        self.tracker = tracker_among("validate#handlers")
        if self.tracker is None:
            return
        self.tracker.epoch_logger = self.no_epoch
        self.open_run(engine, f"{self.results_dir.resolve().name} {time.strftime('%Y-%m-%dT%H:%M:%S%z')}")

    def no_epoch(self, engine: Engine) -> None:
        """Nothing: the evaluator's only epoch would look like the first of the training."""

    def finish(self, engine: Engine) -> None:
        """Scores and files."""
        if self.tracker is None:
            return
        scores = json.loads((self.results_dir / "metrics.json").read_text(encoding="utf-8"))["scores"]
        self.log({f"{self.part}_{name}": value for name, value in scores.items()}, 0)
        self.log_files(self.results_dir, EVALUATION_FILES, self.results_dir.name)
        self.tracker.close()


def tracker_among(name: str) -> MLFlowHandler | None:
    """The ``MLFlowHandler`` among the handlers of the config section ``name``, where MONAI has appended one."""
    workflow = overrides.running_workflow()
    if workflow is None or "tracking_uri" not in workflow.parser:
        return None
    handlers = workflow.parser.get_parsed_content(name)
    return next((handler for handler in handlers if isinstance(handler, MLFlowHandler)), None)
