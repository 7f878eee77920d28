# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Lines drawn in labelme and CVAT are scribbles: where they lie, whose they are, and what is passed over."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data import MaskReader
from scripts.data.sources import read_source
from scripts.data.sources.strokes import Stroke, draw_strokes, scribble_labels
from scripts.errors import InputError
from tests.data.test_sources_cvat import SQUARE, cvat, label
from tests.data.test_sources_labelme import annotate, square
from tests.preparing import refused, run

CLASSES = {"background": 0, "blood": 1, "clot": 2, "ignore": 255}


def line(name, *points, kind="linestrip"):
    return {"label": name, "shape_type": kind, "points": [list(point) for point in points]}


def polyline(name, points):
    return f'<polyline label="{name}" points="{points}" z_order="0"></polyline>'


def distance(x, y, points):
    """From a pixel to the nearest point of a line through pixels, in plain Python."""
    best = min(np.hypot(x - a, y - b) for a, b in points)
    for (a, b), (c, d) in zip(points, points[1:]):
        length = (c - a) ** 2 + (d - b) ** 2
        along = min(1, max(0, ((x - a) * (c - a) + (y - b) * (d - b)) / length)) if length else 0
        best = min(best, np.hypot(x - a - along * (c - a), y - b - along * (d - b)))
    return best


@pytest.mark.parametrize(("size", "width"), [((90, 70), 1), ((70, 280), 2), ((420, 300), 3), ((700, 460), 5)])
def test_a_stroke_is_as_wide_as_the_image_is_large(size, width):
    points = [(10, 12), (40, 50), (60, 20), (61, 20)]
    drawn = draw_strokes([Stroke("clot", [(x + 0.7, y + 0.2) for x, y in points])], size, CLASSES, "a.json")
    assert drawn.shape == size and drawn.dtype == np.uint8 and set(np.unique(drawn)) == {2, 255}
    for x in range(70):
        for y in range(70):
            away = distance(x, y, points)
            assert drawn[x, y] == (2 if away <= width / 2 - 0.5 else 255) or width / 2 - 0.5 < away < width / 2 + 1


def test_the_later_stroke_lies_on_top_and_a_point_is_a_dot():
    strokes = [
        Stroke("blood", [(0, 5), (20, 5)]),
        Stroke("ignore", [(8, 0), (8, 10)]),
        Stroke("background", [(15.9, 9.9)]),
        Stroke("clot", [(-5, 2), (3, 2)]),
    ]
    drawn = draw_strokes(strokes, (20, 12), CLASSES, "a.json")
    expected = np.full((20, 12), 255, np.uint8)
    expected[:, 5], expected[8, 5], expected[15, 9], expected[:4, 2] = 1, 255, 0, 2
    assert (drawn == expected).all()


@pytest.mark.parametrize("points", [[], [(1, 1), (float("nan"), 2)], [(1, 1), (1e12, 2)]])
def test_a_stroke_that_cannot_be_drawn_is_named(points):
    with pytest.raises(InputError, match="^a.json: a line 'blood' (has no points|lies nowhere near the image)"):
        draw_strokes([Stroke("blood", points)], (20, 12), CLASSES, "a.json")


def test_lines_are_scribbles_of_the_classes_that_areas_have():
    assert scribble_labels({"a", "b"}, set(), set()) == {"a", "b"}
    assert scribble_labels({"a", "b", "c"}, {"a", "d"}, {"c"}) == {"a", "c"}


@pytest.mark.parametrize("kind", ["line", "linestrip", "points"])
def test_lines_of_labelme(tmp_path, kind):
    strokes = [line("clot", (2, 3), (9, 3), kind=kind), line("_background_", (20, 20), kind="point")]
    annotate(tmp_path, "a", strokes)
    annotate(tmp_path, "b", [square("blood", 5, 3, 12, 20), *strokes])
    annotate(tmp_path, "c", [square("clot", 5, 3, 12, 20)])
    annotate(tmp_path, "d", [])
    source = read_source(tmp_path)
    assert [(e.label is not None, e.scribble is not None) for e in source.entries] == [
        (False, True),
        (True, True),
        (True, False),
        (True, False),
    ]
    expected = np.full((40, 30), 255, np.uint8)
    expected[2:10, 3], expected[20, 20] = 2, 0
    assert (source.entries[0].scribble() == expected).all() and (source.entries[1].scribble() == expected).all()
    assert set(np.unique(source.entries[1].label())) == {0, 1}
    assert "4 with a file, 2 with a scribble" in source.text


def test_areas_of_background_or_to_ignore_make_no_mask_of_a_scribbled_image(tmp_path):
    reserved = [square("_background_", 20, 3, 30, 20), square("__ignore__", 1, 20, 9, 29)]
    annotate(tmp_path / "labelme", "a", [line("blood", (2, 3), (9, 3)), *reserved])
    boxes = '<box label="Background" xtl="1" ytl="9" xbr="5" ybr="15"></box>'
    cvat(tmp_path / "cvat", {"a": polyline("blood", "2,3;9,3") + boxes}, (label("blood"), label("Background")))
    for name in ("labelme", "cvat"):
        (entry,) = read_source(tmp_path / name).entries
        assert entry.label is None and (entry.scribble()[2:10, 3] == 1).all()


