# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every config: parts from known packages, expressions that are read at a glance, and what MONAI asks of a bundle."""

import ast
import json
import re
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow

from tests.tiny import ROOT, workflow

CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*") if path.suffix in (".json", ".yaml"))
PACKAGES = {"torch", "monai", "ignite", "timm", "scripts"}
OVERLAYS = [
    path for kind in ("methods", "networks", "data") for path in sorted((ROOT / "configs" / kind).glob("*.yaml"))
]


def walk(value):
    """The value and everything inside it."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


@pytest.fixture(params=CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def config(request):
    return ConfigParser.load_config_file(request.param)


def test_parts_come_from_known_packages_and_exist(config):
    locator = ConfigParser().locator
    for part in walk(config):
        if isinstance(part, dict) and "_target_" in part:
            name = ConfigComponent(config=part, locator=locator).resolve_module_name()
            assert name.split(".")[0] in PACKAGES and locate(name) is not None, name


def test_expressions_are_one_line_without_lambda(config):
    for text in walk(config):
        if isinstance(text, str) and text.startswith("$"):
            assert "\n" not in text and "lambda" not in text, text
            ast.parse(text[1:].replace("@", "").replace("#", "_").replace("::", "_"))


def test_the_package_is_not_imported_before_the_run(config):
    early = [config.get("imports", []), config.get("initialize", [])]
    assert not [text for text in walk(early) if isinstance(text, str) and "scripts" in text]


def test_no_config_refers_to_a_handler_by_its_number(config):
    assert not [t for t in walk(config) if isinstance(t, str) and ("handlers#" in t or "handlers::" in t)]


@pytest.mark.parametrize(
    "files",
    [["train.json"], ["train.json", "evaluate.json"]]
    + [["train.json", str(path.relative_to(ROOT / "configs"))] for path in OVERLAYS],
    ids=str,
)
def test_monai_finds_every_property_of_a_training(files, synthetic_set, tmp_path):
    # the frames are no slices of volumes, which a pattern of an overlay for such would be refused for
    made = workflow(files, dataset_dir=str(synthetic_set), output_dir=str(tmp_path), volume_pattern=None)
    assert made.check_properties() == []


def test_monai_finds_every_property_of_an_inference(synthetic_set, tmp_path):
    made = ConfigWorkflow(
        config_file=str(ROOT / "configs" / "inference.json"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(ROOT),
        dataset_dir=str(synthetic_set / "images"),
        output_dir=str(tmp_path),
        device="cpu",
    )
    made.initialize()
    assert made.check_properties() == []


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_every_handler_says_what_it_is(name):
    files = [str(ROOT / "configs" / f"{part}.json") for part in dict.fromkeys(("train", name))]
    parser = ConfigParser()
    parser.read_config(files)
    assert all("_target_" in handler for key in ("train", "validate") for handler in parser[key]["handlers"])


def test_the_users_parameters_stand_on_top_and_are_recorded():
    config = json.loads((ROOT / "configs" / "train.json").read_text())
    top = list(config)[: list(config).index("parameters")]
    for name in ("dataset_dir", "output_dir", "label_ratio", "image_size", "num_classes", "max_epochs", "batch_size"):
        assert name in top
    assert set(config["parameters"]) <= set(top) and {"learning_rate", "seed", "amp"} <= set(config["parameters"])


def test_what_weights_are_compared_with_is_recorded_with_them():
    """A guard that asks run.json for a key which no training writes would never fire."""
    recorded = json.loads((ROOT / "configs" / "train.json").read_text())["parameters"]
    for name in ("evaluate.json", "inference.json", "train.json"):
        text = (ROOT / "configs" / name).read_text()
        for keys in re.findall(r'"expected": \{([^}]*)\}', text):
            assert set(re.findall(r'"(\w+)":', keys)) <= recorded.keys(), name
        assert '"expected": {' in text


@pytest.mark.parametrize(
    "files, lengths, begins, full",
    [
        (["train.json"], {"max_epochs": 60}, 0.1, 0.3),
        (["train.json"], {"max_epochs": 40}, 0.1, 0.3),
        (["train.json"], {"max_epochs": 6}, 400 / 600, 2.0),
        (["train.json", "methods/less_net.yaml"], {"max_epochs": 8, "epoch_length": 75}, 400 / 600, 2.0),
        (["train.json"], {"train#trainer#max_epochs": 20}, 0.2, 0.6),  # as an application overrides it
        (["train.json"], {"max_epochs": 6, "initial_weights": "model.pt"}, 400 / 600, 2.0),  # of other images, maybe
        (["train.json", "federated.json"], {"max_epochs": 1, "rounds": 12}, 0.1, 0.3),  # it is the network received
    ],
)
def test_the_consistency_waits_for_a_teacher(files, lengths, begins, full):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in files])
    for key, value in lengths.items():
        parser[key] = value
    parser["unlabelled_weight"] = 0.5  # needs no data so
    ramp = parser.get_parsed_content("method#weights#consistency")
    assert (ramp.value, ramp.start, ramp.end) == (0.5, begins, full)


@pytest.mark.parametrize(
    "masks, without, settings, weight",
    [
        (1, 19, {}, 1.0),
        (2, 18, {}, 1.0),  # scarce still
        (10, 10, {}, 0.5 / 0.9),
        (10, 10, {"unlabelled_weight": 1.0}, 1.0),
        (20, 0, {}, 0.0),
        (20, 0, {"annotation": "scribble"}, 1.0),  # strokes leave most of every image without a label
        (0, 20, {}, 1.0),  # a federated site without masks
    ],
)
@pytest.mark.parametrize("files", [["train.json"], ["train.json", "methods/less_net.yaml"]])
def test_images_without_a_mask_weigh_less_where_there_are_fewer(files, masks, without, settings, weight):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in files])
    datalist = {"training": [{}] * masks, "unlabeled": [{}] * without}
    for key, value in {"datalist": datalist, **settings}.items():
        parser[key] = value
    values = [parser.get_parsed_content(f"method#weights#{name}").value for name in ("consistency", "contrast")]
    assert values == pytest.approx([weight, 0.1 * weight])


def test_the_metadata_holds_what_a_bundle_needs():
    meta = json.loads((ROOT / "configs" / "metadata.json").read_text())
    required = "schema version changelog monai_version pytorch_version numpy_version required_packages_version task"
    required += " description authors copyright network_data_format supported_apps"
    assert set(required.split()) <= set(meta)
    assert meta["version"] in meta["changelog"] and isinstance(meta["supported_apps"], dict)
    config = json.loads((ROOT / "configs" / "train.json").read_text())
    image = meta["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == config["in_channels"] and image["spatial_shape"] == [config["image_size"]] * 2
    pred = meta["network_data_format"]["outputs"]["pred"]
    assert pred["num_channels"] == config["num_classes"] == len(pred["channel_def"])


def test_the_metadata_names_the_versions_that_are_installed_from_the_requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    meta = json.loads((ROOT / "configs" / "metadata.json").read_text())
    named = {"monai": meta["monai_version"], "torch": meta["pytorch_version"], "numpy": meta["numpy_version"]}
    named |= meta["required_packages_version"]
    assert {name: pinned.get(name) for name in named} == named


def test_the_default_arguments_name_files_of_the_bundle():
    arguments = json.loads((ROOT / "configs" / "args.json").read_text())
    assert (ROOT / arguments["config_file"]).is_file()
    config = json.loads(Path(ROOT / arguments["config_file"]).read_text())
    assert arguments["run_id"] in config
    assert set(arguments) - {"run_id", "config_file"} <= set(config)
