# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers: one job each."""

from scripts.handlers.checkpoint import Checkpoints
from scripts.handlers.history import History
from scripts.handlers.hosting import OptionalValidationHandler, Publish
from scripts.handlers.images import ValidationImages
from scripts.handlers.nonfinite import StopOnNonFinite
from scripts.handlers.predictions import ImageProgress, Overlays
from scripts.handlers.progress import Progress
from scripts.handlers.progressive import ProgressiveSize
from scripts.handlers.ranks import Synchronise
from scripts.handlers.results import EvaluationResults
from scripts.handlers.rounds import RoundCheckpoints
from scripts.handlers.scores import SegmentationScores
from scripts.handlers.stopping import EarlyStopping
from scripts.handlers.teacher import TeacherUpdate
from scripts.handlers.tracking import TrackedEvaluation, TrackedTraining
from scripts.handlers.weights import StrictCheckpointLoader

__all__ = [
    "Checkpoints",
    "EarlyStopping",
    "EvaluationResults",
    "History",
    "ImageProgress",
    "OptionalValidationHandler",
    "Overlays",
    "Progress",
    "ProgressiveSize",
    "Publish",
    "RoundCheckpoints",
    "SegmentationScores",
    "StopOnNonFinite",
    "StrictCheckpointLoader",
    "Synchronise",
    "TeacherUpdate",
    "TrackedEvaluation",
    "TrackedTraining",
    "ValidationImages",
]
