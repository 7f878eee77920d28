# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How folders are listed: tables, nnU-Net, VOC, several descriptions, links, and files that nobody reads."""

from __future__ import annotations

import json
import ntpath
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.data.sources import read_source
from scripts.data.sources.tree import Finder, scan
from scripts.errors import InputError
from tests.listing import listed, shown, touch


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


def test_paths_in_a_table_are_found_by_the_rules_of_windows_too(tmp_path, monkeypatch):
    touch(tmp_path, "p1/a.png", "p2/a.png")
    find = Finder(scan(tmp_path))
    monkeypatch.setattr("scripts.data.sources.tree.os", SimpleNamespace(path=ntpath))  # as os is on Windows
    for name in ("p1/a.png", r"p1\a.png", "./p2/../p1/a.png"):
        assert find(name) == f"{tmp_path}/p1/a.png"


def test_paths_of_another_computer_are_told_by_their_last_folders(tmp_path):
    root = touch(tmp_path, *(f"{kind}/{key}.png" for kind in ("photos", "truth") for key in "ab"))
    rows = (rf"C:\data\photos\{key}.png;C:\data\truth\{key}.png" for key in "ab")
    (root / "t.csv").write_text("\n".join(("image;mask", *rows)))
    assert listed(root) == {key: (f"photos/{key}.png", f"truth/{key}.png") for key in "ab"}


def test_the_frame_of_another_patient_is_not_taken(tmp_path):
    find = Finder(scan(touch(tmp_path, "p1/1.png", "p2/2.png", "images/train/3.png")))
    assert (
        find("p1/1.png") == find("data/p1/1.png") == find("elsewhere/1.png") == find("/1.png") == f"{tmp_path}/p1/1.png"
    )
    assert find("p1/2.png") is None and find("/home/me/p1/2.png") is None
    assert find("train/3.png") == find("images/3.png") == f"{tmp_path}/images/train/3.png"


def test_names_in_a_table_are_found_whatever_the_form_of_their_accents(tmp_path):
    root = touch(tmp_path, "photos/Mu\u0308ller.png")
    assert Finder(scan(root))("M\u00fcller.png") == f"{root}/photos/Mu\u0308ller.png"


def test_an_image_is_not_its_own_mask(tmp_path):
    root = touch(tmp_path, *(f"{kind}/{key}.png" for kind in ("images", "masks") for key in "ab"))
    (root / "t.csv").write_text("image,mask\na.png,a.png\nb.png,b.png\n")
    assert listed(root) == {key: (f"images/{key}.png", f"masks/{key}.png") for key in "ab"}
    (root / "masks/b.png").unlink()
    ((_, reason),) = read_source(root).problems
    assert reason.startswith("row 3: 'b.png' is not there")


def test_voc_masks_without_an_image_are_problems(tmp_path):
    names = ("JPEGImages/a.jpg", "JPEGImages/b.jpg", "SegmentationClass/a.png", "SegmentationClass/lost.png")
    source = read_source(touch(tmp_path, *names))
    ((path, reason),) = source.problems
    assert source.layout == "voc" and path.endswith("lost.png") and "no image of that name in JPEGImages" in reason


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
