# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""labelme's files: shapes become masks, images without a file are unlabelled, and what cannot be drawn is named."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from scripts.data import MaskReader
from scripts.data.sources import read_source
from scripts.errors import InputError
from tests.folders import pairs, save
from tests.preparing import everything, refused, run

SIZE = (40, 30)  # width, height


def square(label, left, top, right, bottom, kind="polygon"):
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {"label": label, "shape_type": kind, "points": corners if kind == "polygon" else [corners[2], corners[0]]}


def annotate(root, name, shapes, image=True, **changes):
    """An image and, beside it, its file."""
    if image:
        noise = np.random.default_rng(sum(name.encode())).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        save(root / f"{name}.jpg", noise)
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg", "imageData": None}
    content |= {"imageHeight": SIZE[1], "imageWidth": SIZE[0]} | changes
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.json").write_text(json.dumps(content))
    return root


def mask_of(root):
    source = read_source(root)
    assert source.layout == "labelme" and source.problems == []
    return source.entries[0].label()


def area(left, top, right, bottom):
    """A rectangle (X, Y) bool, its last pixels included."""
    region = np.zeros(SIZE, bool)
    region[left : right + 1, top : bottom + 1] = True
    return region


@pytest.mark.parametrize("kind", ["polygon", "rectangle"])
def test_areas_lie_where_they_were_drawn(tmp_path, kind):
    mask = mask_of(annotate(tmp_path, "a", [square("blood", 5, 3, 12, 20, kind)]))
    assert mask.dtype == np.uint8 and (mask == area(5, 3, 12, 20)).all()


def test_circles_and_drawn_masks(tmp_path):
    drawn = np.zeros((6, 9), bool)
    drawn[2:5, 1:] = True
    stream = io.BytesIO()
    Image.fromarray(drawn).save(stream, "PNG")
    shapes = [
        {"label": "blood", "shape_type": "circle", "points": [[30, 15], [30, 21]]},
        {
            "label": "clot",
            "shape_type": "mask",
            "points": [[4, 7], [12, 12]],
            "mask": base64.b64encode(stream.getvalue()).decode(),
        },
    ]
    mask = mask_of(annotate(tmp_path, "a", shapes))
    x, y = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(x - 30, y - 15)
    assert (mask[distance < 5.5] == 1).all() and (mask == 1)[distance > 7].sum() == 0
    assert (mask[4:13, 7:13].T == np.where(drawn, 2, 0)).all() and (mask == 2).sum() == drawn.sum()


def test_of_overlapping_areas_the_smaller_lies_on_top_whatever_the_order(tmp_path):
    small, large = square("clot", 8, 8, 12, 12), square("blood", 5, 5, 20, 20)
    expected = np.where(area(8, 8, 12, 12), 2, np.where(area(5, 5, 20, 20), 1, 0))
    for shapes in ([small, large], [large, small]):
        assert (mask_of(annotate(tmp_path, "a", shapes)) == expected).all()


def test_classes_follow_the_alphabet_or_labels_txt_and_two_names_are_known(tmp_path):
    names = ("vessel", "blood", "_background_", "__ignore__")
    annotate(tmp_path, "a", [square(name, 2 + 8 * k, 2, 6 + 8 * k, 20) for k, name in enumerate(names)])
    mask = mask_of(tmp_path)
    assert [mask[4 + 8 * k, 10] for k in range(4)] == [2, 1, 0, 255]
    assert read_source(tmp_path).class_names == {0: "background", 1: "blood", 2: "vessel"}
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nvessel\nforceps\nblood\n")
    assert read_source(tmp_path).class_names == {0: "background", 1: "vessel", 2: "forceps", 3: "blood"}
    assert mask_of(tmp_path)[12, 10] == 3


