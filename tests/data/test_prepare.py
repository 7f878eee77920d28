# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What `prepare` makes of a folder: lists, masks, slices, splits; and that it leaves nothing behind when it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from scripts.data import ImageReader, MaskReader, check_datalist, load_datalist
from scripts.data.prepare import Options, prepare
from scripts.data.prepare.values import NO_LABEL, decide_rule
from scripts.data.volumes import read_volume, scale_volume
from scripts.errors import InputError
from tests.folders import OBLIQUE, content_of, mixed_folder, pairs, save, save_series, save_volume, volumes

NAMES = ("training", "unlabeled", "validation", "test")


def run(source, output=None, **options):
    """Prepares a folder that stays as it is; the report, and the lists as training reads them."""
    output = output or Path(source).with_name("prepared")
    before = content_of(source) if Path(source).is_dir() else {}
    report = prepare(source, output, Options(**options))
    assert not before or content_of(source) == before
    datalist = load_datalist(output, num_classes=report.num_classes, annotation=report.annotation)
    check_datalist(datalist, report.num_classes, report.in_channels, report.ignore_value)
    return report, datalist


def everything(datalist):
    return [item for name in NAMES for item in datalist[name]]


def left_out(output):
    with (Path(output) / "left_out.csv").open(encoding="utf-8", newline="") as stream:
        return {Path(row["file"]).name: row["reason"] for row in csv.DictReader(stream)}


def refused(source, message, **options):
    """The message of a refusal, after which there is no output and the source is as before."""
    output = Path(source).with_name("refused")
    before = content_of(source)
    with pytest.raises(InputError, match=message) as caught:
        prepare(source, output, Options(**options))
    assert content_of(source) == before
    assert not output.exists() and not output.with_name("refused.part").exists()
    return str(caught.value)


def test_a_mixed_folder_is_used_where_it_lies(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(12))
    report, datalist = run(source)
    assert (report.layout, report.num_classes, report.in_channels) == ("names", 2, 3)
    assert [report.images[name] for name in NAMES] == [9, 0, 1, 2]
    assert all(item["label"] == item["image"].replace(".png", "_mask.png") for item in everything(datalist))
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["datalist.json"]
    facts = json.loads((tmp_path / "prepared/datalist.json").read_text())
    assert facts["num_classes"] == 2 and facts["in_channels"] == 3 and facts["prepared_from"] == str(source)
    assert facts["settings"]["val_share"] == 0.1 and facts["plane"] is None


