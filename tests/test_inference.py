# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Inference of a folder through the real config, with a network whose answer can be told from the image.

The network marks what is bright. Every image has one bright rectangle in its upper right part, as a viewer shows it,
so that a mask that is turned, mirrored or moved is found out.
"""

import hashlib
import logging
import os

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import Compose, SaveImaged
from PIL import Image

from scripts.errors import InputError
from scripts.inputs import check_prediction, images_to_predict
from scripts.run.excepthook import chain
from tests.data.test_dicom import write as write_frame
from tests.data.test_dicom import write_series

CONFIG = "configs/inference.json"
BRIGHT = {
    "_target_": "torch.nn.Conv2d",
    "in_channels": "@in_channels",
    "out_channels": "@num_classes",
    "kernel_size": 1,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def bundle_root(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)


def weights(path, classes=2, channels=3):
    """Weights of a 1x1 convolution: class 1 where the mean is above 0.6, class 2 (if any) above 0.9."""
    network = torch.nn.Conv2d(channels, classes, 1)
    for k in range(classes):
        network.weight.data[k] = 100.0 * k / channels
    network.bias.data = torch.tensor([0.0, -60.0, -150.0][:classes])
    torch.save(network.state_dict(), path)
    return str(path)


def predict(folder, classes=2, channels=3, **overrides):
    out = folder.parent / "out"
    settings = {"dataset_dir": str(folder), "output_dir": str(out), "image_size": [64, 48], "batch_size": 4}
    settings |= {"num_classes": classes, "in_channels": channels, "network_def": BRIGHT, "device": torch.device("cpu")}
    settings["ckpt_path"] = weights(folder.parent / "model.pt", classes, channels)
    settings |= overrides
    workflow = ConfigWorkflow(config_file=CONFIG, workflow_type="infer", logging_file=False, **settings)
    workflow.initialize()
    workflow.run()
    return out


def refused(folder, match, **overrides):
    with pytest.raises(Exception) as caught:
        predict(folder, **overrides)
    messages = [str(error) for error in chain(caught.value) if isinstance(error, InputError)]
    assert messages, caught.value
    assert match in messages[0]


def scene(width=90, height=60):
    """Rows x columns, dark (40) with a bright (220) rectangle in the upper right part, and where that is."""
    mask = np.zeros((height, width), bool)
    mask[height // 10 : height // 3, width // 2 : width - width // 10] = True
    return np.where(mask, 220, 40).astype(np.uint8), mask


def agrees(found, expected):
    """Equal size, and equal but for the soft edge that resizing there and back leaves."""
    assert found.shape == expected.shape
    assert (found & expected).sum() / (found | expected).sum() > 0.8
    return True


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (33, 47), (251, 64), (64, 48), (500, 400)])
def test_sizes(folder, size):
    grey, mask = scene(*size)
    Image.fromarray(np.dstack([grey] * 3)).save(folder / "image.png")
    found = np.asarray(Image.open(predict(folder) / "image.png"))
    assert set(np.unique(found)) == {0, 255} and agrees(found > 0, mask)


def write_kinds(folder):
    """One image of every kind with the same scene: name -> expected mask (rows, columns) as shown."""
    grey, mask = scene()
    rgb = np.dstack([grey] * 3)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(rgb).save(folder / "colour.jpg", quality=95)
    Image.fromarray(rgb).save(folder / "colour_b.bmp")
    Image.fromarray(np.dstack([rgb, np.full_like(grey, 128)])).save(folder / "alpha.png")
    Image.fromarray(np.dstack([grey, grey // 2])).save(folder / "grey_alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(grey.astype(np.uint16) * 100 + 300).save(folder / "deep_t.tif")
    Image.fromarray(rgb).quantize(8).save(folder / "palette.png")
    nibabel.save(nibabel.Nifti1Image(grey.T.astype(np.float32), np.diag([0.5, 2, 1, 1])), folder / "scan.nii.gz")
    expected = dict.fromkeys([path.name for path in folder.iterdir()], mask)
    turned = Image.fromarray(rgb).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it by 90 degrees clockwise, which undoes the turn above
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    return expected | {"turned.jpg": mask}


def test_a_slice_keeps_its_axes_and_place(folder):
    """As ``prepare`` writes slices of volumes, and with a suffix as some scanners write it."""
    grey, mask = scene()
    affine = np.array([[0, 2.0, 0, -7], [-0.5, 0, 0, 3], [0, 0, 4, 9], [0, 0, 0, 1]])
    slices = {"slice.nii": grey.T[..., None], "UP.NII.GZ": grey.T, "colour.nii": np.stack([grey.T] * 3, -1)[:, :, None]}
    for name, values in slices.items():
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), folder / name)
    out = predict(folder)
    for name, axes in {"slice": (*grey.T.shape, 1), "UP": grey.T.shape, "colour": (*grey.T.shape, 1)}.items():
        made = nibabel.load(out / f"{name}.nii.gz")
        assert made.shape == axes and np.allclose(made.affine, affine) and made.header.get_xyzt_units()[0] == "mm"
        assert agrees(np.asarray(made.dataobj).reshape(grey.T.shape).T > 0, mask)


@pytest.mark.parametrize("names", ["lesion", ["background"]])
def test_names_that_are_not_one_a_class_are_refused(folder, names):
    write_kinds(folder)
    refused(folder, "give a list of 2 names, the background's first", class_names=names, overlays=True)


def test_a_file_in_place_of_the_folder_is_told(folder):
    write_kinds(folder)
    refused(folder / "grey.png", "grey.png is a file: pass the folder that holds it")


@pytest.mark.parametrize("channels, batch_size", [(3, 4), (1, 1)])
def test_kinds_of_images_come_back_as_they_are_shown(folder, channels, batch_size):
    expected = write_kinds(folder)
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    out = predict(folder, channels=channels, batch_size=batch_size)
    assert len(list(out.iterdir())) == len(expected)
    for name, mask in expected.items():
        if name.endswith(".nii.gz"):
            scan = nibabel.load(out / name)
            assert scan.get_data_dtype() == np.uint8 and np.allclose(scan.affine, np.diag([0.5, 2, 1, 1]))
            values = np.asarray(scan.dataobj)
            assert set(np.unique(values)) == {0, 1} and agrees(values.T > 0, mask)
        else:
            found = Image.open(out / (name.rsplit(".", 1)[0] + ".png"))
            assert found.mode == "L" and 0x0112 not in found.getexif() and agrees(np.asarray(found) > 0, mask), name
    assert before == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_several_classes_keep_their_indices(folder):
    grey, mask = scene()
    grey[50:58, 5:20] = 255
    Image.fromarray(grey).save(folder / "image.png")
    found = np.asarray(Image.open(predict(folder, classes=3) / "image.png"))
    assert agrees(found == 1, mask) and (grey[found == 2] == 255).all()  # the soft edge of class 2 is class 1
    assert set(np.unique(found)) == {0, 1, 2} and (found[52:56, 8:17] == 2).all()


def test_images_of_different_sizes_share_a_batch_and_overlays_are_drawn(folder, caplog):
    caplog.set_level(logging.INFO, "less_net")
    masks = {}
    for n, size in enumerate([(90, 60), (47, 33), (64, 48)]):
        grey, masks[f"image_{n}"] = scene(*size)
        Image.fromarray(grey).save(folder / f"image_{n}.png")
    out = predict(folder, overlays="true")
    for stem, mask in masks.items():
        assert agrees(np.asarray(Image.open(out / f"{stem}.png")) > 0, mask)
        overlay = np.asarray(Image.open(out / "overlays" / f"{stem}.png"))
        yellow = (overlay == (240, 228, 66)).all(-1)[:-40].nonzero()
        assert yellow[1].min() > 0.4 * overlay.shape[1]  # drawn on the right, where the bright part is
    assert "3 images" in caplog.text and str(out) in caplog.text


def test_bad_input_is_named_before_anything_is_written(folder):
    grey, _ = scene()
    refused(folder, "holds no image")
    refused(folder, "pass --dataset_dir", dataset_dir="")
    refused(folder, "does not exist", dataset_dir=str(folder / "none"))
    for name in ("dataset_dir", "output_dir", "ckpt_path"):  # as the command line reads a folder named by a date
        refused(folder, f"{name} came as 20240131", **{name: 20240131})
    Image.fromarray(grey).save(folder / "a.png")
    for inside in (folder, folder / "masks"):
        refused(folder, "pass an --output_dir outside", output_dir=str(inside))
    (folder / "cut.jpg").write_bytes((folder / "a.png").read_bytes()[:90])
    refused(folder, "cut.jpg")
    (folder / "cut.jpg").unlink()
    Image.fromarray(grey).save(folder / "a.bmp")
    refused(folder, "share the stem 'a'")
    (folder / "a.bmp").unlink()
    assert not (folder.parent / "out").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["a.png"]


def test_bad_volumes_and_series_are_named_before_anything_is_written(folder):
    write_series(folder / "scan")
    refused(folder / "scan" / "deeper", "does not exist", output_dir=str(folder.parent / "out"))
    Image.fromarray(scene()[0]).save(folder / "scan.png")
    refused(folder, "share the stem 'scan'")
    (folder / "scan.png").unlink()
    path = write_frame(folder / "scan" / "other.dcm", SeriesInstanceUID="7.7")
    refused(folder, "holds 2 DICOM series")
    os.unlink(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 6, 4, 20), np.int16), np.eye(4)), folder / "time.nii")
    refused(folder, "time.nii has 20 channels or points in time")
    (folder / "time.nii").write_bytes((folder / "time.nii").read_bytes()[:1000])
    refused(folder, "time.nii cannot be read")
    (folder / "time.nii").unlink()
    series, *_ = write_series(folder.parent / "bare", names="IM{}")
    refused(folder, "its DICOM files have no suffix, so pass the folder around it if", dataset_dir=str(series))
    assert not (folder.parent / "out").exists()


def test_monai_label_gets_the_mask_of_a_volume_in_its_own_grid(folder, tmp_path):
    values = np.random.default_rng(0).random((7, 30, 20)).astype(np.float32)
    affine = np.array([[0, 0, -1, 7], [0, 1, 0, 1], [4, 0, 0, 2], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / "a.nii.gz")
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser.update({"bundle_root": str(tmp_path), "device": "cpu", "network_def": BRIGHT, "image_size": [20, 30]})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights(tmp_path / "model.pt"), weights_only=True))
    data = parser.get_parsed_content("preprocessing")({"image": str(folder / "a.nii.gz")})
    data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    steps = [t for t in parser.get_parsed_content("postprocessing").transforms if not isinstance(t, SaveImaged)]
    result = Compose(steps)(data)["pred"]
    assert result.dtype == torch.uint8 and np.allclose(result.affine, affine)
    assert data["image"].shape == (3, 20, 30, 7) and result.shape == values.shape
    low, high = np.percentile(values, (0.5, 99.5))
    assert ((result.numpy() == 1) == ((values - low) / (high - low) > 0.6)).mean() > 0.999


def test_weights_of_other_classes_are_refused(folder):
    Image.fromarray(scene()[0]).save(folder / "a.png")
    path = weights(folder.parent / "other.pt", classes=3)
    refused(folder, "has 3 classes, the network 2: pass --num_classes 3", ckpt_path=path)
    refused(folder, "no checkpoint", ckpt_path=str(folder.parent / "none.pt"))


def test_an_empty_path_is_refused(folder):
    """An unset variable of a shell: a network without weights would mark anything, and masks would lie anywhere."""
    Image.fromarray(scene()[0]).save(folder / "a.png")
    for name in ("ckpt_path", "output_dir"):
        refused(folder, f"{name} is empty: give a path", **{name: ""})
    assert not (folder.parent / "out").exists()


def test_masks_are_not_replaced_unasked(folder):
    Image.fromarray(scene()[0]).save(folder / "a.png")
    out = predict(folder)
    (out / "a.png").write_bytes(b"mine")
    refused(folder, "pass --overwrite true")
    assert (out / "a.png").read_bytes() == b"mine"
    predict(folder, overwrite=True)
    assert Image.open(out / "a.png").size == (90, 60)


def test_monai_label_gets_its_mask(folder, tmp_path):
    """What MONAI Label does with the config: its parts one by one, and no ``SaveImaged``."""
    grey, mask = scene()
    Image.fromarray(grey).save(folder / "a.jpg", quality=95)
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser.update({"bundle_root": str(tmp_path), "device": "cpu", "network_def": BRIGHT, "image_size": [64, 48]})
    assert {"result_extension": ".png", "result_dtype": "uint8"} == parser.get_parsed_content("displayable_configs")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights(tmp_path / "model.pt"), weights_only=True))
    data = parser.get_parsed_content("preprocessing")({"image": str(folder / "a.jpg")})
    data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    steps = [t for t in parser.get_parsed_content("postprocessing").transforms if not isinstance(t, SaveImaged)]
    result = Compose(steps)(data)["pred"]
    assert result.dtype == torch.uint8 and result.shape == (90, 60) == tuple(data["image"].meta["spatial_shape"])
    assert set(result.unique().tolist()) == {0, 1} and agrees(result.numpy().T > 0, mask)
    assert not (tmp_path / "output").exists()


def test_a_folder_that_takes_no_masks_is_told_before_anything_is_predicted(folder):
    Image.fromarray(scene()[0]).save(folder / "a.png")
    (folder.parent / "file").touch()
    out = folder.parent / "file" / "out"
    refused(folder, f"output_dir {out} cannot be written (Not a directory): make it writable", output_dir=str(out))


def test_images_in_sub_folders_are_passed_over_with_a_warning(folder, caplog):
    picture = np.full((48, 64, 3), 40, np.uint8)
    (folder / "p1").mkdir()
    for name in ("a.png", "p1/b.png", "p1/c.png"):
        Image.fromarray(picture).save(folder / name)
    check_prediction(str(folder), str(folder.parent / "out"))
    with pytest.raises(InputError, match="plane is 'axal': give one of auto, axial"):  # there is no volume to notice it
        check_prediction(str(folder), str(folder.parent / "out"), plane="axal")
    assert "2 images in sub-folders" in caplog.text and "p1/" in caplog.text


def test_masks_beside_images_are_not_predicted(folder, caplog):
    picture = np.full((48, 64, 3), 40, np.uint8)
    for name in ("a.jpg", "a_mask.png", "img_7.png", "gt_7.png", "old_mask.png"):
        Image.fromarray(picture).save(folder / name)
    assert [os.path.basename(item["image"]) for item in images_to_predict(str(folder))] == [
        "a.jpg",
        "img_7.png",
        "old_mask.png",
    ]
    check_prediction(str(folder), str(folder.parent / "out"))
    assert "2 files" in caplog.text and "such as a_mask.png" in caplog.text


def test_a_folder_whose_images_lie_elsewhere_is_told_where(folder):
    grey, _ = scene()
    for name in ("Bilder", "masks", "labels"):
        (folder / name).mkdir()
        Image.fromarray(grey).save(folder / name / "a.png")
    refused(folder, f"{folder / 'Bilder'} does: pass that")
    (folder / "datalist.json").write_text('{"training": ["/photos/a.png"], "test": ["/photos/b.png"]}')
    refused(folder, "its datalist.json names images in /photos: pass that")
    (folder / "datalist.json").write_text('{"training": ["/photos/a.png"], "test": ["/others/b.png"]}')
    refused(folder, "its datalist.json names images in /others and 1 more folder: pass one of them")
