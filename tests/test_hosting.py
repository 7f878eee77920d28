# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Trainings that an application such as MONAI Label starts: what it hands over, what it finds afterwards."""

import json
import shutil

import pytest
import torch

from scripts.data.pool import datalist_beside
from scripts.files import load_checkpoint
from scripts.hosting import handed_over, model_file
from tests.test_run import mask_of
from tests.tiny import error_text, workflow


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


def test_the_weights_before_are_kept_and_a_failed_training_changes_none(studies, tmp_path):
    root = tmp_path / "bundle"
    host(studies, root)
    first = (root / "models" / "model.pt").read_bytes()
    host(studies, root)
    assert (root / "models" / "previous.pt").read_bytes() == first
    second = (root / "models" / "model.pt").read_bytes()
    with pytest.raises(RuntimeError) as caught:
        host(studies, root, epochs=2, weight_decay=1e30)
    assert "NaN or infinite" in error_text(caught.value)
    assert (root / "models" / "model.pt").read_bytes() == second


def test_runs_of_ones_own_publish_nothing(synthetic_set, tmp_path):
    made = workflow(
        dataset_dir=str(synthetic_set), output_dir=str(tmp_path / "run"), bundle_root=str(tmp_path / "root")
    )
    made.run()
    assert not (tmp_path / "root").exists()
    assert handed_over() is None and model_file(tmp_path) is None