def test_a_copied_set_can_be_moved(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    run(source, copy=True)
    shutil.rmtree(source)
    shutil.move(tmp_path / "prepared", tmp_path / "moved")
    datalist = load_datalist(tmp_path / "moved")
    check_datalist(datalist)
    assert {Path(item["image"]).parent for item in everything(datalist)} == {tmp_path / "moved/images"}


def test_grey_values_need_names_and_the_message_says_which(tmp_path):
    made = [(image, np.array([0, 85, 170], np.uint8)[mask]) for image, mask in pairs(10, classes=3)]
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", mask)
    message = refused(tmp_path / "src", "--values '85=1,170=2'")
    assert "0 (" in message and "85 (" in message and "170 (" in message
    report, datalist = run(tmp_path / "src", values="85=1,170=2")
    assert report.num_classes == 3
    for item in everything(datalist):
        expected = made[int(item["key"])][1] // 85
        assert (MaskReader(3).get_data(item["label"])[0][0] == expected.T).all()
    assert refused(tmp_path / "src", "holds the value 170, which has no class", values="85=1")


def test_colours_become_classes(tmp_path):
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    made = pairs(10, classes=3)
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", palette[mask])
    message = refused(tmp_path / "src", "#ff0000=")
    option = message.split("--values '")[1].split("'")[0]
    assert sorted(option.split(",")) == ["#00ff00=1", "#ff0000=2"]
    _, datalist = run(tmp_path / "src", values="#ff0000=1,#00ff00=2")
    for item in everything(datalist):
        assert (MaskReader(3).get_data(item["label"])[0][0].T == made[int(item["key"])][1]).all()


def test_jpeg_masks_take_the_nearest_named_value(tmp_path):
    made = pairs(10, classes=3)
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.jpg", np.array([0, 128, 255], np.uint8)[mask])
    refused(tmp_path / "src", "hold values that are no class indices")
    _, datalist = run(tmp_path / "src", values="128=1,255=2")
    wrong = [
        (MaskReader(3).get_data(item["label"])[0][0].T != made[int(item["key"])][1]).mean()
        for item in everything(datalist)
    ]
    assert np.mean(wrong) < 0.05


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
        save(tmp_path / f"src/p{index}/mask.png", mask[..., 0].T)
    report, datalist = run(tmp_path / "src", group_by="folder")
    assert report.images["test"] == 2 and not report.planes
    assert all(item["image"].endswith("frame.dcm") for item in everything(datalist))


def test_every_class_reaches_every_side_and_groups_stay_whole(tmp_path):
    for index, (image, mask) in enumerate(pairs(40, size=16)):
        mask = mask + 1 * (mask > 0) * (index // 2 in (3, 7, 11))
        save(tmp_path / f"src/images/p{index // 2:02d}_{index % 2}.png", image)
        save(tmp_path / f"src/masks/p{index // 2:02d}_{index % 2}.png", mask.astype(np.uint8))
    for seed in range(5):
        shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
        report, datalist = run(tmp_path / "src", group_by=r"pattern:(p\d+)_", seed=seed)
        assert all(report.classes[2][name] == 2 for name in ("training", "validation", "test"))
        groups = [{item["group"] for item in datalist[name]} for name in NAMES]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_equal_images_become_one_group_whatever_their_format(tmp_path):
    made = pairs(12, colour=False)
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index:02d}.png", image)
        save(tmp_path / f"src/masks/{index:02d}.png", mask)
    save(tmp_path / "src/images/12.tif", made[3][0])
    save(tmp_path / "src/masks/12.png", made[3][1])
    save(tmp_path / "src/images/13.bmp", np.stack([made[3][0]] * 3, -1))
    _, datalist = run(tmp_path / "src")
    groups = {item["key"]: item["group"] for item in everything(datalist)}
    assert groups["12"] == groups["13"] == groups["03"] and len(set(groups.values())) == 12


def test_a_copy_on_a_less_protected_side_is_left_out(tmp_path):
    made = pairs(9)
    for side, numbers in {"train": (0, 1, 2, 3, 4, 5), "val": (6, 7, 4), "test": (8, 7, 5)}.items():
        for index in numbers:
            save(tmp_path / f"src/{side}/images/{side}{index}.png", made[index][0])
            save(tmp_path / f"src/{side}/masks/{side}{index}.png", made[index][1])
    report, _ = run(tmp_path / "src")
    assert report.images == {"training": 4, "unlabeled": 0, "validation": 2, "test": 3}
    assert set(left_out(tmp_path / "prepared")) == {"train4.png", "train5.png", "val7.png"}
    assert "test7.png on the side 'test'" in left_out(tmp_path / "prepared")["val7.png"]


def test_broken_files_are_all_named_and_can_be_skipped(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(14))
    (source / "case01.png").write_bytes(b"no picture")
    (source / "case02_mask.png").write_bytes((source / "case02_mask.png").read_bytes()[:60])
    save(source / "case03_mask.png", np.zeros((8, 8), np.uint8))
    save(source / "lost_mask.png", np.zeros((8, 8), np.uint8))
    message = refused(source, "4 files cannot be used; mend them, or leave them out with --skip-broken")
    for name in ("case01.png", "case02_mask.png", "case03_mask.png", "lost_mask.png"):
        assert sum(name in line for line in message.splitlines()) == 1
    report, _ = run(source, skip_broken=True)
    assert sum(report.images.values()) == 11
    listed = left_out(tmp_path / "prepared")
    assert set(listed) == {"case01.png", "case02_mask.png", "case03_mask.png", "lost_mask.png"} | {
        "case02.png",
        "case03.png",
    }


def test_at_most_twenty_broken_files_are_printed(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(4))
    for index in range(30):
        (source / f"broken{index}.png").write_bytes(b"x")
    message = refused(source, "30 files cannot be used")
    assert len(message.splitlines()) == 22 and message.endswith("and 10 more")


def test_outputs_that_are_refused(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    with pytest.raises(InputError, match="is the folder to prepare"):
        prepare(source, source / ".", Options())
    with pytest.raises(InputError, match="is not empty"):
        prepare(source, tmp_path, Options())
    (tmp_path / "out.part").mkdir()
    with pytest.raises(InputError, match="out.part is in the way"):
        prepare(source, tmp_path / "out", Options())
    (tmp_path / "empty").mkdir()
    run(source, tmp_path / "empty")


def test_what_a_killed_run_left_is_removed(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    (tmp_path / "out.part/images").mkdir(parents=True)
    (tmp_path / "out.part/.less_net_prepare").touch()
    run(source, tmp_path / "out")
    assert not (tmp_path / "out.part").exists() and not (tmp_path / "out/.less_net_prepare").exists()


def test_an_output_inside_the_source_is_not_read_again(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    prepare(source, source / "new/first", Options(copy=True))
    report = prepare(source, source / "second", Options(copy=True))
    assert sum(report.images.values()) == 8


def scribbled(root, count, unlabelled, classes):
    """Images with dense masks and scribbles, which hold ``unlabelled`` off the strokes."""
    for index, (image, mask) in enumerate(pairs(count, classes=classes)):
        scribble = np.full_like(mask, unlabelled)
        scribble[::4] = mask[::4]
        for name, array in (("images", image), ("masks", mask), ("scribbles", scribble)):
            save(root / f"{name}/{index:02d}.png", array)
    return root


def test_scribbles_that_mark_unlabelled_by_the_next_number_stay_and_the_command_says_so(tmp_path):
    source = scribbled(tmp_path / "src", 8, 4, classes=4)
    report, datalist = run(source)
    assert (report.num_classes, report.ignore_value) == (4, 4)
    assert all(item["scribble"].startswith(str(source)) for item in datalist["training"])
    values = MaskReader(4, report.ignore_value).get_data(datalist["training"][0]["scribble"])[0]
    assert 0.7 < (values == 255).mean() < 0.8


def test_scribbles_of_two_classes_never_read_no_label_as_lesion(tmp_path):
    source = scribbled(tmp_path / "src", 8, 255, classes=2)
    save(source / "scribbles/00.png", np.where(np.arange(32)[:, None] % 4, 255, 0).astype(np.uint8).repeat(32, 1))
    report, datalist = run(source)
    reader = MaskReader(2, report.ignore_value)
    for item in everything(datalist):
        if "scribble" in item:
            assert (reader.get_data(item["scribble"])[0] == 255).mean() > 0.7


def test_names_of_any_kind(tmp_path):
    made = pairs(10)
    names = ["ü" * 60, "病变", "a b", "'quote'", "x" * 240, "y" * 239 + "1", "#1", "%41", "&", "-dash"]
    for name, (image, mask) in zip(names, made):
        save(tmp_path / f"src/images/{name}.png", image)
        save(tmp_path / f"src/masks/{name}.png", mask * 85)
    report, datalist = run(tmp_path / "src", values="85=1", copy=True)
    assert sum(report.images.values()) == 10 and {item["key"] for item in everything(datalist)} == set(names)


def test_patients_of_a_column_or_a_folder(tmp_path):
    rows = ["photo;truth;person"]
    for index, (image, mask) in enumerate(pairs(12)):
        save(tmp_path / f"src/p{index // 2}/img{index}.jpg", image)
        save(tmp_path / f"src/p{index // 2}/truth{index}.png", mask)
        rows.append(f"p{index // 2}/img{index}.jpg;p{index // 2}/truth{index}.png;person {index // 2}")
    (tmp_path / "src/table.csv").write_text("\n".join(rows))
    columns = "image=photo,mask=truth"
    for option, expected in (("column:person", "person 0"), ("folder", "p0")):
        shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
        _, datalist = run(tmp_path / "src", columns=columns, group_by=option)
        groups = {item["key"]: item["group"] for item in everything(datalist)}
        assert groups["img0"] == groups["img1"] == expected and len(set(groups.values())) == 6
    refused(tmp_path / "src", "img0.jpg has nothing in the column 'age'", columns=columns, group_by="column:age")
    refused(tmp_path / "src", "--group-by is 'patient'", columns=columns, group_by="patient")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "oblique"}, "--plane is 'oblique'"),
        ({"layout": "magic"}, "--layout is 'magic'"),
        ({"layout": "coco"}, "no files of the layout 'coco'"),
        ({"values": "red=1"}, "--values has 'red=1'"),
        ({"values": "85=2"}, "leaves out class 1"),
        ({"columns": "photo"}, "--columns has 'photo'"),
        ({"val_share": 0.0}, "must be positive"),
        ({"group_by": "folder"}, "lies in no sub-folder"),
        ({"group_by": "pattern:("}, "not a regular expression"),
    ],
)
def test_bad_options(tmp_path, options, message):
    refused(mixed_folder(tmp_path / "src", pairs(6, 16)), message, **options)


