# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What `prepare` makes of volumes, DICOM series and single DICOM frames."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from scripts.data import ImageReader, MaskReader
from scripts.data.volumes import read_volume, scale_volume
from tests.folders import OBLIQUE, mixed_folder, pairs, save, save_series, save_volume, volumes
from tests.preparing import NAMES, everything, refused, run


@pytest.mark.parametrize("plane", ["auto", "coronal", "sagittal"])
def test_volumes_become_slices_with_their_masks(tmp_path, plane):
    made = volumes(6)
    for index, (image, mask) in enumerate(made):
        save_volume(tmp_path / f"src/case{index}.nii.gz", image, OBLIQUE)
        save_volume(tmp_path / f"src/case{index}_seg.nii.gz", mask.astype(np.float32), OBLIQUE)
    report, datalist = run(tmp_path / "src", plane=plane)
    assert report.planes == ["axial" if plane == "auto" else plane] and report.in_channels == 1
    sides = [{item["volume"] for item in datalist[name]} for name in NAMES]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 6
    for item in everything(datalist):
        assert item["group"] == item["volume"]
        volume = read_volume(tmp_path / f"src/{item['volume']}.nii.gz", plane)
        mask = read_volume(tmp_path / f"src/{item['volume']}_seg.nii.gz", plane)
        index = int(item["slice"])
        assert item["spacing"] == " ".join(f"{size:.6g}" for size in volume.spacing)
        image, metadata = ImageReader(1).get_data(item["image"])
        assert np.abs(image - scale_volume(volume.array)[..., index]).max() < 1e-4
        assert (MaskReader(2).get_data(item["label"])[0] == mask.array[..., index]).all()
        corner = np.array([3, 4, 0, 1])
        assert np.allclose(metadata["affine"] @ corner, volume.affine @ (corner + [0, 0, index, 0]), atol=1e-3)
    header = nibabel.load(datalist["training"][0]["image"]).header
    assert (float(header["cal_min"]), float(header["cal_max"])) == (0, 1) and header.get_data_dtype() == np.uint16


def test_a_prepared_set_keeps_slice_distance_and_names_when_it_is_prepared_again(tmp_path):
    for index, (image, mask) in enumerate(volumes(5)):
        save_volume(tmp_path / f"src/imagesTr/c{index}.nii.gz", image)
        save_volume(tmp_path / f"src/labelsTr/c{index}.nii.gz", mask)
    (tmp_path / "src/dataset.json").write_text(
        '{"labels": {"background": 0, "ulcer": 1}, "channel_names": {"0": "MR"}}'
    )
    run(tmp_path / "src", tmp_path / "first")
    report, datalist = run(tmp_path / "first", tmp_path / "again", copy=True)
    assert {item["spacing"] for item in everything(datalist)} == {"1 1 5"}
    assert report.class_names == {0: "background", 1: "ulcer"}


def test_channels_in_files_and_on_a_fourth_axis(tmp_path):
    for index, (image, mask) in enumerate(volumes(5)):
        for channel in range(2):
            save_volume(tmp_path / f"a/imagesTr/c{index}_{channel:04d}.nii.gz", image * (channel + 1) + channel)
        save_volume(tmp_path / f"a/labelsTr/c{index}.nii.gz", mask)
        save_volume(tmp_path / f"b/imagesTr/c{index}.nii.gz", np.stack([image, image * 2 + 1], -1))
        save_volume(tmp_path / f"b/labelsTr/c{index}.nii.gz", mask)
    for name in "ab":
        save_volume(tmp_path / f"{name}/imagesTs/t0{'_0000' * (name == 'a')}.nii.gz", image + 3)
    save_volume(tmp_path / "a/imagesTs/t0_0001.nii.gz", image)
    save_volume(tmp_path / "b/imagesTs/t0.nii.gz", np.stack([image, image], -1))
    results = []
    for name in "ab":
        report, datalist = run(tmp_path / name, tmp_path / f"out_{name}")
        assert (report.layout, report.in_channels, report.images["unlabeled"]) == ("nnunet", 2, 5)
        results.append({i["key"]: ImageReader(2).get_data(i["image"])[0] for i in everything(datalist)})
    for key in results[0]:
        assert key.startswith("t0") or (results[0][key] == results[1][key]).all()


