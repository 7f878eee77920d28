# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The parts of a training are connected, with every overlay: views, optimiser, handlers, what is validated."""

import pytest
from monai.bundle import ConfigParser

from scripts.transforms import StrongView, WeakView
from tests.test_configs import OVERLAYS
from tests.tiny import workflow

RULES = [p for p in OVERLAYS if p.parent.name == "methods" and "method" in ConfigParser.load_config_file(p)]
ORDER = [
    "StrictCheckpointLoader",
    "ProgressiveSize",
    "TeacherUpdate",
    "StopOnNonFinite",
    "LrScheduleHandler",
    "OptionalValidationHandler",
    "EarlyStopping",
    "History",
    "Progress",
    "Checkpoints",
    "Publish",
    "TrackedTraining",
]


@pytest.mark.parametrize("overlay", [None, *RULES], ids=lambda path: getattr(path, "stem", "train.json"))
def test_the_parts_of_a_training_are_connected(overlay, synthetic_set, tmp_path):
    files = ["train.json", *([f"methods/{overlay.name}"] if overlay else [])]
    part = workflow(files, dataset_dir=str(synthetic_set), output_dir=str(tmp_path)).parser.get_parsed_content
    rule, trainer = part("method"), part("train#trainer")
    assert isinstance(rule.strong_view, StrongView) and isinstance(trainer.weak_view, WeakView)
    assert trainer.rule is rule and trainer.max_norm == 1.0
    assert part("validate#evaluator").network is rule.deployed is not trainer.student
    optimised = {id(p) for group in part("optimizer").param_groups for p in group["params"]}
    trained = [*trainer.student.parameters(), *(p for p in rule.parameters() if p.requires_grad)]
    assert optimised == {id(p) for p in trained}
    assert [type(handler).__name__ for handler in part("train#handlers")] == ORDER