def test_folders_without_anything_to_train_on(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no image that is read")
    save(tmp_path / "bare/a.png", pairs(1)[0][0])
    refused(tmp_path / "bare", "nothing can be learnt")
    with pytest.raises(InputError, match="does not exist"):
        prepare(tmp_path / "nowhere", tmp_path / "out", Options())


def test_masks_with_blurred_edges_need_nearest(tmp_path):
    made = pairs(8)
    for index, (image, mask) in enumerate(made):
        soft = (np.repeat(mask, 2, 1)[:, 1:].astype(int) + np.repeat(mask, 2, 1)[:, :-1])[:, ::2] * 100 + mask * 55
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", (soft * (1 + np.arange(32)) / 32).astype(np.uint8))
    assert "--nearest (0 is background" in refused(tmp_path / "src", "8 %|more")
    assert "add --nearest" in refused(tmp_path / "src", "8 files cannot be used", values="255=1")
    report, _ = run(tmp_path / "src", values="255=1", nearest=True)
    assert report.num_classes == 2


def test_crowds_of_a_single_category_are_ignored_and_no_lesion(tmp_path):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "polyp"}]}
    square = [4, 4, 20, 4, 20, 20, 4, 20]
    for number, (image, _) in enumerate(pairs(8)):
        save(tmp_path / f"src/{number}.png", image)
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        one = {"id": number, "image_id": number, "category_id": 1, "segmentation": [square], "iscrowd": number % 2}
        content["annotations"].append(one)
    (tmp_path / "src/a.json").write_text(json.dumps(content))
    report, datalist = run(tmp_path / "src")
    assert report.ignore_value == 2
    for item in everything(datalist):
        mask = MaskReader(2, report.ignore_value).get_data(item["label"])[0]
        assert set(np.unique(mask)) == {0, 255 if int(item["key"]) % 2 else 1} and (mask > 0).sum() == 256


