# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A real MONAI Label server, asked over its REST API, on PNG, JPEG and NIfTI studies. `make test-label` runs this."""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_fill_holes

from bundle.label.app_folder import Settings, build_app, model_name
from bundle.label.server import Server
from tests.tiny import ROOT

if not find_spec("monailabel"):
    pytest.skip("MONAI Label is not installed: run `make test-label`", allow_module_level=True)

import requests  # noqa: E402

from bundle.label.client import Client  # noqa: E402

SIZE = (72, 52)  # X, Y of the images: nothing may turn them
COUNT, LABELS = 10, 4
AFFINE = np.array([[-0.4, 0, 0, 30.0], [0, 0.6, 0, -20.0], [0, 0, 3.0, 5.0], [0, 0, 0, 1]])
VALUES = ["image_size=[64,48]", "epoch_length=40", "batch_size=2", "unlabelled_batch_size=2", "learning_rate=0.01"]
# views of 32 pixels would cost more in so short a training than they save
VALUES += ["network_def#channels=[4,4,8,8,8]", "progressive_size=1.0"]
UNET = ROOT / "configs" / "networks" / "unet.yaml"


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark image (Y, X, 3) with a bright rectangle in its upper right part, and the mask (Y, X) of it."""
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(20, 60, (SIZE[1], SIZE[0], 3)), np.zeros((SIZE[1], SIZE[0]), np.uint8)
    left, top = rng.integers(38, 48), rng.integers(3, 10)
    mask[top : top + 12, left : left + 20] = 1
    image[mask == 1] += 150
    return image.astype(np.uint8), mask


def write(path: Path, rows: np.ndarray) -> Path:
    """A picture, or a NIfTI file with one slice, from rows."""
    if path.name.endswith(".nii.gz"):
        grey = rows if rows.ndim == 2 else rows.max(-1)
        nibabel.save(nibabel.Nifti1Image(grey.T.astype(np.int16)[..., None], AFFINE), path)
    else:
        Image.fromarray(rows).save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))
    return path


def mask_in(answer: bytes, suffix: str) -> np.ndarray:
    """The rows of the mask that the server answered, as stored."""
    if suffix != ".nii.gz":
        picture = Image.open(io.BytesIO(answer))
        assert picture.format == "PNG" and picture.mode == "L"
        return np.asarray(picture)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(answer))
    assert np.allclose(image.affine, AFFINE)
    return np.asarray(image.dataobj).squeeze(-1).T


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * ((a > 0) & (b > 0)).sum() / max(1, (a > 0).sum() + (b > 0).sum())


def random_weights(folder: Path) -> Path:
    """Weights of the small U-Net that have learned nothing."""
    from scripts.networks import UNet

    torch.manual_seed(0)
    torch.save(UNet(in_channels=3, out_channels=2, channels=[4, 4, 8, 8, 8]).state_dict(), folder / "start.pt")
    return folder / "start.pt"


@pytest.fixture(scope="module", params=[".png", ".jpg", ".nii.gz"])
def place(request, tmp_path_factory):
    """A server on a folder of ten images, with spaces in every path."""
    root = tmp_path_factory.mktemp("with a space")
    studies, labels = root / "my studies", root / "labels"
    studies.mkdir()
    labels.mkdir()
    truth = {}
    for number in range(COUNT):
        image, truth[f"case{number}"] = scene(number)
        write(studies / f"case{number}{request.param}", image)
        label = truth[f"case{number}"] * (255 if number % 2 else 1)  # clients write indices, people also 0 and 255
        write(labels / f"case{number}{'.png' if request.param == '.jpg' else request.param}", label)
    settings = Settings(weights=random_weights(root), overlays=[UNET], values=VALUES)
    build_app(root / "the app", settings)
    with Server(root / "the app", studies) as server:
        yield SimpleNamespace(
            client=Client(server.url),
            server=server,
            model=model_name(root / "the app"),
            bundle=root / "the app" / "model" / model_name(root / "the app"),
            studies=studies,
            labels={path.name.split(".")[0]: path for path in labels.iterdir()},
            truth=truth,
            suffix=request.param,
            before=(ROOT / "models" / "model.pt").stat().st_mtime_ns,
        )


def test_info(place):
    info = place.client.info()
    assert set(info["models"]) == {place.model, f"{place.model}_polygons"} and info["labels"] == ["lesion"]
    assert info["models"][place.model]["type"] == "segmentation" and info["models"][place.model]["dimension"] == 2
    assert list(info["trainers"]) == [place.model] and info["datastore"]["total"] == COUNT
    assert set(info["strategies"]) == {"uncertainty", "epistemic", "random", "first"}
    assert set(info["scoring"]) == {"uncertainty", "epistemic", "dice"}


def test_training_without_a_label_says_so(place):
    with pytest.raises(requests.HTTPError, match="no image has a final label yet"):
        place.client.train(place.model)


def test_labels_are_stored(place):
    for name in list(place.truth)[:LABELS]:
        place.client.save_label(name, place.labels[name])
    status = place.client.request("GET", "/datastore/").json()
    assert status["completed"] == LABELS and status["label_tags"] == {"final": LABELS}
    stored = sorted(path.name for path in (place.studies / "labels" / "final").iterdir())
    assert stored == sorted(place.labels[name].name for name in list(place.truth)[:LABELS])
    params = {"label": "case0", "tag": "final"}
    back = place.client.request("GET", "/datastore/label", params=params).content
    assert back == place.labels["case0"].read_bytes()


def test_training_makes_the_next_mask_right(place):
    name, weights = "case9", place.bundle / "models" / "model.pt"
    start, first = weights.read_bytes(), mask_in(place.client.infer(place.model, name), place.suffix)
    started = time.monotonic()
    place.client.train(place.model, max_epochs=5)
    trained = time.monotonic()
    mask = mask_in(place.client.infer(place.model, name), place.suffix)
    print(f"{place.suffix}: train {trained - started:.1f} s, infer {time.monotonic() - trained:.2f} s")
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1} and mask.shape == place.truth[name].shape
    assert dice(mask, place.truth[name]) > 0.85 > dice(first, place.truth[name])
    assert weights.read_bytes() != start == (weights.parent / "previous.pt").read_bytes()
    run = json.loads((place.bundle / "output" / "run.json").read_text())["data"]
    assert {side: run[side]["count"] for side in ("training", "validation", "unlabeled")} == {
        "training": 3,
        "validation": 1,
        "unlabeled": COUNT - LABELS,  # the rest of the folder
    }
    assert (ROOT / "models" / "model.pt").stat().st_mtime_ns == place.before  # the repository's own are as they were


def test_a_jpeg_gives_the_lossless_mask_that_its_pixels_give(place):
    if place.suffix != ".jpg":
        pytest.skip("for JPEG")
    answer = place.client.infer(place.model, "case9")
    copy = place.studies.parent / "decoded.png"
    Image.open(place.studies / "case9.jpg").save(copy)
    assert np.array_equal(mask_in(answer, ".png"), mask_in(place.client.infer(place.model, str(copy)), ".png"))


def test_a_volume_gives_a_mask_in_its_own_grid(place):
    if place.suffix != ".nii.gz":
        pytest.skip("for NIfTI")
    affine = np.array([[6.0, 0, 0, 1], [0, -1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])  # coarse along the first axis
    grey, mask = (part.T for part in (scene(3)[0].max(-1), scene(3)[1]))
    volume = np.stack([grey] * 5).astype(np.int16)
    path = place.studies.parent / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)
    answer = nibabel.Nifti1Image.from_bytes(gzip.decompress(place.client.infer(place.model, str(path))))
    assert answer.shape == volume.shape and np.allclose(answer.affine, affine)
    assert dice(np.asarray(answer.dataobj), np.stack([mask] * 5)) > 0.6  # the slices are turned before they are seen


def test_what_is_told_with_a_mask(place):
    told = place.client.infer_json(place.model, "case0")
    assert told["label_names"] == {"lesion": 1} and 0 < told["latencies"]["total"] < 60


def test_polygons_outline_the_mask(place):
    told = place.client.infer_json(f"{place.model}_polygons", "case9")
    element = told["annotations"][0]["annotation"]["elements"][0]
    assert element["label"] == "lesion"
    mask = mask_in(place.client.infer(place.model, "case9"), place.suffix)
    drawn = np.zeros_like(mask, bool)
    for contour in element["contours"]:
        corners = np.array([*contour, contour[0]])
        for (x0, y0), (x1, y1) in zip(corners, corners[1:]):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            drawn[
                np.linspace(y0, y1, steps + 1).round().astype(int), np.linspace(x0, x1, steps + 1).round().astype(int)
            ] = 1
    assert dice(binary_fill_holes(drawn), mask) > 0.95


@pytest.mark.parametrize("strategy", ["uncertainty", "epistemic", "random", "first"])
def test_the_next_image_is_an_unlabelled_one(place, strategy):
    answer = place.client.next_image(strategy, client_id="somebody")
    assert answer["id"] in list(place.truth)[LABELS:] and Path(answer["path"]).parent == place.studies
    if strategy == "first":
        assert answer["id"] == f"case{LABELS}"


def test_uncertainty_is_of_the_present_weights_and_chooses_the_largest(place):
    score = lambda: place.client.request("POST", "/scoring/uncertainty", params={"run_sync": True}).json()  # noqa: E731
    score()
    assert score()["scored"] == 0 and score()["candidates"] == COUNT - LABELS
    infos = {name: entry["image"]["info"] for name, entry in place.client.objects().items()}
    scores = {name: info["uncertainty"] for name, info in infos.items() if name in list(place.truth)[LABELS:]}
    assert all(0 <= value <= 1 for value in scores.values())
    answer = place.client.next_image("uncertainty", client_id="somebody")
    assert answer["id"] == max(scores, key=scores.get) and answer["uncertainty"] == max(scores.values())
    other = place.client.next_image("uncertainty", client_id="somebody else")
    assert other["id"] != answer["id"]  # two people are not given the same image


def test_epistemic_scoring(place):
    done = place.client.request("POST", "/scoring/epistemic", params={"run_sync": True}).json()
    assert done["executed"] + done["skipped"] == COUNT - LABELS
    infos = {name: entry["image"]["info"] for name, entry in place.client.objects().items()}
    assert all(infos[name]["epistemic_entropy"] > 0 for name in list(place.truth)[LABELS:])


def test_batch_inference_prelabels_and_dice_compares(place):
    body = {"multi_gpu": False, "save_label": True, "label_tag": "original", "max_workers": 1}
    place.client.request("POST", f"/batch/infer/{place.model}", params={"images": "all", "run_sync": True}, json=body)
    files = sorted((place.studies / "labels" / "original").iterdir())
    assert [path.name.split(".")[0] for path in files] == sorted(place.truth)
    for path in files:
        assert dice(mask_in(path.read_bytes(), place.suffix), place.truth[path.name.split(".")[0]]) > 0.7
    found = place.client.request("POST", "/scoring/dice", params={"run_sync": True}).json()
    assert set(found) == set(list(place.truth)[:LABELS])
    for name, value in found.items():
        path = next(path for path in files if path.name.split(".")[0] == name)
        assert value == pytest.approx(dice(mask_in(path.read_bytes(), place.suffix), place.truth[name]))


def test_asynchronous_training_uses_all_labels_and_its_weights_are_used(place):
    place.client.save_label("case4", place.labels["case4"])
    weights = place.bundle / "models" / "model.pt"
    before = weights.read_bytes()
    place.client.train(place.model, wait=False, max_epochs=2, val_split=0, overrides={"seed": 5})
    deadline = time.monotonic() + 300
    while (task := place.client.request("GET", "/train/").json())["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < deadline, task
        place.client.info()  # the server answers meanwhile
        time.sleep(0.5)
    assert task["status"] == "DONE", task
    record = json.loads((place.bundle / "output" / "run.json").read_text())
    assert record["data"]["training"]["count"] == LABELS + 1 and record["data"]["validation"]["count"] == 0
    assert record["parameters"]["seed"] == 5
    assert weights.read_bytes() != before
    mask = mask_in(place.client.infer(place.model, "case9"), place.suffix)
    assert dice(mask, place.truth["case9"]) > 0.85


def test_training_anew_and_unknown_keys(place):
    place.client.train(place.model, max_epochs=1, pretrained=False, val_split=0)
    with pytest.raises(requests.HTTPError, match="unknown key lerning_rate.*did you mean learning_rate"):
        place.client.train(place.model, max_epochs=1, overrides={"lerning_rate": 1})


def test_a_bad_label_is_told_in_one_sentence_and_changes_no_weights(place):
    if place.suffix != ".png":
        pytest.skip("once is enough")
    weights = (place.bundle / "models" / "model.pt").read_bytes()
    bad = write(place.studies.parent / "bad.png", np.full((SIZE[1], SIZE[0]), 7, np.uint8))
    place.client.save_label("case5", bad)
    with pytest.raises(requests.HTTPError, match="400.*holds the value 7, but the classes are 0 to 1"):
        place.client.train(place.model, max_epochs=1, val_split=0)
    assert (place.bundle / "models" / "model.pt").read_bytes() == weights
    place.client.request("DELETE", "/datastore/label", params={"id": "case5", "tag": "final"})


def test_the_server_ends_with_everything_it_started(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    write(studies / "a.png", scene(0)[0])
    command = [sys.executable, "-m", "bundle", "label", "--studies", str(studies), "--app", str(tmp_path / "app")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    started = subprocess.Popen([*command, "--port", "0"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        lines = [started.stdout.readline() for _ in range(3)]
        url = lines[1].split(" at ")[1].split(",")[0]
        assert url.startswith("http://127.0.0.1:") and "Ctrl-C stops it" in lines[2]
        assert json.load(urllib.request.urlopen(f"{url}/info/"))["datastore"]["total"] == 1
    finally:
        started.terminate()
        assert started.wait(60) == 130
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/info/", timeout=5)


def test_monai_labels_own_app_serves_the_bundle_too(tmp_path):
    """The sample app ``monaibundle``, as people have it who take the bundle from the Model Zoo."""
    app, studies = tmp_path / "app", tmp_path / "studies"
    build_app(tmp_path / "ours", Settings(weights=random_weights(tmp_path), overlays=[UNET], values=VALUES))
    shutil.copytree(Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle", app)
    shutil.copytree(tmp_path / "ours" / "model", app / "model")
    studies.mkdir()
    for number in range(6):
        write(studies / f"case{number}.jpg", scene(number)[0])
    name = model_name(app)
    with Server(app, studies, conf={"models": name, "epistemic_model": name}) as server:
        client = Client(server.url)
        for number in range(3):
            client.save_label(f"case{number}", write(tmp_path / f"case{number}.png", scene(number)[1]))
        client.train(name, max_epochs=5)
        mask = mask_in(client.infer(name, "case5"), ".jpg")
        assert set(np.unique(mask)) == {0, 1} and dice(mask, scene(5)[1]) > 0.85
        run = json.loads((app / "model" / name / "output" / "run.json").read_text())["data"]
        assert run["unlabeled"]["count"] == 3
        deadline = time.monotonic() + 300  # this app scores after each training
        while client.session.get(f"{server.url}/scoring/", params={"check_if_running": True}).ok:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        done = client.request("POST", f"/scoring/{name}", params={"run_sync": True}, json={"max_workers": 1}).json()
        assert done["total"] == done["executed"] + done["skipped"] == 3
