# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Overlays set nothing that nothing reads, and the networks they name can be made."""

import pytest
from monai.bundle import ConfigParser

from scripts.networks import CoarseRefined, LESSNet
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


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_overlay_after_the_wrong_config_gets_as_far_as_our_own_sentence(path):
    """MONAI ends in a KeyError where an overlay sets a part of a section that the config before it does not have."""
    for base in ("train.json", "inference.json"):
        ConfigParser().read_config([str(ROOT / "configs" / base), str(path)])


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


@pytest.mark.parametrize("overlay", ["networks/coarse_refined.yaml", "methods/crii_net.yaml"])
@pytest.mark.parametrize("bases", [["train.json"], ["train.json", "evaluate.json"], ["inference.json"]], ids=str)
def test_a_wrapper_stands_around_the_network_of_every_config(bases, overlay):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / name) for name in (*bases, overlay)])
    parser.update({"bundle_root": str(ROOT), "device": "cpu"})
    network = parser.get_parsed_content("network")
    assert type(network) is CoarseRefined and type(network.network) is LESSNet
    if bases == ["inference.json"]:
        assert parser.get_parsed_content("network_on_backend") is network
