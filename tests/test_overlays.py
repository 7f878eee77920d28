# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Overlays set nothing that nothing reads, and the networks they name can be made."""

import pytest
from monai.bundle import ConfigParser

from scripts.overrides import referenced
from tests.test_configs import OVERLAYS
from tests.tiny import ROOT, workflow


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_overlay_sets_nothing_that_nothing_reads(path):
    overlay = ConfigParser.load_config_file(path)
    base = "clustering.json" if "algorithm" in overlay else "train.json"
    whole = ConfigParser()
    whole.read_config([str(ROOT / "configs" / base), str(path)])
    own = ConfigParser.load_config_file(ROOT / "configs" / base)
    strange = [key for key in overlay if key.split("#")[0] not in own and not referenced(key, whole.config)]
    assert strange == []


@pytest.mark.parametrize("path", [p for p in OVERLAYS if p.parent.name == "networks"], ids=lambda path: path.stem)
def test_the_network_of_an_overlay_can_be_made(path, synthetic_set, tmp_path):
    made = workflow(
        ["train.json", f"networks/{path.name}"],
        network_def=...,
        dataset_dir=str(synthetic_set),
        output_dir=str(tmp_path),
    )
    assert made.check_properties() == []
    assert sum(p.numel() for p in made.parser.get_parsed_content("network").parameters()) > 1e6
