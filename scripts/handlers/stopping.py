# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Early stopping on validation, with a count that survives a killed run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping as IgniteEarlyStopping
from monai.engines import Evaluator

from scripts.engines.trainer import SemiSupervisedTrainer


class EarlyStopping:
    """Ignite's early stopping on the validator's key metric.

    Args:
        validator: its key metric counts.
        patience: validations without a better score after which the run ends; 0 or None: never.
    """

    def __init__(self, validator: Evaluator, patience: int | None = None) -> None:
        self.validator, self.patience = validator, int(patience or 0)
        self.stopper: IgniteEarlyStopping | None = None

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer (and, through it, with the validator)."""
        if self.patience < 1 or self.validator.state.key_metric_name is None:
            return
        self.stopper = IgniteEarlyStopping(self.patience, self.score, engine)
        self.validator.add_event_handler(Events.COMPLETED, self.stopper)
        engine.stateful["early_stopping"] = self

    @staticmethod
    def score(validator: Engine) -> float:
        """The validator's key metric."""
        return float(validator.state.metrics[validator.state.key_metric_name])

    def state_dict(self) -> dict[str, Any]:
        """Count and best score, as plain numbers."""
        return dict(self.stopper.state_dict()) if self.stopper else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the count; a run that had stopped stays stopped."""
        if self.stopper is None or not state:
            return
        self.stopper.load_state_dict(state)
        if self.stopper.counter >= self.patience:
            self.stopper.trainer.terminate()