def test_a_folder_of_frames_is_prepared_and_those_without_a_file_are_unlabelled(tmp_path):
    for n in range(8):
        annotate(tmp_path / "src", f"case{n}", [square("blood", 3 + n, 3, 14 + n, 20)])
    annotate(tmp_path / "src", "case8", [])  # looked at, and nothing there
    for n in range(4):
        save(tmp_path / f"src/more/frame{n}.png", pairs(n + 1)[n][0])
    report, datalist = run(tmp_path / "src")
    assert report.layout == "labelme" and report.class_names == {0: "background", 1: "blood"}
    assert report.images["unlabeled"] == 4 and sum(report.images.values()) == 13
    for item in (item for item in everything(datalist) if "label" in item):
        n = int(item["key"].removeprefix("case"))
        expected = area(3 + n, 3, 14 + n, 20) if n < 8 else np.zeros(SIZE, bool)
        assert (MaskReader(2).get_data(item["label"])[0][0] == expected).all()


def test_an_image_that_was_moved_is_found_beside_its_file(tmp_path):
    annotate(tmp_path, "a", [square("blood", 3, 3, 9, 9)], imagePath="..\\elsewhere\\renamed.png")
    assert mask_of(tmp_path).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shapes": [{"label": "blood", "shape_type": "linestrip", "points": [[1, 1], [9, 9]]}]},
            "the linestrip 'blood'",
        ),
        ({"shapes": [{"label": "blood", "points": [[1, 1], [9, 9]]}]}, "the polygon 'blood' of 2 points"),
        ({"imageWidth": 50}, "50 x 30"),
        ({"imageWidth": None}, "no annotation of labelme"),
        ({"imageWidth": 100_000, "imageHeight": 100_000}, "100000 x 100000 pixels"),
        ({"shapes": [{"label": "blood"}]}, "it has no 'points'"),
        ({"shapes": [square("blood", 3, 3, 9, 9) | {"label": None}]}, "a shape has no label"),
        ({"shapes": [square("blood", 3, 3, 1e9, 9)]}, "it leaves the image"),
        ({"shapes": [square("blood", 3, float("nan"), 9, 9)]}, "it leaves the image"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, changes, message):
    for n in range(6):
        annotate(tmp_path / "src", f"case{n}", [square("blood", 3 + n, 3, 14 + n, 20)])
    annotate(tmp_path / "src", "case3", **{"shapes": [square("blood", 3, 3, 14, 20)]} | changes)
    assert "case3.json" in refused(tmp_path / "src", message) or "case3.jpg" in refused(tmp_path / "src", message)


def test_a_file_whose_image_is_missing_and_files_without_labels_are_named(tmp_path):
    annotate(tmp_path / "src", "a", [square("blood", 3, 3, 9, 9)])
    annotate(tmp_path / "src", "b", [square("blood", 3, 3, 9, 9)], image=False)
    assert [file.endswith("b.json") for file, _ in read_source(tmp_path / "src").problems] == [True]
    annotate(tmp_path / "empty", "a", [])
    with pytest.raises(InputError, match="name 0 labels"):
        read_source(tmp_path / "empty")


def test_masks_beside_the_files_leave_it_open_which_ones_are_meant(tmp_path):
    annotate(tmp_path / "images", "a", [square("blood", 3, 3, 9, 9)])
    save(tmp_path / "masks/a.png", np.zeros((SIZE[1], SIZE[0]), np.uint8))
    with pytest.raises(InputError, match=r"--layout labelme .*--layout names"):
        read_source(tmp_path)
    assert read_source(tmp_path, "labelme").layout == "labelme"
    assert read_source(tmp_path, "names").entries[0].label.endswith("masks/a.png")


def test_a_list_of_labels_that_is_no_text_is_named(tmp_path):
    annotate(tmp_path, "a", [square("blood", 3, 3, 9, 9)])
    (tmp_path / "labels.txt").write_bytes(b"bl\xe4")
    with pytest.raises(InputError, match="labels.txt cannot be read"):
        read_source(tmp_path)


def test_other_json_files_are_none_of_labelme(tmp_path):
    save(tmp_path / "images/a.png", np.zeros((8, 8), np.uint8))
    save(tmp_path / "masks/a.png", np.zeros((8, 8), np.uint8))
    for name, text in (("a", '{"version": 1, "shapes": 3}'), ("b", '["version", "shapes"]'), ("c", '{"version": ')):
        (tmp_path / f"{name}.json").write_text(text)
    assert read_source(tmp_path).layout == "names"
