# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Legends beside the masks: the exports of CVAT, Roboflow, labelme and CamVid need no word about their values."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data import MaskReader
from scripts.data.prepare.legend import legend_classes
from scripts.data.sources.legends import read_legend
from scripts.data.sources.tree import scan
from scripts.errors import InputError
from tests.folders import pairs, save
from tests.preparing import everything, left_out, refused, run

COLOURS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nblood:250,50,83::\nold clot:51,221,255::\n"


def voc(root, values, legend, name="labelmap.txt"):
    """A folder in the VOC layout, as annotation programs export it, with a legend; returns the true masks by key."""
    made = pairs(10, classes=3)
    for index, (image, mask) in enumerate(made):
        save(root / f"JPEGImages/{index}.jpg", image)
        save(root / f"SegmentationClass/{index}.png", values[mask])
        save(root / f"SegmentationObject/{index}.png", COLOURS[mask])
    (root / name).write_text(legend)
    return {str(index): mask for index, (_, mask) in enumerate(made)}


def assert_masks(datalist, masks):
    for item in everything(datalist):
        assert (MaskReader(3).get_data(item["label"])[0][0].T == masks[item["key"]]).all()


def test_colours_of_cvat(tmp_path):
    masks = voc(tmp_path / "src", COLOURS, CVAT)
    report, datalist = run(tmp_path / "src")
    assert report.class_names == {0: "background", 1: "blood", 2: "old clot"} and report.num_classes == 3
    assert_masks(datalist, masks)


def test_an_export_of_masks_beside_ones_own_photographs(tmp_path):
    masks = voc(tmp_path / "src", COLOURS, CVAT)
    (tmp_path / "src/JPEGImages").rename(tmp_path / "src/photographs")
    report, datalist = run(tmp_path / "src")
    assert report.images["unlabeled"] == 0 and report.left_out == len(masks)
    assert left_out(report.output)["0.png"] == "instances, not classes"
    assert report.class_names[2] == "old clot"
    for item in everything(datalist):
        assert (MaskReader(3).get_data(item["label"])[0][0].T == masks[item["key"].split("_")[-1]]).all()


@pytest.mark.parametrize(
    ("name", "legend"),
    [
        ("labelmap.txt", CVAT),
        ("class_names.txt", "__ignore__\n_background_\nblood\nold clot\n"),
        ("_classes.csv", "Pixel Value, Class\n0, background\n1, blood\n2, old clot\n"),
    ],
)
def test_class_indices_stay_as_they_are_and_get_names(tmp_path, name, legend):
    masks = voc(tmp_path / "src", np.arange(3, dtype=np.uint8), legend, name)
    report, datalist = run(tmp_path / "src")
    assert report.class_names == {0: "background", 1: "blood", 2: "old clot"}
    assert all("SegmentationClass" in item["label"] for item in everything(datalist))
    assert_masks(datalist, masks)


@pytest.mark.parametrize(
    ("name", "legend"),
    [
        ("class_dict.csv", "name,r,g,b\nVoid,0,0,0\nblood,250,50,83\nold clot,51,221,255\n"),
        ("label_colors.txt", "0 0 0\tVoid\n250 50 83\tblood\n51 221 255\told clot\n"),
    ],
)
def test_tables_of_colours(tmp_path, name, legend):
    masks = voc(tmp_path / "src", COLOURS, legend, name)
    report, datalist = run(tmp_path / "src")
    assert report.class_names == {0: "Void", 1: "blood", 2: "old clot"}
    assert_masks(datalist, masks)


def test_roboflow_has_a_legend_in_each_part(tmp_path):
    made = pairs(12, classes=3)
    for index, (image, mask) in enumerate(made):
        side = "train" if index < 8 else "valid" if index < 10 else "test"
        save(tmp_path / f"src/{side}/{index}.jpg", image)
        save(tmp_path / f"src/{side}/{index}_mask.png", mask)
        (tmp_path / f"src/{side}/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, blood\n2, clot\n")
    report, _ = run(tmp_path / "src")
    assert report.images == {"training": 8, "unlabeled": 0, "validation": 2, "test": 2}
    assert report.class_names == {0: "background", 1: "blood", 2: "clot"}


def test_given_values_come_first_and_keep_the_names_of_the_legend(tmp_path):
    voc(tmp_path / "src", COLOURS, CVAT)
    report, _ = run(tmp_path / "src", values="#33ddff=1,#fa3253=2")
    assert report.class_names == {0: "background", 1: "old clot", 2: "blood"}
    report, _ = run(tmp_path / "src", tmp_path / "joined", values="#33ddff=1,#fa3253=0")
    assert report.num_classes == 2 and report.class_names[1] == "old clot"


