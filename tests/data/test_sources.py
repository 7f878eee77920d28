# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How folders are recognised and listed: words in names, tables, nnU-Net, links, and what is ambiguous."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scripts.data.sides import side_of
from scripts.data.sources import OPTIONS, read_source
from scripts.data.sources.tree import scan
from scripts.data.sources.words import MASK_ENDINGS, is_numbered_mask, masks_among, split_word
from scripts.errors import InputError


def touch(root, *names):
    """Empty files: listing opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def shown(source, root):
    """Key, image, mask and scribble of each entry, relative to the folder."""
    return {
        entry.key: tuple(os.path.relpath(path, root) if path else None for path in (*entry.image, entry.label))
        for entry in source.entries
    }


def listed(root, **options):
    source = read_source(root, **options)
    assert source.problems == []
    return shown(source, root)


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


def test_a_table_with_other_columns(tmp_path):
    touch(tmp_path, "a/x.png", "b/y.png")
    (tmp_path / "list.csv").write_text("\ufeffFile Name;Mask;Patient ID;set;extra\na/x.png;b/y.png;7;train;q\n")
    source = read_source(tmp_path)
    (entry,) = source.entries
    assert source.layout == "csv" and shown(source, tmp_path) == {"x": ("a/x.png", "b/y.png")}
    assert (entry.facts["group"], entry.side, entry.columns["extra"]) == ("7", "train", "q")


def test_tables_named_by_side_pin_the_split_and_others_must_be_chosen(tmp_path):
    touch(tmp_path, *(f"{kind}/{key}.png" for kind in ("i", "m") for key in "abcd"))
    for name, key in (("train", "a"), ("test", "b")):
        (tmp_path / f"{name}.csv").write_text(f"image,mask\ni/{key}.png,m/{key}.png\n")
    assert {entry.key: entry.side for entry in read_source(tmp_path).entries} == {"a": "train", "b": "test"}
    (tmp_path / "other.csv").write_text("image,mask\ni/c.png,m/c.png\n")
    with pytest.raises(InputError, match="holds several tables .*name one of them as the source"):
        read_source(tmp_path)
    assert [entry.key for entry in read_source(tmp_path / "other.csv").entries] == ["c"]


def test_rows_whose_files_are_missing_are_problems(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text("image,mask\na.png,b.png\nlost.png,b.png\n,b.png\na.png,gone.png\n")
    reasons = [reason for _, reason in read_source(tmp_path).problems]
    assert len(reasons) == 3 and "row 3: 'lost.png'" in reasons[0] and "row 4" in reasons[1] and "gone" in reasons[2]


def test_an_image_in_two_rows_is_a_problem_that_names_both(tmp_path):
    root = touch(tmp_path, *(f"{kind}/{key}.png" for kind in "im" for key in "ab"))
    (root / "train.csv").write_text("image,mask\ni/a.png,m/a.png\ni/b.png,m/b.png\n./i/a.png,m/b.png\n")
    expected = (f"{root}/i/a.png", "row 2 of train.csv and row 4 of train.csv list it: keep one of them")
    assert read_source(root).problems == [expected]
    (root / "train.csv").write_text("image,mask\ni/a.png,m/a.png\n")
    (root / "test.csv").write_text("image,mask\ni/b.png,m/b.png\ni/a.png,m/a.png\n")
    ((path, reason),) = read_source(root).problems
    assert path == expected[0] and reason.startswith("row 3 of test.csv and row 2 of train.csv list it")


def test_a_table_without_masks_does_not_hide_the_folders(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "patients.csv").write_text("image,label\nimages/a.png,malignant\n")
    assert read_source(tmp_path).layout == "names"
    with pytest.raises(InputError, match="no column 'photo' .*its columns: image, label"):
        read_source(tmp_path, "csv", {"image": "photo"})


def test_nnunet_channels_classes_and_test_images(tmp_path):
    names = [f"imagesTr/{case}_{channel}.nii.gz" for case in ("a", "b") for channel in ("0000", "0001")]
    touch(
        tmp_path, *names, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "imagesTs/c_0000.nii.gz", "imagesTs/c_0001.nii.gz"
    )
    labels = {"background": 0, "liver": 1, "ignore": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "numTraining": 2}))
    source = read_source(tmp_path)
    assert source.layout == "nnunet" and source.class_names == {0: "background", 1: "liver"}
    assert source.values == {0: 0, 1: 1, 2: 255}
    assert shown(source, tmp_path) == {
        "a": ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"),
        "b": ("imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz", "labelsTr/b.nii.gz"),
        "c": ("imagesTs/c_0000.nii.gz", "imagesTs/c_0001.nii.gz", None),
    }


def test_decathlon_is_not_taken_for_a_monai_datalist(tmp_path):
    touch(tmp_path, "imagesTr/a.nii.gz", "imagesTr/._a.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b.nii.gz")
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    content = {"labels": {"0": "background", "1": "spleen"}, "training": training, "test": ["./imagesTs/b.nii.gz"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    source = read_source(tmp_path)
    assert source.layout == "nnunet" and source.class_names[1] == "spleen" and len(source.entries) == 2


def test_voc_and_what_read_layout_reads(tmp_path):
    touch(
        tmp_path, *(f"VOC2007/{kind}" for kind in ("JPEGImages/a.jpg", "JPEGImages/b.jpg", "SegmentationClass/a.png"))
    )
    lists = tmp_path / "VOC2007/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    source = read_source(tmp_path)
    assert source.layout == "voc" and [entry.side for entry in source.entries] == ["train"]
    assert source.left_out == [(str(tmp_path / "VOC2007/JPEGImages/b.jpg"), "in no list of the split")]


def test_several_descriptions_must_be_chosen_from(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "pairs.csv").write_text("image,mask\nimages/a.png,masks/a.png\n")
    coco = {"images": [], "annotations": [], "categories": [{"id": 1}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    with pytest.raises(
        InputError, match=r"several ways: choose one by --layout pairs \(pairs.csv\); --layout coco \(co"
    ):
        read_source(tmp_path)
    assert read_source(tmp_path, "pairs").layout == "pairs"
    touch(tmp_path / "voc", "images/a.png", "masks/a.png", "JPEGImages/a.jpg", "SegmentationClass/a.png")
    with pytest.raises(InputError, match="--layout voc .*--layout names"):
        read_source(tmp_path / "voc")


def test_loops_of_links_end_and_linked_folders_are_read_once(tmp_path):
    touch(tmp_path, "src/images/a.png", "elsewhere/b.png")
    (tmp_path / "src/images/loop").symlink_to(tmp_path / "src")
    (tmp_path / "src/images/self").symlink_to("self")
    (tmp_path / "src/images/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "src/images/dead.png").symlink_to("nowhere.png")
    tree = scan(tmp_path / "src")
    assert tree.images == ["images/a.png", "images/more/b.png"]
    assert tree.problems == [(str(tmp_path / "src/images/dead.png"), "it is a link to a file that does not exist")]


def test_names_that_are_no_text_and_closed_folders_are_problems(tmp_path):
    touch(tmp_path, "a.png", "closed/b.png")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("the file system takes no such names")
    (tmp_path / "closed").chmod(0)
    try:
        problems = dict(scan(tmp_path).problems)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert "not valid UTF-8" in problems[r"\xff.png"]
    assert os.geteuid() == 0 or "cannot be opened" in problems[str(tmp_path / "closed")]


def test_hidden_files_and_what_systems_leave_are_passed_over(tmp_path):
    touch(tmp_path, "a.png", "._a.png", ".git/b.png", "__MACOSX/c.png", "Thumbs.db", "notes.txt")
    assert scan(tmp_path).images == ["a.png"]


def test_a_very_deep_folder_is_listed(tmp_path):
    deep = "/".join(["d"] * 400)
    touch(tmp_path, f"{deep}/a.png")
    assert scan(tmp_path).images == [f"{deep}/a.png"]


def test_a_table_whose_columns_have_other_names_is_told(tmp_path, caplog):
    root = touch(tmp_path, *(f"{folder}/{index}.png" for folder in ("Bilder", "masks") for index in range(3)))
    (root / "Liste.csv").write_text("Bild;Maske\nBilder/0.png;masks/0.png\n")
    read_source(root)
    assert "Liste.csv is not used" in caplog.text and "--columns image=Bild,mask=Maske" in caplog.text
    columns = {"image": "Bild", "label": "Maske"}
    assert listed(root, columns=columns) == {"0": ("Bilder/0.png", "masks/0.png")}


def test_the_columns_of_pairs_with_windows_paths_are_kept(tmp_path):
    root = touch(tmp_path, "images/a.png", "masks/a.png")
    (root / "pairs.csv").write_text("image,mask,site\nimages\\a.png,masks\\a.png,Bonn\n")
    assert [entry.columns["site"] for entry in read_source(root).entries] == ["Bonn"]


def test_files_of_other_kinds_are_not_lost_in_silence(tmp_path, caplog):
    source = read_source(touch(tmp_path, "images/a.png", "masks/a.png", "images/b.webp", "masks/b.GIF", "readme.txt"))
    assert [Path(name).name for name, _ in source.left_out] == ["b.webp", "b.GIF"]
    assert "2 files of kinds that are not read (.gif, .webp) are left out, such as" in caplog.text
    (tmp_path / "masks/b.GIF").unlink()
    caplog.clear()
    read_source(tmp_path)
    name = tmp_path / "images/b.webp"
    assert f"1 file of a kind that is not read (.webp) is left out, {name}: save it as" in caplog.text


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
