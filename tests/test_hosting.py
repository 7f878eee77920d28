# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Trainings that an application such as MONAI Label starts: what it hands over, what it finds afterwards."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from bundle.label.app_folder import Settings, build_app, model_name
from scripts.data.pool import datalist_beside
from scripts.data.volumes import read_volume
from scripts.files import load_checkpoint
from scripts.hosting import handed_over, model_file
from tests.folders import mask_of, save_volume, volumes
from tests.tiny import ROOT, error_text, workflow


@pytest.fixture
def studies(tmp_path, synthetic_set):
    """A folder as MONAI Label keeps it: 20 images, the labels of the first three below ``labels/final``."""
    folder = tmp_path / "studies"
    shutil.copytree(synthetic_set / "images", folder)
    (folder / "labels" / "final").mkdir(parents=True)
    for name in sorted(path.stem for path in folder.glob("*.jpg"))[:3]:
        shutil.copy(mask_of(synthetic_set, name), folder / "labels" / "final" / f"{name}.png")
    return folder


def labelled(folder) -> list[dict]:
    """What MONAI Label hands over."""
    labels = sorted((folder / "labels" / "final").iterdir())
    return [{"image": str(folder / f"{label.stem}.jpg"), "label": str(label)} for label in labels]


def host(folder, root, epochs=1, **more):
    """A finished training as MONAI Label runs it; without ``dataset_dir``."""
    arguments = {"bundle_root": str(root), "train__trainer__max_epochs": epochs, **more}
    made = workflow(**{"label_ratio": 1.0, "train__dataset__data": labelled(folder)} | arguments)
    made.run()
    return made


def test_the_pool_is_the_rest_of_the_folder_without_the_validation_images(studies):
    items = labelled(studies)
    (studies / "notes.txt").write_text("no image")
    lists = datalist_beside({"training": items[:2], "validation": items[2:]})
    assert [len(lists[name]) for name in ("training", "validation", "unlabeled", "test")] == [2, 1, 17, 0]
    rest = {item["image"] for item in lists["unlabeled"]}
    assert not rest & {item["image"] for item in items} and all("labels" not in path for path in rest)
    assert all("label" not in item for item in lists["unlabeled"])


def test_one_image_by_two_paths_is_one_image(studies, tmp_path):
    (tmp_path / "link").symlink_to(studies)
    items = [{**item, "image": item["image"].replace("studies", "link")} for item in labelled(studies)]
    assert len(datalist_beside({"training": items, "validation": []})["unlabeled"]) == 17


def test_labels_beside_their_images_are_no_unlabelled_images(studies):
    items = labelled(studies)
    for item in items:
        item["label"] = shutil.copy(item["label"], item["image"].replace(".jpg", "_mask.png"))
    assert len(datalist_beside({"training": items, "validation": []})["unlabeled"]) == 17


@pytest.mark.parametrize("validation", ["none", "empty", "one"])
def test_training_uses_the_rest_of_the_folder_and_publishes_its_weights(studies, tmp_path, validation):
    root, items = tmp_path / "bundle", labelled(studies)
    given = {"none": {}, "empty": {"validate__dataset__data": []}, "one": {"validate__dataset__data": items[2:]}}
    made = host(studies, root, train__dataset__data=items[:2], **given[validation])
    left = {"none": 18, "empty": 18, "one": 17}[validation]
    assert len(made.parser.get_parsed_content("train#unlabelled_dataset")) == left
    run = json.loads((root / "output" / "run.json").read_text())
    assert run["data"]["unlabeled"]["count"] == left and run["data"]["training"]["count"] == 2
    published, own = (load_checkpoint(root / place / "model.pt") for place in ("models", "output"))
    assert all(torch.equal(published[key], own[key]) for key in own)
    assert not (root / "data").exists()  # no synthetic set
    assert ("val_mean_dice" in (root / "output" / "history.csv").read_text()) == (validation == "one")


