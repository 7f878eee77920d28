# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a data set through the real configs, with a network whose answer can be told from the image."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.fl.client.monai_algo import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from PIL import Image

from scripts.errors import InputError
from scripts.inputs import items_to_score
from scripts.run.excepthook import chain
from scripts.transforms.resize import resize_plane

CONFIGS = ["configs/train.json", "configs/evaluate.json"]
BRIGHT = {
    "_target_": "torch.nn.Conv2d",
    "in_channels": "@in_channels",
    "out_channels": "@num_classes",
    "kernel_size": 1,
}
SIZE = (60, 40)


@pytest.fixture(autouse=True)
def bundle_root(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def folder(tmp_path):
    """Six images whose bright part is the lesion; in the test image ``e`` half of it is marked, ``f`` has none."""
    data = tmp_path / "data"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    for n, key in enumerate("abcdef"):
        image, mask = np.full((SIZE[1], SIZE[0]), 40, np.uint8), np.zeros((SIZE[1], SIZE[0]), np.uint8)
        if key != "f":
            image[4:12, 30 + n : 50 + n] = 220
            mask[4 : 8 if key == "e" else 12, 30 + n : 50 + n] = 255
        Image.fromarray(image).save(data / "images" / f"{key}.png")
        Image.fromarray(mask).save(data / "masks" / f"{key}.png")
    split = {"train": ["a", "b"], "val": ["c"], "test": ["d", "e", "f"]}
    (data / "splits.json").write_text(json.dumps(split))
    return data


def weights(path, classes=2):
    network = torch.nn.Conv2d(3, classes, 1)
    network.weight.data[:] = 0
    network.weight.data[1], network.bias.data = torch.tensor(100 / 3), torch.zeros(classes)
    network.bias.data[1] = -50.0
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return str(path)


def evaluate(folder, **overrides):
    run = folder.parent / "run"
    if "ckpt_path" not in overrides:
        overrides["ckpt_path"] = weights(run / "model.pt")
    settings = {"dataset_dir": str(folder), "output_dir": str(run), "image_size": list(SIZE), "network_def": BRIGHT}
    settings |= {"device": torch.device("cpu"), "batch_size": 2} | overrides
    workflow = ConfigWorkflow(
        config_file=CONFIGS, workflow_type="train", run_id="evaluating", logging_file=False, **settings
    )
    workflow.initialize()
    workflow.run()
    return run / "evaluation"


def refused(folder, match, **overrides):
    with pytest.raises(Exception) as caught:
        evaluate(folder, **overrides)
    messages = [str(error) for error in chain(caught.value) if isinstance(error, InputError)]
    assert messages, caught.value
    assert match in messages[0]


def test_scores_of_the_test_images(folder):
    results = evaluate(folder)
    summary = json.loads((results / "metrics.json").read_text())
    with open(results / "per_image.csv", newline="") as file:
        dice = {row["key"]: float(row["dice"]) for row in csv.DictReader(file)}
    assert dice == {"d": 1.0, "e": pytest.approx(2 / 3, abs=1e-6), "f": 1.0}
    assert summary["scores"]["mean_dice"] == pytest.approx(8 / 9)
    assert summary["scores"]["mean_dice_lesion"] == pytest.approx(5 / 6)
    assert (summary["images"], summary["images_with_lesion"], summary["part"]) == (3, 2, "test")
    assert summary["scored_at"]["size"] == list(SIZE) and summary["checkpoint"].endswith("model.pt")
    assert {"torch", "monai", "python"} <= set(summary["versions"]) and summary["device"] and summary["seconds"] > 0
    assert sorted(p.name for p in results.iterdir()) == sorted(
        ["metrics.json", "per_image.csv", "confusion.csv", "overlays", "report.html"]
        + ["cases.png", "errors.png", "confusion.png"]
    )


@pytest.mark.parametrize("score_size", ["source", "network"])
def test_masks_as_stored_or_at_the_size_of_the_network(folder, score_size):
    """Against the scores of one image by hand; a row of its lesion is dark, so that it is not met exactly."""
    for key in "def":
        grey = np.asarray(Image.open(folder / "images" / f"{key}.png")).copy()
        grey[11] = 40
        Image.fromarray(grey).save(folder / "images" / f"{key}.png")
    size = [40, 32]
    results = evaluate(folder, image_size=size, score_size=score_size)
    summary = json.loads((results / "metrics.json").read_text())
    with open(results / "per_image.csv", newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert summary["scored_at"]["score_size"] == score_size and summary["distance_unit"] == "px"
    assert summary["scored_at"]["size"] == (list(SIZE) if score_size == "source" else size)
    image = torch.from_numpy(np.asarray(Image.open(folder / "images" / "d.png"), np.float32).T.copy()) / 255
    logits = 100 * resize_plane(image[None], size, antialias=True) - 50
    found = (resize_plane(logits, SIZE) if score_size == "source" else logits)[0].numpy() > 0
    mask = torch.from_numpy(np.asarray(Image.open(folder / "masks" / "d.png")).T.copy())[None]
    mask = (mask if score_size == "source" else resize_plane(mask, size, "nearest-exact"))[0].numpy() > 0
    assert int(rows["d"]["reference_pixels"]) == mask.sum()
    dice = 2 * (found & mask).sum() / (found.sum() + mask.sum())
    assert float(rows["d"]["dice"]) == pytest.approx(dice, abs=1e-6) and 0.5 < dice < 1


def test_another_part_and_folder(folder, tmp_path):
    evaluate(folder, part="validation", results_dir=str(tmp_path / "elsewhere"))
    assert json.loads((tmp_path / "elsewhere" / "metrics.json").read_text())["images"] == 1
    refused(folder, "part is 'tests'", part="tests")


def test_all_images_with_a_mask_are_another_hospitals_test_set(folder, tmp_path):
    evaluate(folder, part="all", results_dir=str(tmp_path / "elsewhere"))
    told = json.loads((tmp_path / "elsewhere" / "metrics.json").read_text())
    assert (told["images"], told["part"]) == (6, "all")
    assert ">6 images, 5 with a lesion" in (tmp_path / "elsewhere" / "report.html").read_text()


def test_images_that_were_trained_on_without_their_masks_can_be_scored(folder, tmp_path):
    split = {"train": ["a", "b", "c", "d"], "val": ["e"], "test": ["f"]}
    (folder / "splits.json").write_text(json.dumps(split))
    run = tmp_path / "run"
    run.mkdir()
    facts = {"dataset_dir": str(folder), "label_ratio": 0.5, "label_seed": None, "seed": 0, "annotation": "mask"}
    (run / "run.json").write_text(json.dumps({"parameters": facts}))
    out = evaluate(folder, part="unlabeled", label_ratio=0.5)
    with open(out / "per_image.csv", newline="") as file:
        assert [row["key"] for row in csv.DictReader(file)] == ["c", "d"]
    assert json.loads((out / "metrics.json").read_text())["part"] == "unlabeled"
    refused(folder, "pass --label_ratio 0.5", part="unlabeled", label_ratio=0.4, results_dir=str(tmp_path / "other"))
    refused(folder, "pass --seed 0", part="unlabeled", label_ratio=0.5, seed=3, results_dir=str(tmp_path / "other"))
    refused(folder, "pass the --label_ratio of the training", part="unlabeled", label_ratio=1.0)
    evaluate(folder, part="validation", label_ratio=1.0, results_dir=str(tmp_path / "other"))
    (folder / "masks" / "c.png").unlink()
    evaluate(folder, part="unlabeled", label_ratio=0.5, results_dir=str(tmp_path / "left"))
    assert json.loads((tmp_path / "left" / "metrics.json").read_text())["images"] == 1


def test_ignored_pixels_are_not_scored(folder):
    for path in (folder / "masks").iterdir():  # indices: where 255 is ignored, it is no lesion in any mask
        mask = np.asarray(Image.open(path)) // 255
        if path.stem == "e":
            mask[8:12] = 255  # what the network marks too much
            mask[20, 20] = 1
        Image.fromarray(mask).save(path)
    with open(evaluate(folder) / "per_image.csv", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["key"] == "e")
    assert (row["reference_pixels"], row["predicted_pixels"]) == ("81", "80")
    assert float(row["dice"]) == pytest.approx(160 / 161, abs=1e-6)


def test_slices_of_a_volume_beside_single_images(folder):
    """One batch holds items of which some alone have a volume and a slice."""
    more = {"a": "train,,", "b": "train,,", "c": "val,v,1", "d": "test,w,7", "e": "test,w,8", "f": "test,,"}
    rows = [f"{key},images/{key}.png,masks/{key}.png,0.5 0.5 2,{rest}" for key, rest in more.items()]
    (folder / "pairs.csv").write_text("\n".join(["key,image,mask,spacing,split,volume,slice", *rows]))
    (folder / "splits.json").unlink()
    results = evaluate(folder, batch_size=4)
    summary = json.loads((results / "metrics.json").read_text())
    assert (summary["images"], summary["cases"], summary["volumes"], summary["distance_unit"]) == (3, 2, 1, "mm")
    assert summary["scores"]["mean_dice"] == pytest.approx((2 * 240 / (320 + 240) + 1) / 2)
    (folder / "pairs.csv").write_text((folder / "pairs.csv").read_text().replace(",w,8", ",w,last"))
    refused(folder, "e.png has the slice 'last'", overwrite=True)


@pytest.mark.parametrize("cases", [-1, "two", 1.5])
def test_a_number_of_cases_that_is_none_is_refused(folder, cases):
    refused(folder, f"cases is {cases!r}: give a whole number", cases=cases)
    assert not (folder.parent / "run/evaluation").exists()


def test_an_evaluation_is_not_replaced_unasked(folder):
    results = evaluate(folder)
    (results / "metrics.json").write_text("{}")
    refused(folder, "pass --overwrite true")
    assert (results / "metrics.json").read_text() == "{}"
    evaluate(folder, overwrite="true")
    assert json.loads((results / "metrics.json").read_text())["images"] == 3


def test_overlays_of_an_inference_in_the_same_folder_are_kept(folder):
    results = folder.parent / "masks"
    (results / "overlays").mkdir(parents=True)
    for name in ("a.png", "worst_1_old.png"):
        (results / "overlays" / name).write_bytes(b"")
    evaluate(folder, results_dir=str(results))
    names = {path.name for path in (results / "overlays").iterdir()}
    assert "a.png" in names and "worst_1_old.png" not in names and len(names) > 1


def test_names_as_long_as_the_file_system_takes(folder):
    name = "眼" * 83  # 249 bytes, with the suffix 253 of 255
    for kind in ("images", "masks"):
        (folder / kind / "e.png").rename(folder / kind / f"{name}.png")
    split = json.loads((folder / "splits.json").read_text())
    (folder / "splits.json").write_text(json.dumps(split | {"test": ["d", name, "f"]}))
    drawn = [path.name for path in (evaluate(folder) / "overlays").iterdir()]
    assert any("眼" * 70 in path for path in drawn)


def test_training_images_are_scored_with_their_masks_where_scribbles_were_learned(folder):
    (folder / "scribbles").mkdir()
    for key in "ab":
        strokes = np.full((SIZE[1], SIZE[0]), 2, np.uint8)
        strokes[0], strokes[5, 32:48] = 0, 1
        Image.fromarray(strokes).save(folder / "scribbles" / f"{key}.png")
    lines = [f"images/{key}.png,masks/{key}.png,{f'scribbles/{key}.png' if key in 'ab' else ''}" for key in "abcdef"]
    (folder / "pairs.csv").write_text("\n".join(["image,mask,scribble", *lines]))
    results = evaluate(folder, part="training", annotation="scribble", ignore_value=2)
    with open(results / "per_image.csv", newline="") as file:
        assert {row["key"]: row["reference_pixels"] for row in csv.DictReader(file)} == {"a": "160", "b": "160"}


def test_weights_that_do_not_fit_are_refused(folder):
    run = folder.parent / "other"
    refused(folder, "has 4 classes, the network 2: pass --num_classes 4", ckpt_path=weights(run / "model.pt", 4))
    refused(folder, "lacks", ckpt_path=weights(run / "model.pt"), network_def={"_target_": "scripts.networks.LESSNet"})
    (run / "run.json").write_text(json.dumps({"parameters": {"image_size": 128}}))
    refused(folder, "trained with image_size 128", ckpt_path=str(run / "model.pt"))
    assert not (folder.parent / "run").exists() or not list((folder.parent / "run").glob("evaluation/*"))


def test_no_untrained_network_is_evaluated(folder):
    """What an unset variable of a shell gives, and a name that looks like a number."""
    refused(folder, "ckpt_path is empty: give a path", ckpt_path="")
    refused(folder, "ckpt_path came as 5, for its name looks like a value: put ./ before it", ckpt_path=5)
    refused(folder, "output_dir is empty: give a path", results_dir="")
    assert not (folder.parent / "run" / "evaluation").exists()


def test_bad_data_is_named_before_the_evaluation(folder):
    (folder / "images" / "e.png").write_bytes((folder / "images" / "e.png").read_bytes()[:60])
    refused(folder, "e.png")
    with pytest.raises(InputError, match="no test images"):
        items_to_score({"test": []})


def test_federated_rounds_use_the_weights_they_are_given(folder):
    """MONAI's federated client reads the two configs, switches the loading of a file off and evaluates every round."""
    run = folder.parent / "run"
    settings = {"dataset_dir": str(folder), "output_dir": str(run), "image_size": list(SIZE), "network_def": BRIGHT}
    settings |= {"device": torch.device("cpu"), "ckpt_path": str(run / "none.pt")}
    client = MonaiAlgo(bundle_root=os.getcwd(), config_train_filename=None, eval_kwargs=settings)
    client.initialize({ExtraItems.CLIENT_NAME: "client", ExtraItems.LOGGING_FILE: False})
    state = torch.load(weights(folder.parent / "model.pt"), weights_only=True)
    for factor, dice in ((1, 8 / 9), (-1, None)):
        sent = {key: factor * value.numpy() for key, value in state.items()}
        metrics = client.evaluate(ExchangeObject(weights=sent)).metrics
        assert metrics["val_mean_dice"] == (pytest.approx(dice) if dice else pytest.approx(0, abs=0.4))
        written = json.loads((run / "evaluation" / "metrics.json").read_text())["scores"]
        assert written["mean_dice"] == pytest.approx(metrics["val_mean_dice"])


def test_the_command_ends_with_one_sentence(folder):
    path = weights(folder.parent / "m" / "model.pt", classes=4)
    command = [sys.executable, "-m", "monai.bundle", "run", "evaluating", "--config_file", str(CONFIGS)]
    command += ["--dataset_dir", str(folder), "--ckpt_path", path, "--output_dir", str(folder.parent / "run")]
    command += ["--network_def#_target_", "torch.nn.Conv2d", "--network_def#kernel_size", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(f"error: {path} does not fit the network: the file has 4 classes")
    )
    assert "Traceback" not in done.stderr