def test_a_size_other_than_the_coco_file_says_is_named(tmp_path):
    save(tmp_path / "src/a.png", pairs(1)[0][0])
    images = [{"id": 1, "file_name": "a.png", "width": 32, "height": 30}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "src/a.json").write_text(json.dumps(content))
    refused(tmp_path / "src", "annotations of .*a.png has 32 x 30 pixels, but .*a.png has 32 x 32")


def pinned(root, groups):
    """Images on the sides that ``groups`` names, each with a group."""
    rows = ["key,image,mask,group,split"]
    made = iter(pairs(sum(len(names) for names in groups.values()), 16))
    for side, names in groups.items():
        for number, group in enumerate(names):
            image, mask = next(made)
            paths = f"images/{side}{number}.png", f"masks/{side}{number}.png"
            save(root / paths[0], image)
            save(root / paths[1], mask)
            rows.append(f"{side}{number},{paths[0]},{paths[1]},{group},{side}")
    (root / "pairs.csv").write_text("\n".join(rows))
    return root


def test_a_patient_on_two_pinned_sides_is_refused_and_a_kind_of_image_is_not(tmp_path):
    refused(pinned(tmp_path / "a", {"train": "ppqq", "val": "r", "test": "ps"}), "group 'p' is in both train and test")
    kinds = {"train": "x" * 30 + "y" * 30, "val": "x" * 10 + "y" * 10, "test": "xy" * 10}
    _, datalist = run(pinned(tmp_path / "b", kinds))
    assert len({item["group"] for item in everything(datalist)}) == 100


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


