# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Volumes through the real command: oblique, flipped and anisotropic NIfTI, a DICOM series, and pictures beside them.

The network has random weights, so that a slice that is turned, moved or mixed up with another one gives another mask.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from scripts.data.volumes import read_volume, scale_volume, slice_affine, turn_back
from scripts.networks import UNet
from scripts.transforms.resize import resize_plane
from tests.data.test_dicom import write as write_dicom
from tests.data.test_volumes import affines
from tests.tiny import ROOT, SMALL_UNET

SIZE = (48, 32)
AFFINES = list(affines())


def smooth(shape, seed):
    noise = np.random.default_rng(seed).normal(size=shape)
    return gaussian_filter(noise, [1.5] * len(shape)) * 3000 + 500


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    network = UNet(3, 3, channels=SMALL_UNET["channels"]).eval()
    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    torch.nn.init.zeros_(last.bias)
    sample = torch.from_numpy(scale_volume(smooth((3, *SIZE, 1), 11)))[None, ..., 0]
    with torch.no_grad():  # without a lead of one class over the others, which would hide everything
        last.bias -= network(sample).mean(dim=(0, 2, 3))
    return network


def write_folder(folder):
    """Name of the mask -> path of the image, for every volume; a picture, a plane and a frame lie beside them."""
    folder.mkdir(parents=True)
    volumes = {}
    for n, (shape, affine) in enumerate(
        [((20, 24, 9), AFFINES[5]), ((14, 30, 18), AFFINES[22]), ((30, 22, 3), AFFINES[40])]
    ):
        image = nibabel.Nifti1Image(smooth(shape, n).astype(np.int16), affine)
        nibabel.save(image, folder / f"scan_{n}.nii.gz")
        volumes[f"scan_{n}.nii.gz"] = folder / f"scan_{n}.nii.gz"
    colours = np.stack([smooth((12, 16, 5), n) for n in (7, 8, 9)], axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(colours, np.diag([-1, 2, 4, 1])), folder / "channels.nii")
    (folder / "series.1").mkdir()
    for z, pixels in enumerate(smooth((6, 18, 26), 4).clip(0).astype(np.uint16)):
        place = {"ImagePositionPatient": [5, -9, 3.0 * (5 - z)], "ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]}
        place["ImagePositionPatient"][1] += 3 * 0.75 * z  # a tilted gantry
        write_dicom(folder / "series.1" / f"IM{z}", pixels, PixelSpacing=[0.7, 0.7], SeriesInstanceUID="1.2", **place)
    Image.fromarray(smooth((20, 30), 5).clip(0, 255).astype(np.uint8)).save(folder / "picture.png")
    write_dicom(folder / "frame.dcm", smooth((20, 30), 6).clip(0).astype(np.uint16))
    nibabel.save(nibabel.Nifti1Image(smooth((20, 30, 1), 10).astype(np.float32), np.eye(4)), folder / "plane.nii")
    return volumes | {"channels.nii.gz": folder / "channels.nii", "series.1.nii.gz": folder / "series.1"}


def run(*arguments):
    command = [sys.executable, "-m", "monai.bundle", "run", *map(str, arguments), "--device", "$torch.device('cpu')"]
    network = {"_target_": SMALL_UNET["_target_"], "channels": str(SMALL_UNET["channels"])}
    for key, value in network.items():
        command += [f"--network_def#{key}", value]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def predicted(tmp_path_factory, network):
    """One run of the inference over the folder: the volumes and the folder of the masks."""
    folder = tmp_path_factory.mktemp("volumes")
    volumes = write_folder(folder / "in")
    torch.save(network.state_dict(), folder / "model.pt")
    run(
        "--config_file", "configs/inference.json", "--dataset_dir", folder / "in", "--output_dir", folder / "out",
        "--ckpt_path", folder / "model.pt", "--image_size", list(SIZE), "--num_classes", 3, "--batch_size", 4,
        "--overlays", "true",
    )  # fmt: skip
    return volumes, folder / "out"


@torch.no_grad()
def by_hand(path, network):
    """The mask in the grid of the source, slice by slice."""
    volume = read_volume(path)
    scaled = torch.from_numpy(scale_volume(volume.array))
    scaled = scaled if len(scaled) == 3 else scaled.repeat(3, 1, 1, 1)
    slices = []
    for z in range(scaled.shape[-1]):
        logits = network(resize_plane(scaled[..., z], SIZE, antialias=True)[None])[0]
        slices.append(resize_plane(logits, scaled.shape[1:3]).argmax(0).numpy())
    return turn_back(np.stack(slices, axis=-1), volume.source_affine, volume.plane)


def test_masks_of_volumes_lie_on_their_source_and_equal_single_slices(predicted, network):
    volumes, out = predicted
    for name, path in volumes.items():
        mask = nibabel.load(out / name)
        source = read_volume(path)
        assert mask.shape == source.source_shape and mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, source.source_affine, atol=1e-4)
        values, expected = np.asarray(mask.dataobj), by_hand(path, network)
        assert (np.bincount(expected.ravel()) / expected.size).max() < 0.9
        assert (values != expected).mean() < 1e-3, name  # batches may round another way than single slices


