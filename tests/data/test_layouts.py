# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The folder layouts: images/ and masks/, Pascal VOC, and how a layout is recognised."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from bundle.__main__ import main
from scripts.data import MaskReader, check_datalist, load_datalist
from scripts.data.files import stem
from scripts.data.layouts import read_layout
from scripts.errors import InputError

KEYS = [f"k{index}" for index in range(6)]


def voc(root, lists, keys=KEYS, bare=()):
    """A Pascal VOC folder with palette masks whose objects have a border of 255."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    mask = np.zeros((10, 12), np.uint8)
    mask[2:6, 2:6], mask[3:5, 3:5] = 255, 1
    for key in keys:
        Image.fromarray(np.full((10, 12, 3), 90, np.uint8)).save(root / f"JPEGImages/{key}.jpg")
        if key not in bare:
            picture = Image.fromarray(mask).convert("P")
            picture.putpalette([value % 256 for value in range(768)])
            picture.save(root / f"SegmentationClass/{key}.png")
    for name, listed in lists.items():
        (root / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(listed) + "\n")
    return root


def keys_of(datalist, name):
    return {item["key"] for item in datalist[name]}


def test_an_image_without_mask_is_unlabelled(folder_set):
    root = folder_set(KEYS, bare=["u0", "u1"])
    datalist = load_datalist(root)
    assert keys_of(datalist, "unlabeled") == {"u0", "u1"}
    assert all("label" not in item for item in datalist["unlabeled"])
    everything = [item for items in datalist.values() for item in items]
    assert len({item["key"] for item in everything}) == len(everything) == 8
    check_datalist(datalist)


def test_masks_may_have_another_suffix_and_other_files_are_passed_over(folder_set):
    root = folder_set(KEYS)
    Image.open(root / "masks/k0.png").save(root / "masks/k0.TIFF")
    (root / "masks/k0.png").unlink()
    (root / "images/Thumbs.db").write_bytes(b"x")
    (root / "images/._k0.png").write_bytes(b"x")
    assert read_layout(root).items["k0"]["label"].endswith("k0.TIFF")


@pytest.mark.parametrize(("name", "expected"), [("a.nii.gz", "a"), ("a.b.png", "a.b"), ("x/a.JPG", "a")])
def test_stems(name, expected):
    assert stem(name) == expected


def test_duplicate_stems_name_both_files(folder_set):
    root = folder_set(KEYS)
    shutil.copy(root / "images/k0.png", root / "images/k0.bmp")
    with pytest.raises(InputError, match=r"k0\.bmp and .*k0\.png share the stem 'k0'"):
        load_datalist(root)


def test_a_mask_without_image_is_named(folder_set):
    root = folder_set(KEYS)
    (root / "images/k3.png").unlink()
    with pytest.raises(InputError, match=r"masks/k3\.png has no image"):
        load_datalist(root)


def test_no_masks_at_all(folder_set):
    with pytest.raises(InputError, match="holds no mask"):
        load_datalist(folder_set([], bare=KEYS))


def test_missing_folders(tmp_path, folder_set):
    with pytest.raises(InputError, match="none does not exist"):
        load_datalist(tmp_path / "none")
    with pytest.raises(InputError, match="not a dataset folder"):
        load_datalist(tmp_path)
    root = folder_set(KEYS)
    shutil.rmtree(root / "masks")
    with pytest.raises(InputError, match="masks does not exist"):
        load_datalist(root)


def test_too_few_masks_say_how_many_are_needed(folder_set):
    with pytest.raises(InputError, match="at least four masks"):
        load_datalist(folder_set(["a", "b", "c"]))
    datalist = load_datalist(folder_set(["a", "b", "c", "d"], name="four"))
    assert [len(datalist[name]) for name in ("training", "validation", "test")] == [2, 1, 1]


def test_splits_json_pins_a_plain_folder(folder_set):
    root = folder_set(KEYS)
    (root / "splits.json").write_text('{"train": ["k3", "k1", "k0"], "val": ["k2"], "test": ["k4"]}')
    datalist = load_datalist(root, label_ratio=2)
    assert [item["key"] for item in datalist["training"]] == ["k3", "k1"]
    assert keys_of(datalist, "unlabeled") == {"k0"} and keys_of(datalist, "test") == {"k4"}


def test_group_pattern_keeps_a_patient_on_one_side(folder_set):
    root = folder_set([f"p{patient}_{index}" for patient in range(8) for index in range(3)])
    datalist = load_datalist(root, group_pattern=r"^(p\d+)_")
    sides = [{item["group"] for item in datalist[name]} for name in ("training", "validation", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 8
    with pytest.raises(InputError, match="not a regular expression"):
        load_datalist(root, group_pattern="(")


def test_voc_lists_give_the_split(tmp_path):
    root = voc(tmp_path, {"train": KEYS[:3], "val": KEYS[3:4], "test": KEYS[4:]}, bare=["k0"])
    datalist = load_datalist(root, num_classes=3)
    assert keys_of(datalist, "training") == {"k1", "k2"} and keys_of(datalist, "unlabeled") == {"k0"}
    assert keys_of(datalist, "validation") == {"k3"} and keys_of(datalist, "test") == {"k4", "k5"}
    check_datalist(datalist, num_classes=2)
    mask = MaskReader(2).get_data(datalist["test"][0]["label"])[0]
    assert mask.shape == (1, 12, 10) and np.bincount(mask.ravel())[[0, 1, 255]].tolist() == [104, 4, 12]


def test_a_voc_mask_without_an_image_is_refused(tmp_path):
    root = voc(tmp_path, {"train": KEYS[:3], "val": KEYS[3:4], "test": KEYS[4:]})
    (root / "SegmentationClass/k0.png").rename(root / "SegmentationClass/K0.png")
    with pytest.raises(InputError, match="K0.png has no image of that stem in .*JPEGImages"):
        load_datalist(root)


@pytest.mark.parametrize("above", [".", ".."])
def test_voc_is_found_below_vocdevkit(tmp_path, above):
    voc(tmp_path / "VOCdevkit/VOC2007", {"train": KEYS[:3], "val": KEYS[3:5], "test": KEYS[5:]})
    assert len(load_datalist(tmp_path / "VOCdevkit" / above)["training"]) == 3
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)
    with pytest.raises(InputError, match="several data sets"):
        load_datalist(tmp_path / "VOCdevkit")


def test_voc_without_test_list_never_tests_on_validation(tmp_path, caplog):
    root = voc(tmp_path, {"train": KEYS[:2], "val": KEYS[2:]})
    with caplog.at_level("WARNING", logger="less_net"):
        datalist = load_datalist(root)
    assert keys_of(datalist, "training") == set(KEYS[:2])
    assert keys_of(datalist, "validation") | keys_of(datalist, "test") == set(KEYS[2:])
    assert len(datalist["test"]) == 2 and not keys_of(datalist, "validation") & keys_of(datalist, "test")
    assert "no test list" in caplog.text


def test_voc_trainval_stands_in_for_train(tmp_path):
    datalist = load_datalist(voc(tmp_path, {"trainval": KEYS[:5], "val": ["k4"], "test": ["k5"]}))
    assert keys_of(datalist, "training") == set(KEYS[:4])


def test_voc_without_lists_is_split(tmp_path):
    assert {name: len(items) for name, items in load_datalist(voc(tmp_path, {})).items()} == {
        "training": 4,
        "unlabeled": 0,
        "validation": 1,
        "test": 1,
    }


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ["k0", "nowhere"]}, "train.txt lists 'nowhere'"),
        ({"train": ["k0", "k1"], "test": ["k1"]}, "'k1' twice"),
    ],
)
def test_bad_voc_lists(tmp_path, lists, message):
    with pytest.raises(InputError, match=message):
        load_datalist(voc(tmp_path, lists))


def test_held_out_images_need_masks(tmp_path):
    with pytest.raises(InputError, match="k4.jpg is a validation or test image without a mask"):
        load_datalist(voc(tmp_path, {"train": KEYS[:3], "val": ["k3"], "test": ["k4"]}, bare=["k4"]))


def test_volume_pattern_makes_slices_of_a_volume_one_group(folder_set):
    root = folder_set([f"p{volume}_slice_{index}" for volume in range(6) for index in range(11)] + ["lone"])
    items = [item for items in load_datalist(root, volume_pattern=r"(.*)_slice_\d+").values() for item in items]
    by_key = {item["key"]: item for item in items}
    assert by_key["p1_slice_10"] | {"image": "", "label": ""} == {
        "key": "p1_slice_10",
        "image": "",
        "label": "",
        "group": "p1",
        "volume": "p1",
        "slice": "10",
    }
    assert by_key["lone"]["group"] == "lone" and "volume" not in by_key["lone"]
    both = load_datalist(root, group_pattern="^p([0-9])", volume_pattern=r"(.*)_slice_\d+")
    assert {item["group"] for items in both.values() for item in items} == {*"012345", "lone"}  # not that of the volume
    with pytest.raises(InputError, match="volume_pattern .* in 'lone', but no number ends that name"):
        load_datalist(root, volume_pattern="^(...)")
    with pytest.raises(InputError, match=r"volume_pattern '\(' is not a regular expression"):
        load_datalist(root, volume_pattern="(")


def test_a_name_that_is_not_utf8_is_refused(folder_set, capsys):
    root = folder_set(KEYS)
    try:
        for name in ("images", "masks"):
            os.rename(root / name / "k0.png", os.fsencode(root / name) + b"/l\xe9sion.png")
    except OSError:
        pytest.skip("the file system takes no such names")
    with pytest.raises(InputError, match=r"images/l\\xe9sion.png is not valid UTF-8: rename the file"):
        load_datalist(root)
    assert main(["check", str(root)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("is not valid UTF-8") == 2 and "2 problems found" in printed  # the image and the mask


@pytest.mark.parametrize("write", ["folder_set", "pairs_set"])
def test_a_path_may_lead_through_another_folder(write, request, tmp_path, monkeypatch):
    keys = [f"k{index}" for index in range(12)]
    root = request.getfixturevalue(write)(keys if write == "folder_set" else dict.fromkeys(keys, ""))
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    lists = load_datalist(f"../{root.name}")
    assert lists == load_datalist(str(root))
    assert main(["check", f"../{root.name}"]) == 0
    assert main(["prepare", f"../{root.name}", "--output", "../made", "--copy"]) == 0
    assert len(load_datalist("../made")["training"]) == len(lists["training"])


@pytest.mark.parametrize("option", ["group_pattern", "volume_pattern"])
def test_a_pattern_that_finds_nothing_is_refused_and_one_that_misses_some_is_told(folder_set, caplog, option):
    root = folder_set([f"p{patient}_{index}" for patient in range(8) for index in range(3)])
    with pytest.raises(InputError, match=rf"{option} '\^\(P.*' finds nothing in any of the 24 names, such as p0_0"):
        load_datalist(root, **{option: r"^(P\d+)_"})
    with caplog.at_level("WARNING", logger="less_net"):
        load_datalist(root, **{option: r"^(p[0-5])_"})
    assert f"{option} '^(p[0-5])_' finds nothing in 6 of the 24 names, such as p6_0" in caplog.text


def test_a_pattern_may_find_nothing_where_no_image_has_a_mask(folder_set):
    root = folder_set([], bare=["a", "b"])
    (root / "datalist.json").write_text('{"unlabeled": ["images/a.png", "images/b.png"]}')
    assert len(load_datalist(root, group_pattern="^(P)", without_masks=True)["unlabeled"]) == 2