def test_lines_of_labelme_that_measure_something_are_passed_over_with_a_word(tmp_path, caplog):
    annotate(tmp_path, "a", [square("blood", 5, 3, 12, 20), line("10 mm", (2, 3), (9, 3)), line("blood", (6, 6))])
    annotate(tmp_path, "b", [line("10 mm", (2, 3), (9, 3))])
    source = read_source(tmp_path)
    assert source.class_names == {0: "background", 1: "blood"}
    assert "2 lines or points of '10 mm' are passed over" in caplog.text
    assert set(np.unique(source.entries[0].scribble())) == {1, 255}
    assert not source.entries[1].label().any() and source.entries[1].scribble is None  # as without any shape
    (tmp_path / "labels.txt").write_text("10 mm\nblood\n")
    source = read_source(tmp_path)
    assert source.class_names == {0: "background", 1: "10 mm", 2: "blood"}
    assert source.entries[1].label is None and set(np.unique(source.entries[1].scribble())) == {1, 255}


def test_lines_of_cvat(tmp_path, caplog):
    strokes = polyline("clot", "2.00,3.00;9.00,3.00") + '<points label="Background" points="15.5,12.5"></points>'
    labels = (*map(label, ("blood", "Background")), label("clot", "polyline"), label("length", "polyline"))
    images = {"a": strokes, "bb": SQUARE + strokes, "ccc": "", "dddd": SQUARE + polyline("length", "0,0;5,5")}
    source = read_source(cvat(tmp_path, images, labels))
    assert [(e.label is not None, e.scribble is not None) for e in source.entries] == [
        (False, True),
        (True, True),
        (True, False),
        (True, False),
    ]
    assert source.class_names == {0: "background", 1: "blood", 2: "clot"}
    expected = np.full((20, 16), 255, np.uint8)
    expected[2:10, 3], expected[15, 12] = 2, 0
    assert (source.entries[0].scribble() == expected).all() and (source.entries[1].scribble() == expected).all()
    assert "passed over: 1 of the kind polyline" in caplog.text
    assert "3 images with shapes, 1 without any" in source.text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<polyline label="clot" points="2,3;8,x"></polyline>', "polyline 1 of the label 'clot' cannot be drawn"),
        ('<polyline label="clot" points="2,3;8"></polyline>', "polyline 1 of the label 'clot' cannot be drawn"),
        ('<points label="clot"></points>', "points 1 of the label 'clot' cannot be drawn"),
        ('<points points="2,3"></points>', "it has no label"),
        ('<polyline label="clot" points="2,3;nan,4"></polyline>', "a line 'clot' lies nowhere near the image"),
    ],
)
def test_broken_lines_of_cvat_are_named_with_their_image(tmp_path, shape, message):
    root = cvat(tmp_path, {"a": shape, "bb": polyline("blood", "1,1;2,2")})
    with pytest.raises(InputError, match=message) as error:
        read_source(root).entries[0].scribble()
    assert "annotations.xml, image a.png" in str(error.value)


def test_a_folder_of_lines_to_train_on_and_areas_to_test_on_is_prepared(tmp_path):
    for n in range(6):
        strokes = [line("blood", (3 + n, 4), (3 + n, 20)), line("background", (20, 4), (30, 20 + n))]
        annotate(tmp_path / "src/train", f"case{n}", strokes)
    for n, side in enumerate(["val", "val", "test"]):
        annotate(tmp_path / f"src/{side}", f"{side}{n}", [square("blood", 3 + n, 3, 14 + n, 20)])
    annotate(tmp_path / "src/val", "scribbled", [line("blood", (3, 4), (9, 4))])
    report, datalist = run(tmp_path / "src")
    assert report.images == {"training": 6, "unlabeled": 0, "validation": 2, "test": 1}
    assert report.annotation == "scribble" and report.ignore_value == 2
    for item in datalist["training"]:
        n = int(item["key"].removeprefix("case"))
        scribble = MaskReader(2, 2).get_data(item["label"])[0][0]
        assert (scribble[3 + n, 4:21] == 1).all() and (scribble == 1).sum() == 17
        assert (scribble == 0).any() and (scribble == 255).sum() > 1000


def test_scribbles_that_a_training_would_not_use_are_told(tmp_path, caplog):
    for n in range(9):
        annotate(tmp_path / "src", f"m{n}", [square("blood", 3 + n, 3, 14 + n, 20)])
        annotate(tmp_path / "src", f"case{n}", [line("blood", (3 + n, 4), (3 + n, 20))])
    report, _ = run(tmp_path / "src")
    assert report.annotation == "mask" and report.images["training"] == 15
    assert "9 training images have a scribble alone, so a training from masks, of which there are 6" in caplog.text


def test_a_folder_of_lines_alone_has_nothing_to_validate_on(tmp_path):
    for n in range(9):
        annotate(tmp_path / "src", f"case{n}", [line("blood", (3 + n, 4), (3 + n, 20)), line("background", (20, 4))])
    refused(tmp_path / "src", "mask")
