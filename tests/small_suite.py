# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A small suite for the tests of the benchmark: two methods, two label ratios, two seeds."""

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
