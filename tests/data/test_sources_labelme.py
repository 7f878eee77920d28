# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""labelme's files: shapes become masks, images without a file are unlabelled, and what cannot be drawn is named."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

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


@pytest.mark.parametrize("kind", [np.uint8, np.bool_, lambda array: 255 * np.uint8(array)])
def test_circles_and_drawn_masks(tmp_path, kind):
    """labelme writes masks of 0 and 1, others may write another white."""
    drawn = np.zeros((6, 9), bool)
    drawn[2:5, 1:] = True
    stream = io.BytesIO()
    Image.fromarray(kind(drawn)).save(stream, "PNG")
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


def test_a_drawn_mask_that_reaches_beyond_the_image_is_cut(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.ones((6, 9), np.uint8)).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    corners = ([[-3, -2], [5, 3]], [[36.4, 27.2], [44.4, 32.2]])
    shapes = [{"label": "blood", "shape_type": "mask", "points": points, "mask": text} for points in corners]
    assert (mask_of(annotate(tmp_path, "a", shapes)) == (area(0, 0, 5, 3) | area(36, 27, 39, 29))).all()


def test_rectangles_of_four_corners_and_turned_ones(tmp_path):
    """As X-AnyLabeling and labelme 6 write them."""
    corners = [[5, 3], [12, 3], [12, 20], [5, 20]]
    for kind in ("rectangle", "oriented_rectangle", "rotation"):
        folder = annotate(tmp_path / kind, "a", [{"label": "blood", "shape_type": kind, "points": corners}])
        assert (mask_of(folder) == area(5, 3, 12, 20)).all()


@pytest.mark.parametrize("end", [1e6, 16e6])
def test_what_reaches_beyond_the_image_is_cut(tmp_path, end):
    mask = mask_of(annotate(tmp_path, "a", [square("blood", -end, 3, end, 20)]))
    assert (mask == area(0, 3, SIZE[0], 20)).all()


def test_a_file_that_does_not_note_the_size_takes_that_of_the_image(tmp_path):
    annotate(tmp_path, "a", [square("blood", 5, 3, 12, 20)])
    content = json.loads((tmp_path / "a.json").read_text())
    del content["imageWidth"], content["imageHeight"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert (mask_of(tmp_path) == area(5, 3, 12, 20)).all()


def test_a_file_is_known_wherever_its_shapes_stand(tmp_path):
    annotate(tmp_path, "a", [square("blood", 5, 3, 12, 20)], imageData="A" * 100_000)
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(content, sort_keys=True))
    assert mask_of(tmp_path).any()


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


def test_labels_txt_is_told_where_it_lacks_a_label_and_may_be_saved_by_windows(tmp_path, caplog):
    annotate(
        tmp_path, "a", [square("polyp", 2, 2, 9, 9), square("gefäß", 12, 2, 19, 9), square("background", 1, 1, 3, 3)]
    )
    (tmp_path / "labels.txt").write_bytes("polyp\r\n\r\ngefäß\r\n".encode("cp1252"))
    assert read_source(tmp_path).class_names == {0: "background", 1: "polyp", 2: "gefäß"}
    assert not caplog.text
    (tmp_path / "labels.txt").write_text("polyp\n")
    assert read_source(tmp_path).class_names == {0: "background", 1: "gefäß", 2: "polyp"}
    assert "labels.txt is not used, since it has no 'gefäß'" in caplog.text
    (tmp_path / "labels.txt").write_bytes("polyp\n".encode("utf-16"))
    with pytest.raises(InputError, match="labels.txt cannot be read"):
        read_source(tmp_path)


