# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images and masks recognised by words in the names of their files and folders, and what is ambiguous."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.data.sides import side_of
from scripts.data.sources import OPTIONS, read_source
from scripts.data.sources.words import MASK_ENDINGS, is_numbered_mask, masks_among, split_word
from scripts.errors import InputError
from tests.listing import listed, touch


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_mask", ("label", "a")),
        ("a mask", ("label", "a")),
        ("a.mask", ("label", "a")),
        ("A-SEG", ("label", "A")),
        ("a_segmentation", ("label", "a")),
        ("a_ground_truth", ("label", "a")),
        ("mask_7", ("label", "7")),
        ("img-7", ("image", "7")),
        ("mask", ("label", "")),
        ("SegmentationClass", ("label", "")),
        ("a_scribble", ("scribble", "a")),
        ("unmasked", (None, "unmasked")),
        ("masked_7", (None, "masked_7")),
        ("legend_a", (None, "legend_a")),
    ],
)
def test_words_in_names(name, expected):
    assert split_word(name) == expected


@pytest.mark.parametrize(
    ("name", "side"), [("train_images", "train"), ("instances_val2017", "val"), ("a/Test", "test"), ("trained", None)]
)
def test_sides_in_names(name, side):
    assert side_of(name) == side


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("imgs/a.jpg", "labels/a_mask.png"),
        ("JPEGs/a.jpg", "SegmentationClass/a.png"),
        ("frames/p1/a.jpg", "annotations/p1/a.png"),
        ("p1/images/a.png", "p1/gt/a_gt.png"),
        ("photos/deep/er/a.png", "segmentations/a.png"),
        ("train_images/a.png", "train_masks/a.png"),
        ("a.png", "a_mask.png"),
        ("a.jpg", "a.png"),
        ("a.png", "mask_a.png"),
        ("img_1.png", "mask_1.png"),
        ("a.png", "a.mask.png"),
        ("a.nii.gz", "a-label.nii"),
        ("p1/image.nii.gz", "p1/mask.nii.gz"),
        ("p1/scan/T1.nii.gz", "p1/seg.nii.gz"),
        ("p1/flair.nii.gz", "p1/segmentation.nii.gz"),
    ],
)
def test_images_and_masks_by_their_names(tmp_path, image, mask):
    touch(tmp_path, image, mask, image.replace("p1", "p2").replace("a.", "b.").replace("1.png", "2.png"))
    found = listed(tmp_path)
    assert (image, mask) in found.values() and len(found) == 2
    assert sum(label is not None for _, label in found.values()) == 1


def test_scribble_folders(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "scribbles/a.png", "images/b.png", "scribbles/b_scribble.png")
    entries = {entry.key: entry for entry in read_source(tmp_path).entries}
    assert entries["a"].scribble.endswith("scribbles/a.png") and entries["b"].scribble.endswith("b_scribble.png")
    assert entries["b"].label is None


def test_two_masks_of_an_image_are_told_and_a_folder_chooses(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "labels/a.png")
    ((path, reason),) = read_source(tmp_path).problems
    assert {path, reason.split(" is ")[0]} == {str(tmp_path / "masks/a.png"), str(tmp_path / "labels/a.png")}
    assert "--masks FOLDER" in reason
    assert listed(tmp_path, folders={"labels": "label"}) == {"a": ("images/a.png", "labels/a.png")}


def test_folders_of_any_name_can_be_declared(tmp_path):
    touch(tmp_path, "Bilder/p1/a.png", "Masken/p1/a.png", "Rest/c.png")
    folders = {"Bilder": "image", "Masken": "label"}
    assert listed(tmp_path, folders=folders) == {"p1_a": ("Bilder/p1/a.png", "Masken/p1/a.png")}


@pytest.mark.parametrize("written", ["./Masken/", "/Masken", "{}/Masken", "{}/Bilder/../Masken", "{link}/Masken"])
def test_declared_folders_may_be_written_in_any_way(tmp_path, written):
    root = touch(tmp_path / "src", "Bilder/a.png", "Masken/a.png")
    (tmp_path / "link").symlink_to(root)
    folder = written.format(root, link=tmp_path / "link")
    assert listed(root, folders={folder: "label"}) == {"Bilder_a": ("Bilder/a.png", "Masken/a.png")}


@pytest.mark.parametrize("folder", ["nope", "/", ".", "..", "{}", "{}/../flat", "masks/a.png"])
def test_declared_folders_must_be_there(tmp_path, folder):
    patients = [f"images/p{number:02d}/b.png" for number in range(20)]
    root, flat = touch(tmp_path / "src", "masks/a.png", *patients), touch(tmp_path / "flat", "a.png")
    for role, option in OPTIONS.items():
        with pytest.raises(InputError, match=f"{option} .* is no folder in .*src: name one of its folders, images"):
            read_source(root, folders={folder.format(root): role})
        with pytest.raises(InputError, match="it has none, so leave the option out"):
            read_source(flat, folders={"nope": role})


def test_masks_without_image_and_stems_that_repeat_are_problems(tmp_path):
    touch(tmp_path, "images/a.png", "images/a.bmp", "masks/a.png", "masks/b.png")
    problems = {Path(path).name: reason for path, reason in read_source(tmp_path).problems}
    assert "no image of that name" in problems["b.png"] and len(problems) == 2
    assert any("the same stem" in reason and "a folder masks/" in reason for reason in problems.values())