@pytest.mark.parametrize(
    ("values", "legend", "classes"),
    [
        ([0, 1, 2], "background:0,0,0::\nblood:250,50,83::\n", 3),  # one more class than the legend has
        ([0, 255, 255], CVAT, 2),  # binary masks beside a legend of three classes: 255 is not to be ignored
    ],
)
def test_a_legend_that_is_not_used_gives_neither_classes_nor_names(tmp_path, caplog, values, legend, classes):
    voc(tmp_path / "src", np.array(values, np.uint8), legend)
    report, datalist = run(tmp_path / "src")
    assert report.num_classes == classes and report.class_names == {} and "it is not used" in caplog.text
    assert report.ignore_value == 255 and all(report.classes[1].values())


def test_binary_masks_take_the_names_of_two_classes(tmp_path):
    voc(tmp_path / "src", np.array([0, 255, 255], np.uint8), "background:0,0,0::\npolyp:250,50,83::\n")
    report, _ = run(tmp_path / "src")
    assert report.class_names == {0: "background", 1: "polyp"}


@pytest.mark.parametrize("count", [256, 300])
def test_a_legend_of_too_many_classes_is_not_used(tmp_path, caplog, count):
    lines = [f"{value},c{value}" for value in range(count)]
    voc(tmp_path / "src", np.arange(3, dtype=np.uint8), "\n".join(["Pixel Value,Class", *lines]), "_classes.csv")
    report, _ = run(tmp_path / "src")
    assert report.num_classes == 3 and f"{count} classes, but 255 are the most" in caplog.text


def test_a_list_of_names_without_the_background_says_no_values(tmp_path):
    voc(tmp_path / "src", np.arange(3, dtype=np.uint8), "blood\nold clot\n", "class_names.txt")
    report, _ = run(tmp_path / "src")
    assert report.class_names == {} and report.num_classes == 3


def test_exports_side_by_side_add_to_each_other_and_must_not_differ(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/labelmap.txt").write_text("background:0,0,0::\nblood:250,50,83::\n")
    (tmp_path / "b/labelmap.txt").write_text("background:0,0,0::\nold clot:51,221,255::\n")
    file, legend = read_legend(scan(tmp_path))
    assert file.endswith("a/labelmap.txt") and [*legend.values()] == ["background", "blood", "old clot"]
    (tmp_path / "b/labelmap.txt").write_text("background:0,0,0::\nold clot:250,50,83::\n")
    with pytest.raises(InputError, match="b/labelmap.txt calls #fa3253 'old clot', but .*a/labelmap.txt"):
        read_legend(scan(tmp_path))


def test_legends_saved_by_windows(tmp_path):
    (tmp_path / "labelmap.txt").write_bytes("background:0,0,0::\r\ngefäß:250,50,83::\r\n".encode("cp1252"))
    assert [*read_legend(scan(tmp_path))[1].values()] == ["background", "gefäß"]


def test_a_legend_of_other_masks_is_told_and_not_used(tmp_path, caplog):
    voc(tmp_path / "src", COLOURS, CVAT.replace("51,221,255", "1,2,3"))
    message = refused(tmp_path / "src", "--values")
    assert "#33ddff" in message
    assert "labelmap.txt has no class for #33ddff" in caplog.text


@pytest.mark.parametrize(
    ("name", "legend", "message"),
    [
        ("labelmap.txt", CVAT + "again:0,0,0::\n", "gives 'background' and 'again' the same value"),
        ("labelmap.txt", CVAT.replace("221", "999"), "#333e7ff"),
        ("_classes.csv", "Pixel Value,Class\nnone,background\n", "has the value 'none'"),
        ("_classes.csv", "Pixel Value,Class\n0,background\n²,blood\n,\n", "has the value '²'"),
    ],
)
def test_a_legend_that_cannot_be_read_is_named(tmp_path, name, legend, message):
    voc(tmp_path / "src", COLOURS, legend, name)
    assert name in refused(tmp_path / "src", message)


def test_a_file_of_that_name_that_is_no_legend_changes_nothing(tmp_path):
    voc(tmp_path / "src", np.arange(3, dtype=np.uint8), "notes of a user\n", "labelmap.txt")
    (tmp_path / "src/class_dict.csv").write_text("a,b\n1,2\n")
    report, _ = run(tmp_path / "src")
    assert report.class_names == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({9: "blood", 0: "background", 4: "clot"}, {0: 0, 9: 1, 4: 2}),
        ({9: "blood", 4: "Background"}, {4: 0, 9: 1}),
        ({9: "blood"}, {0: 0, 9: 1}),
        ({0: "Ignore", 9: "tissue", 4: "blood"}, {9: 0, 4: 1, 0: 255}),
        ({0: "background", 4: "ignore", 9: "blood"}, {0: 0, 9: 1, 4: 255}),
    ],
)
def test_background_is_class_0_wherever_it_stands(names, expected):
    assert legend_classes(names) == expected