@pytest.mark.parametrize("rule", ["crii_net", "dmpls", "scribsd_plus"])
def test_what_an_app_trains_in_a_wrapper_fits_its_inference(studies, tmp_path, rule):
    overlays = [ROOT / "configs" / name for name in ("networks/unet.yaml", f"methods/{rule}.yaml")]
    values = ["image_size=32", "epoch_length=2", "batch_size=2", "network_def#channels=[4,4,8,8,8]"]
    build_app(tmp_path / "app", Settings(overlays=overlays, values=values))
    root = tmp_path / "app" / "model" / model_name(tmp_path / "app")
    before = (root / "models" / "model.pt").read_bytes()
    settings = {"bundle_root": str(root), "device": "cpu", "train#trainer#max_epochs": 1}
    made = ConfigWorkflow(
        config_file=str(root / "configs" / "train.json"),
        workflow_type="train",
        logging_file=False,
        **settings | {"train#dataset#data": labelled(studies)},
    )
    made.initialize()
    made.run()
    assert (root / "models" / "model.pt").read_bytes() != before
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    network = parser.get_parsed_content("network")  # what the app answers with
    network.load_state_dict(load_checkpoint(root / "models" / "model.pt"))
    assert type(network).__name__ == {"crii_net": "CoarseRefined"}.get(rule, "UNet")


def test_the_weights_before_are_kept_and_a_failed_training_changes_none(studies, tmp_path):
    root = tmp_path / "bundle"
    host(studies, root)
    first = (root / "models" / "model.pt").read_bytes()
    host(studies, root)
    assert (root / "models" / "previous.pt").read_bytes() == first
    second = (root / "models" / "model.pt").read_bytes()
    with pytest.raises(RuntimeError) as caught:
        host(studies, root, epochs=2, weight_decay=1e30)
    sentence = error_text(caught.value)
    assert "NaN or infinite" in sentence and any(path.stem in sentence for path in studies.glob("*.jpg"))
    assert not re.search(r"held \d+,", sentence)  # images have names, though nobody handed any over
    assert (root / "models" / "model.pt").read_bytes() == second


def test_volumes_are_trained_on_slice_by_slice(tmp_path):
    """Coarse along the first axis, which is so the one they are cut across."""
    folder, labels, made = tmp_path / "studies", tmp_path / "studies" / "labels" / "final", volumes(3, (5, 20, 24))
    affine = np.array([[6.0, 0, 0, 1], [0, -1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    for index, (values, mask) in enumerate(made):
        save_volume(folder / f"v{index}.nii.gz", values, affine)
        save_volume(labels / f"v{index}.nii.gz", mask, affine)
    items = [{"image": str(folder / f"v{n}.nii.gz"), "label": str(labels / f"v{n}.nii.gz")} for n in (0, 1)]
    run = host(folder, tmp_path / "bundle", train__dataset__data=items, cache="disk")
    data, rest = (run.parser.get_parsed_content(f"train#{name}") for name in ("dataset", "unlabelled_dataset"))
    assert (len(data), len(rest)) == (10, 5)
    volume = read_volume(items[0]["label"])
    assert volume.plane == "sagittal"
    for index in range(5):
        truth = torch.as_tensor(np.ascontiguousarray(volume.array[0, ..., index]))[None, None]
        expected = torch.nn.functional.interpolate(truth.double(), (32, 32), mode="nearest-exact")[0]
        assert torch.equal(torch.as_tensor(data[index]["label"]).double(), expected)
        bright = torch.as_tensor(data[index]["image"])[0] > 0.7
        assert expected.sum() < 10 or (bright == (expected[0] > 0)).float().mean() > 0.9
    save_volume(labels / "v0.nii.gz", np.zeros_like(made[0][1]), affine)  # drawn over: the next training sees it
    again = host(folder, tmp_path / "bundle", train__dataset__data=items, cache="disk")
    assert not any(
        torch.as_tensor(item["label"]).any() for item in list(again.parser.get_parsed_content("train#dataset"))[:5]
    )


def test_runs_of_ones_own_publish_nothing(synthetic_set, tmp_path):
    made = workflow(
        dataset_dir=str(synthetic_set), output_dir=str(tmp_path / "run"), bundle_root=str(tmp_path / "root")
    )
    made.run()
    assert not (tmp_path / "root").exists()
    assert handed_over() is None and model_file(tmp_path) is None


def test_a_list_beside_a_data_set_is_refused_before_anything_is_written(studies, synthetic_set, tmp_path):
    with pytest.raises(Exception) as caught:
        host(studies, tmp_path / "bundle", dataset_dir=str(synthetic_set))
    assert "train#dataset#data is a list beside dataset_dir" in error_text(caught.value)
    assert not (tmp_path / "bundle").exists()