@pytest.mark.parametrize("name", ["a_mask_1", "a_1", "a-2"])
def test_one_of_several_masks_is_to_be_merged(tmp_path, name):
    touch(tmp_path, "images/a.png", f"masks/{name}.png", "images/b.png", "masks/b.png")
    ((path, reason),) = read_source(tmp_path).problems
    assert Path(path).stem == name and "several masks of images/a.png: merge them into one mask" in reason


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/Mu\u0308ller.png", "masks/M\u00fcller.png"),
        ("images/Mu\u0308ller/1.png", "masks/M\u00fcller/1.png"),
        ("images/IMG_0.JPG", "masks/img_0.png"),
        ("images/P1/a.png", "masks/p1/A_Mask.png"),
        ("images/a.jpg", "masks/a.jpg.png"),
        ("images/a.JPG", "masks/A.jpg_mask.png"),
        ("images/a.png.jpg", "masks/a.png"),
    ],
)
def test_names_that_programs_have_changed_are_matched_where_one_image_is_meant(tmp_path, image, mask):
    touch(tmp_path, image, mask, "images/b.png", "masks/b.png")
    assert (image, mask) in listed(tmp_path).values()


def test_exact_names_come_first_and_several_that_are_alike_are_told(tmp_path):
    root = touch(tmp_path / "exact", *(f"{kind}/{name}.png" for kind in ("images", "masks") for name in ("a", "A")))
    assert set(listed(root).values()) == {(f"images/{name}.png", f"masks/{name}.png") for name in ("a", "A")}
    root = touch(tmp_path / "alike", "images/IMG_0.png", "images/img_0.jpg.png", "masks/Img_0.png")
    ((path, reason),) = read_source(root).problems
    assert path == str(root / "masks/Img_0.png") and "the names of several images differ little from it" in reason
    assert "images/IMG_0.png (in capitals)" in reason and "img_0.jpg.png (in a suffix inside the name)" in reason
    root = touch(tmp_path / "folders", "images/p1/a.png", "images/p2/a.png", "masks/A.png", "masks/p1/a.png")
    ((path, _),) = read_source(root).problems
    assert path == str(root / "masks/A.png")


def test_the_endings_that_messages_name_are_understood():
    for ending in MASK_ENDINGS.replace(" or ", ", ").split(", "):
        assert split_word(f"a{ending}") == ("label", "a")
    names = ["a", "a_mask", "a_mask_2", "img_1", "gt_1", "b_mask", "b_mask_2", "target_7", "frame_2", "a_2", "a_mask_x"]
    assert masks_among(names) == {"a_mask", "a_mask_2", "gt_1"}
    assert is_numbered_mask("a_mask_1") and not any(map(is_numbered_mask, ("a_1", "a_mask", "mask_1")))


def test_equal_names_in_different_folders_keep_their_own_masks(tmp_path):
    names = [f"p{patient}/{kind}/{index}.png" for patient in range(3) for kind in ("images", "masks") for index in "12"]
    found = listed(touch(tmp_path, *names))
    assert len(found) == 6 and found["p2_1"] == ("p2/images/1.png", "p2/masks/1.png")


def test_folders_named_by_side_pin_the_split(tmp_path):
    names = [f"{side}/{kind}/{side}{i}.png" for side in ("train", "val") for kind in ("img", "gt") for i in "12"]
    source = read_source(touch(tmp_path, *names, "train/img/bare.png"))
    assert {entry.key: entry.side for entry in source.entries} == {
        "train_train1": "train",
        "train_train2": "train",
        "train_bare": "train",
        "val_val1": "val",
        "val_val2": "val",
    }


def test_a_mask_above_the_folder_of_the_only_image(tmp_path):
    root = touch(tmp_path, "P1/st/se/a.png", "P1/mask.png", "P2/st/se/a.png", "P2_seg.png", "P3/x/a.png", "P3/y/a.png")
    assert {image: mask for image, mask in listed(root).values()} == {
        "P1/st/se/a.png": "P1/mask.png",
        "P2/st/se/a.png": "P2_seg.png",
        "P3/x/a.png": None,
        "P3/y/a.png": None,
    }
    assert read_source(touch(root, "P3/mask.png")).problems[0][0] == str(root / "P3/mask.png")


def test_mr_sequences_in_files_of_their_own_are_channels(tmp_path):
    words = ("flair", "t1", "t1ce", "t2")
    cases = [f"BraTS20_{index:03d}" for index in range(3)]
    root = touch(tmp_path, *(f"{case}/{case}_{word}.nii.gz" for case in cases for word in (*words, "seg")))
    source = read_source(root)
    assert "3 images, 3 with a mask, channels flair t1 t1ce t2" in source.text and source.problems == []
    for case, entry in zip(cases, source.entries, strict=True):
        assert entry.image == tuple(f"{root}/{case}/{case}_{word}.nii.gz" for word in words)
        assert entry.label == f"{root}/{case}/{case}_seg.nii.gz"
    (root / "BraTS20_001/BraTS20_001_t1ce.nii.gz").unlink()
    (problem,) = read_source(root).problems
    assert problem[1] == "the case BraTS20_001 has flair, t1, t2, but most have flair, t1, t1ce, t2"


def test_sequences_with_masks_of_their_own_stay_images(tmp_path):
    root = touch(
        tmp_path, *(f"{case}_{word}{end}.nii.gz" for case in "ab" for word in ("t1", "t2") for end in ("", "_seg"))
    )
    assert [len(entry.image) for entry in read_source(root).entries] == [1] * 4
