# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The latest and the best checkpoint: atomic, loadable with ``weights_only``, and everything needed to resume."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Evaluator

from scripts import distributed
from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.errors import InputError
from scripts.files import atomic_save, load_checkpoint
from scripts.run.folder import BEST, HISTORY, LATEST
from scripts.switches import as_bool

logger = logging.getLogger("less_net")


class Checkpoints:
    """Writes ``latest.pt`` and ``model.pt`` and, with ``resume``, continues from the former.

    ``latest.pt`` holds network, rule, optimiser, schedule, loss scaler, position, best score, the state of the
    handlers in ``trainer.stateful``, the rows of the history, and the state of every random generator (of each process
    of a distributed run, of which the first one writes): tensors and plain Python numbers only. ``model.pt`` is the
    plain ``state_dict`` of ``rule.deployed`` at the best validation score, or at the end where nothing validates.

    Stands last among the handlers: what the others do at an epoch's end is then in the checkpoint, and what a resumed
    run loads at its start is not overwritten by them.

    Args:
        output_dir: folder of both files.
        interval: epochs between two writings of ``latest.pt`` (the last epoch is always written).
        validator: its key metric chooses the best weights.
        lr_scheduler: saved and restored with the rest.
        resume: continue from ``latest.pt``.
        model_file: where the best weights go instead of ``<output_dir>/model.pt``.
    """

    def __init__(
        self,
        output_dir: str,
        interval: int = 1,
        validator: Evaluator | None = None,
        lr_scheduler: Any = None,
        resume: bool = False,
        model_file: str | None = None,
    ) -> None:
        self.latest = Path(output_dir) / LATEST
        self.best = Path(model_file) if model_file else Path(output_dir) / BEST
        self.interval, self.validator, self.lr_scheduler = int(interval), validator, lr_scheduler
        self.resume = as_bool(resume, "resume")
        self.saved_epoch = 0

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save_best)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save_latest)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: SemiSupervisedTrainer) -> None:
        """Load the checkpoint that is to be resumed; a second ``run`` of the same trainer goes on from memory."""
        if self.resume and distributed.from_main(self.latest.is_file):
            self.load(engine)
        elif self.resume:
            distributed.from_main(self.check_lost)
            logger.info("the run was cut before its first checkpoint: it starts from the beginning")
        self.resume = False

    def check_lost(self) -> None:
        """A run that got past its first checkpoint is not begun anew over its weights because the file is gone.

        A row of the history is written before the checkpoint of its epoch: a run that a full disk or a kill ended
        between the two has lost no more than it would have without the row.

        Raises:
            InputError: naming the folder and the mend.
        """
        history = self.latest.with_name(HISTORY)
        epochs = len(history.read_text(encoding="utf-8").splitlines()) - 1 if history.is_file() else 0
        if epochs > self.interval:
            raise InputError(
                f"resume: {self.latest.parent} holds {epochs} epochs of a run, but no {LATEST} to go on from: train "
                f"anew in another output_dir, from its weights by --initial_weights {self.best} if you like"
            )

    def save_best(self, engine: SemiSupervisedTrainer) -> None:
        """Keep the deployed network's weights when this epoch's validation was the best so far."""
        if self.validator is not None and self.validator.state.best_metric_epoch == engine.state.epoch:
            save(self.best, on_the_cpu(engine.rule.deployed.state_dict()))

    def save_latest(self, engine: SemiSupervisedTrainer) -> None:
        """Write everything a resumed run needs."""
        save(self.latest, self.content(engine))
        self.saved_epoch = engine.state.epoch

    def finish(self, engine: SemiSupervisedTrainer) -> None:
        """The end of the run, also when early stopping ended it."""
        whole = engine.state.iteration == engine.state.epoch * engine.state.epoch_length  # not stopped within an epoch
        if self.saved_epoch != engine.state.epoch and whole:
            self.save_latest(engine)
        chosen = self.validator is not None and self.validator.state.best_metric_epoch >= 0
        lost = chosen and not self.best.is_file()  # removed since, and no epoch was better
        if lost:
            logger.warning("%s, the weights of the best epoch, is gone: it gets those of the last one", self.best)
        if lost or not chosen:
            save(self.best, on_the_cpu(engine.rule.deployed.state_dict()))
        logger.info("done: weights %s; curves and history in %s", self.best.resolve(), self.latest.resolve().parent)

    def parts(self, engine: SemiSupervisedTrainer) -> dict[str, Any]:
        """Everything with a ``state_dict`` of its own, by name."""
        parts = {
            "network": engine.student,
            "rule": engine.rule,
            "optimizer": engine.optimizer,
            "scaler": engine.scaler,
            **engine.stateful,
        }
        return parts | ({"lr_scheduler": self.lr_scheduler} if self.lr_scheduler is not None else {})

    def content(self, engine: SemiSupervisedTrainer) -> dict[str, Any]:
        """The content of ``latest.pt``."""
        best = (-1.0, -1)
        if self.validator is not None:
            best = float(self.validator.state.best_metric), int(self.validator.state.best_metric_epoch)
        return {
            **{name: part.state_dict() for name, part in self.parts(engine).items()},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best_metric": best[0],
            "best_metric_epoch": best[1],
            "history": engine.history,
            "random": distributed.gathered_objects(random_state(engine.state.device)),
        }

    def load(self, engine: SemiSupervisedTrainer) -> None:
        """Continue where ``latest.pt`` was written.

        Raises:
            InputError: no such file, damaged, or of another network, rule or number of processes.
        """
        content = distributed.from_main(lambda: load_checkpoint(self.latest))
        for name, part in self.parts(engine).items():
            if name in content or name not in engine.stateful:  # a handler that is new, as patience, counts afresh
                self.load_part(name, part, content)
        distributed.from_main(lambda: self.check_processes(len(content["random"])))
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        engine.data_loader.seek(content["iteration"])
        engine.history[:] = content["history"]
        self.saved_epoch = content["epoch"]
        if self.validator is not None:
            self.validator.state.best_metric = content["best_metric"]
            self.validator.state.best_metric_epoch = content["best_metric_epoch"]
        set_random_state(content["random"][distributed.rank()], engine.state.device)
        logger.info("resumed from %s after epoch %d of %d", self.latest, engine.state.epoch, engine.state.max_epochs)

    def check_processes(self, before: int) -> None:
        """As many processes go on as there were: their batches together are the batch, and each has its random numbers.

        Raises:
            InputError: naming both numbers.
        """
        if before != distributed.world_size():
            raise InputError(
                f"processes was {before} in the run in {self.latest.parent} and is {distributed.world_size()} now: "
                "resume with what it was, or give another output_dir"
            )

    def load_part(self, name: str, part: Any, content: Mapping[str, Any]) -> None:
        """Hand one part its state."""
        try:
            part.load_state_dict(content[name])
        except Exception as error:  # modules raise RuntimeError, optimisers ValueError or KeyError...
            reason = str(error).strip().splitlines()[-1].strip()
            raise InputError(
                f"{self.latest} does not fit this {name} ({reason}): resume with the network, classes and method it "
                "was written with, or start anew in another output_dir"
            ) from error


@distributed.main_only
def save(path: Path, content: Any) -> None:
    """Write a file, in one process of a distributed run."""
    atomic_save(path, content)


def on_the_cpu(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights as a plain ``torch.load`` can read them on a machine without a GPU."""
    for key, value in state.items():
        state[key] = value.cpu()
    return state


def random_state(device: torch.device) -> dict[str, Any]:
    """States of Python's, NumPy's and torch's global generators, as tensors and plain numbers; of CUDA's that of the
    ``device`` that trains alone, where it is one."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": {"version": version, "internal": torch.tensor(internal), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(keys.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Inverse of :func:`random_state`, on whichever GPU the run goes on: to begin anew there would draw the first views
    again."""
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["internal"].tolist()), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and device.type == "cuda":
        number = min(device.index or 0, len(state["cuda"]) - 1)  # older files hold those of all GPUs
        torch.cuda.set_rng_state(state["cuda"][number], device)