def test_a_mask_in_another_grid_is_named(tmp_path):
    for index, (image, mask) in enumerate(volumes(6)):
        save_volume(tmp_path / f"src/case{index}.nii.gz", image, OBLIQUE)
        affine = OBLIQUE if index else OBLIQUE @ np.diag([1.1, 1, 1, 1])
        save_volume(tmp_path / f"src/case{index}_mask.nii.gz", mask if index != 2 else mask[:, :, :4], affine)
    message = refused(tmp_path / "src", "2 files cannot be used")
    assert "case0_mask.nii.gz lie differently" in message and "case2_mask.nii.gz has" in message


def test_a_dicom_series_with_masks_by_instance_or_as_volume(tmp_path):
    for index, (image, mask) in enumerate(volumes(5)):
        paths = save_series(tmp_path / f"a/images/p{index}", image)
        for number, path in enumerate(paths):
            save(tmp_path / f"a/masks/p{index}/{path.stem}.png", mask[..., number].T * 255)
        save_series(tmp_path / f"b/p{index}/CT", image)
        save_series(tmp_path / f"b/p{index}/seg", mask)
    found = []
    for name in "ab":
        report, datalist = run(tmp_path / name, tmp_path / f"out_{name}")
        assert report.planes == ["axial"] and report.images["training"] % 5 == 0
        found.append({item["key"].replace("_CT", ""): item for item in everything(datalist)})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 25
    for key, item in found[0].items():
        other = found[1][key]
        assert item["spacing"] == other["spacing"] == "0.7 0.7 5"
        mask = MaskReader(2).get_data(item["label"])[0]
        assert (mask == MaskReader(2).get_data(other["label"])[0]).all()
        image = ImageReader(1).get_data(item["image"])[0]
        assert not mask.any() or image[mask > 0].mean() > image[mask == 0].mean() + 0.3


def test_slices_of_a_series_without_a_mask_have_no_label(tmp_path):
    for index, (image, mask) in enumerate(volumes(5)):
        paths = save_series(tmp_path / f"src/images/p{index}", image)
        for number, path in enumerate(paths[1:], start=1):
            save(tmp_path / f"src/masks/p{index}/{path.stem}.png", mask[..., number].T * 255)
    report, datalist = run(tmp_path / "src")
    assert report.num_classes == 2 and report.classes[1]["training"] > 5
    assert {item["slice"] for item in everything(datalist) if "label" in item} == {"1", "2", "3", "4"}
    assert {item["slice"] for item in datalist["unlabeled"]} == {"0"}
    report, datalist = run(tmp_path / "src", tmp_path / "sagittal", plane="sagittal")
    masks = [MaskReader(2, report.ignore_value).get_data(item["label"])[0] for item in datalist["training"]]
    assert set(np.unique(masks)) == {0, 1, 255} and all((mask == 255).mean() == 0.2 for mask in masks)


def test_single_dicom_frames_are_used_as_they_are(tmp_path):
    for index, (image, mask) in enumerate(volumes(8, (20, 24, 1))):
        (path,) = save_series(tmp_path / f"src/p{index}", image)
        path.rename(path.with_name("frame.dcm"))
        save(tmp_path / f"src/p{index}/mask.png", np.eye(*mask.shape[:2], dtype=np.uint8).T)
    report, datalist = run(tmp_path / "src", group_by="folder")
    assert report.images["test"] == 2 and not report.planes
    assert all(item["image"].endswith("frame.dcm") for item in everything(datalist))


def test_single_dicom_images_without_suffix_are_named(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    (path,) = save_series(tmp_path / "src/scan", volumes(1, (8, 8, 1))[0][0])
    path.rename(path.with_suffix(""))
    refused(source, "scan/IM0001: a single DICOM image without the suffix .dcm")


def test_series_of_files_without_suffix_are_volumes(tmp_path):
    for index, (image, mask) in enumerate(volumes(4)):
        for number, path in enumerate(save_series(tmp_path / f"src/p{index}/MR", image)):
            path.rename(path.with_name(f"MR.1.2.840.{number}"))
        save_series(tmp_path / f"src/p{index}/label", mask)
    report, _ = run(tmp_path / "src")
    assert sum(report.images.values()) == 20 and report.planes == ["axial"]


def test_a_volume_with_three_points_in_time_among_grey_ones_is_named(tmp_path):
    for index, (image, mask) in enumerate(volumes(6)):
        save_volume(tmp_path / f"src/images/{index}.nii.gz", np.stack([image] * 3, -1) if index == 2 else image)
        save_volume(tmp_path / f"src/masks/{index}.nii.gz", mask)
    assert "2.nii.gz: it has 3 channels, but most images have 1" in refused(tmp_path / "src", "1 file cannot be used")
