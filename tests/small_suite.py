# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A small suite for the tests of the benchmark (two methods, two label ratios, two seeds), and a result."""

import yaml

from tests.tiny import SMALL_UNET

SUITE = {
    "baseline": "supervised",
    "settings": {"image_size": 32, "max_epochs": 1},
    "data": {"set": {"settings": {"dataset_dir": "set"}}},
    "networks": {"small": {"settings": {"network_def": SMALL_UNET}}},
    "methods": {
        "supervised": {"configs": ["configs/methods/supervised.yaml"]},
        "mean_teacher": {"configs": ["configs/methods/mean_teacher.yaml"], "settings": {"max_epochs": 2}},
    },
    "grids": [
        {
            "data": ["set"],
            "networks": ["small"],
            "methods": ["supervised", "mean_teacher"],
            "label_ratios": [4, 0.5],
            "seeds": [0, 1],
        }
    ],
}


def write_suite(folder, **changes):
    """``suite.yaml`` in ``folder`` with some of its keys changed, and an empty folder for its data set; its path."""
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    (folder / "set").mkdir(exist_ok=True)
    return path


def whole(method, dice, validation, network="n", ratio=0.05, seed=0):
    """A result whose cases all have the same Dice."""
    names = ("mean_dice", "mean_dice_lesion", "worst_decile_dice", "miou", "mean_recall")
    return {
        **{"data": "set", "label_ratio": ratio, "network": network, "method": method, "seed": seed},
        "scores": {**{name: dice for name in names}, "hd95": None},
        "train_minutes": 2.0,
        "network_parameters": {"n": 1_364_142}.get(network, 31_042_434),
        **{"commit": "abc", "device": "cpu", "versions": {"torch": "2", "monai": "1"}},
        "commands": {"train": "python <train>"},
        "validation": {"minutes": [0.5, 1.0, 2.0], "iteration": [1, 2, 3], "val_mean_dice": [0.1, validation, 0.2]},
        "cases": {"a": dice, "b": dice},
    }