def test_folders_pin_the_split(tmp_path):
    for n, side in enumerate(["train"] * 6 + ["val", "val", "test", "test"]):
        annotate(tmp_path / f"src/{side}", f"case{n}", [square("blood", 3 + n, 3, 14 + n, 20)])
    report, _ = run(tmp_path / "src")
    assert report.images == {"training": 6, "unlabeled": 0, "validation": 2, "test": 2}


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
        ({"shapes": [{"label": "blood", "shape_type": "cube", "points": [[1, 1], [9, 9]]}]}, "the cube 'blood'"),
        ({"shapes": [{"label": "blood", "shape_type": "linestrip", "points": []}]}, "'blood' has no points"),
        ({"shapes": [{"label": "blood", "points": [[1, 1], [9, 9]]}]}, "the polygon 'blood' of 2 points"),
        ({"imageWidth": 50}, "50 x 30"),
        ({"imageWidth": None}, "no annotation of labelme"),
        ({"imageWidth": float("inf")}, "no annotation of labelme"),
        ({"imageWidth": 10**9}, "1000000000 x 30 pixels"),
        ({"shapes": None}, "no annotation of labelme"),
        ({"shapes": [{"label": "blood"}]}, "it lacks 'points'"),
        ({"shapes": [{"label": " ", "points": [[1, 1], [9, 9], [1, 9]]}]}, "a shape has no label"),
        ({"shapes": [{"label": None, "points": [[1, 1], [9, 9], [1, 9]]}]}, "a shape has no label"),
        ({"shapes": [square("blood", 1, 1, float("nan"), 9)]}, "lies nowhere near the image"),
        ({"shapes": [square("blood", 1, 1, 1e12, 9)]}, "lies nowhere near the image"),
        (
            {"shapes": [{"label": "blood", "shape_type": "mask", "points": [[1, 1]], "mask": "AAAA"}]},
            "the mask 'blood'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, changes, message):
    for n in range(6):
        annotate(tmp_path / "src", f"case{n}", [square("blood", 3 + n, 3, 14 + n, 20)])
    annotate(tmp_path / "src", "case3", **{"shapes": [square("blood", 3, 3, 14, 20)]} | changes)
    assert "case3.json" in refused(tmp_path / "src", message) or "case3.jpg" in refused(tmp_path / "src", message)


def test_files_that_are_no_text_or_all_alike_wrong_are_named(tmp_path):
    for n in range(2):
        annotate(tmp_path, f"case{n}", [square("gefäß", 3, 3, 14, 20)])
        content = json.loads((tmp_path / f"case{n}.json").read_text())
        (tmp_path / f"case{n}.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("cp1252"))
    with pytest.raises(
        InputError, match="None of 2 labelme files can be read; .*case0.json: it is not in UTF-8"
    ) as error:
        read_source(tmp_path)
    assert len(str(error.value)) < 500


def test_two_files_for_one_image_are_told(tmp_path):
    annotate(tmp_path, "a", [square("blood", 3, 3, 9, 9)])
    for name in ("0", "b"):  # copied or renamed by hand
        annotate(tmp_path, name, [square("blood", 3, 3, 20, 20)], imagePath="a.jpg")
    source = read_source(tmp_path)
    assert [Path(file).name for file, _ in source.problems] == ["0.json", "b.json"]
    assert all("a.json is for the image" in reason for _, reason in source.problems)
    assert [entry.label().sum() if entry.label else 0 for entry in source.entries] == [0, 7 * 7, 0]


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
    source = read_source(tmp_path, "labelme")
    assert [entry.key for entry in source.entries] == ["a"] and source.entries[0].label().any()
    assert [Path(file).name for file, _ in source.left_out] == ["a.png"]
    assert read_source(tmp_path, "names").entries[0].label.endswith("masks/a.png")


def test_images_beside_the_files_are_no_masks_whatever_their_folder_is_called(tmp_path):
    annotate(tmp_path / "annotations", "a", [square("blood", 3, 3, 9, 9)])
    save(tmp_path / "annotations/b.png", pairs(1)[0][0])
    source = read_source(tmp_path)
    assert source.layout == "labelme" and [entry.label is None for entry in source.entries] == [False, True]