def test_everything_beside_them_has_its_mask_and_its_overlay(predicted):
    volumes, out = predicted
    others = {"picture.png", "frame.png", "plane.nii.gz"}
    assert {path.name for path in out.iterdir()} == {*volumes, *others, "overlays"}
    assert Image.open(out / "frame.png").size == (30, 20)
    drawn = {path.name for path in (out / "overlays").iterdir()}
    assert drawn == {name.replace(".nii.gz", ".png") for name in {*volumes, *others}}


def write_slices(folder, name, path, mask):
    """The slices of a volume and of its mask as 2-D NIfTI files, as ``prepare`` makes them: items of a data list."""
    volume = read_volume(path)
    reference = read_volume(mask, volume.plane)
    scaled, items = (scale_volume(volume.array) * 65535).round().astype(np.uint16), []
    for z in range(scaled.shape[-1]):
        names = {"image": folder / f"{name}_{z}.nii.gz", "label": folder / f"{name}_{z}_mask.nii.gz"}
        image = nibabel.Nifti1Image(np.moveaxis(scaled[..., z : z + 1], 0, -1), slice_affine(volume, z))
        image.header.set_slope_inter(1 / 65535, 0)
        image.header["cal_min"], image.header["cal_max"] = 0, 1
        nibabel.save(image, names["image"])
        nibabel.save(nibabel.Nifti1Image(reference.array[0, ..., z], slice_affine(volume, z)), names["label"])
        item = {key: str(value) for key, value in names.items()} | {"key": f"{name}_{z}", "group": name}
        items.append(item | {"volume": name, "slice": str(z), "spacing": " ".join(map(str, volume.spacing))})
    return items


def test_the_evaluation_scores_the_masks_that_inference_writes(predicted, tmp_path):
    volumes, out = predicted
    lists, masks = {}, {}
    for n, part in enumerate(("test", "test", "training")):
        path, mask = volumes[f"scan_{n}.nii.gz"], tmp_path / f"mask_{n}.nii.gz"
        image = nibabel.load(path)
        values = np.digitize(smooth(image.shape, 20 + n), (300, 800)).astype(np.uint8)
        values[0] = 255  # ignored
        nibabel.save(nibabel.Nifti1Image(values, image.affine), mask)
        masks[f"scan_{n}"] = values
        lists.setdefault(part, []).extend(write_slices(tmp_path, f"scan_{n}", path, mask))
    lists["validation"] = [item | {"key": "v", "group": "v", "volume": "v"} for item in lists["training"][-1:]]
    del lists["training"][-1]
    (tmp_path / "set.json").write_text(json.dumps(lists))
    run(
        "evaluating", "--config_file", "['configs/train.json','configs/evaluate.json']", "--dataset_dir",
        tmp_path / "set.json", "--output_dir", tmp_path / "run", "--ckpt_path", out.parent / "model.pt",
        "--image_size", list(SIZE), "--num_classes", 3,
    )  # fmt: skip
    with open(tmp_path / "run" / "evaluation" / "per_volume.csv", newline="") as file:
        rows = {row["volume"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"scan_0", "scan_1"}
    for name, row in rows.items():
        found, reference = np.asarray(nibabel.load(out / f"{name}.nii.gz").dataobj), masks[name]
        judged = reference != 255
        for k in (1, 2):
            both = ((found == k) & (reference == k)).sum()
            dice = 2 * both / (((found == k) & judged).sum() + (reference == k).sum())
            assert float(row[f"dice_{k}"]) == pytest.approx(dice, abs=2e-3)  # slices hold 16 bits, volumes floats
    summary = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert summary["scores"]["mean_dice"] == pytest.approx(np.mean([float(row["dice"]) for row in rows.values()]))
    assert (summary["distance_unit"], summary["cases"], summary["scored_at"]["size"]) == ("mm", 2, None)