def test_a_full_disk_or_a_closed_folder_ends_in_a_sentence(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(8))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write .*file/out"):
        prepare(source, tmp_path / "file" / "out", Options(copy=True))


def test_the_split_does_not_depend_on_what_it_need_not(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(30, 16))
    lists = [run(source, tmp_path / f"o{n}", seed=seed)[1] for n, seed in enumerate((0, 0, 1))]
    tests = [{item["key"] for item in datalist["test"]} for datalist in lists]
    assert tests[0] == tests[1] != tests[2]


def test_a_set_that_cannot_be_trained_on_is_taken_away_again(tmp_path):
    message = refused(
        pinned(tmp_path / "src", {"train": "p", "val": "q", "test": "r"}), "1 training images have a mask"
    )
    assert ".part" not in message


def test_a_value_that_few_masks_hold_is_shown_with_its_file():
    masks = [(f"m{n}.png", {0: 50, 255: 9}, False) for n in range(9)] + [("odd.png", {0: 50, 255: 9, 7: 1}, False)]
    with pytest.raises(InputError, match="7 is only in odd.png$"):
        decide_rule(masks, {})
    with pytest.raises(InputError) as caught:  # held by most of them, values are classes and not a slip
        decide_rule([(f"m{n}.png", {0: 50, 85: 9, 170: 3, NO_LABEL: 4}, False) for n in range(9)], {})
    assert "only in" not in str(caught.value) and "'85=1,170=2'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("P{}/{}", "6 folders (P0, P1, P2, ...)"),
        ("P{}_{}", "begin in 6 ways (P0, P1, P2, ...)"),
        ("{1}", ""),
        ("IMG_{}{}", ""),
    ],
)
def test_what_looks_like_patients_is_told(tmp_path, caplog, name, told):
    for index, (image, mask) in enumerate(pairs(12)):
        save(tmp_path / f"src/images/{name.format(index // 2, index)}.png", image)
        save(tmp_path / f"src/masks/{name.format(index // 2, index)}.png", mask)
    run(tmp_path / "src")
    assert ("--group-by" in caplog.text) == bool(told) and told in caplog.text
    if told:
        option = re.search("add --group-by '?(folder|pattern:[^']+)", caplog.text).group(1)
        caplog.clear()
        report, datalist = run(tmp_path / "src", tmp_path / "again", group_by=option)
        assert "--group-by" not in caplog.text and report.images["test"] == 2
        assert len({item["group"] for item in everything(datalist)}) == 6


def test_masks_without_background_are_told(tmp_path, caplog):
    for index, (image, mask) in enumerate(pairs(8)):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", mask + 1)
    prepare(tmp_path / "src", tmp_path / "out", Options())
    assert "No mask holds class 0" in caplog.text and "--values '1=0,2=1'" in caplog.text
    caplog.clear()
    run(tmp_path / "src", tmp_path / "again", values="1=0,2=1")
    assert "No mask holds" not in caplog.text


def test_a_volume_with_three_points_in_time_among_grey_ones_is_named(tmp_path):
    for index, (image, mask) in enumerate(volumes(6)):
        save_volume(tmp_path / f"src/images/{index}.nii.gz", np.stack([image] * 3, -1) if index == 2 else image)
        save_volume(tmp_path / f"src/masks/{index}.nii.gz", mask)
    assert "2.nii.gz: it has 3 channels, but most images have 1" in refused(tmp_path / "src", "1 file cannot be used")


def test_a_folder_without_masks_says_how_to_name_them(tmp_path):
    for index, (image, mask) in enumerate(pairs(6)):
        save(tmp_path / f"src/Bilder/{index}.png", image)
        save(tmp_path / f"src/Umrisse/u{index}.png", mask)
    refused(tmp_path / "src", "12 images, 0 with a mask.*--masks FOLDER")
