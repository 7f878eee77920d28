# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""VIA's JSON: every region where it was drawn, which attribute is the class, and files that are wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scripts.data.sources import read_source
from scripts.errors import InputError
from tests.folders import save
from tests.preparing import run

SIZE = (40, 20)  # width, height


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def rect(left, top, width, height, **attributes):
    return region({"name": "rect", "x": left, "y": top, "width": width, "height": height}, **attributes)


def through(name, *points, **attributes):
    x, y = zip(*points)
    return region({"name": name, "all_points_x": list(x), "all_points_y": list(y)}, **attributes)


def via(root, images, project=False, name="via.json", listed=()):
    """Images of 40 x 20 pixels and a file with the regions of each."""
    for n, key in enumerate(images):
        save(root / f"images/{key}.png", np.full((SIZE[1], SIZE[0], 3), 9 * n, np.uint8))
    content = {
        f"{key}.png{n}": {"filename": f"{key}.png", "size": n, "regions": regions, "file_attributes": {}}
        for n, (key, regions) in enumerate({**images, **dict(listed)}.items())
    }
    whole = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {"region": {}, "file": {}}}
    (root / name).write_text(json.dumps(whole if project else content))
    return root


def read(root, **options):
    source = read_source(root, **options)
    assert source.layout == "via" and source.problems == []
    return source


def masks(root, **options):
    """The mask of each image, None where it has none."""
    return {entry.key: entry.label and entry.label() for entry in read(root, **options).entries}


def area(left, top, right, bottom):
    inside = np.zeros(SIZE, bool)
    inside[left:right, top:bottom] = True
    return inside


@pytest.mark.parametrize("project", [False, True])
def test_every_region_lies_where_it_was_drawn(tmp_path, project):
    corners = [(10, 2), (30, 2), (30, 12), (10, 12)]
    turned = {"name": "ellipse", "cx": 20, "cy": 10, "rx": 8, "ry": 3, "theta": np.pi / 2}
    found = masks(
        via(
            tmp_path,
            {
                "polygon": [through("polygon", *corners, label="clot")],
                "rect": [rect(4, 5, 10, 8, label="blood")],
                "circle": [region({"name": "circle", "cx": 20, "cy": 10, "r": 6}, label="blood")],
                "ellipse": [region(turned, label="blood")],
                "nothing": [],
            },
            project,
        )
    )
    assert found["polygon"].dtype == np.uint8 and (found["polygon"] == 2 * area(10, 2, 30, 12)).all()
    assert (found["rect"] == area(4, 5, 14, 13)).all() and found["nothing"].sum() == 0
    x, y = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for name, axes in (("circle", (6, 6)), ("ellipse", (3, 8))):
        inside = ((x - 20) / axes[0]) ** 2 + ((y - 10) / axes[1]) ** 2
        assert found[name][inside < 0.75].all() and not found[name][inside > 1.3].any()


def test_classes_follow_the_alphabet_and_smaller_areas_lie_on_top(tmp_path):
    shapes = [rect(0, 0, 3, 3, kind="clot"), rect(0, 0, 20, 20, kind="blood"), rect(9, 9, 2, 2, kind="Background")]
    root = via(tmp_path, {"a": [*shapes, rect(30, 0, 5, 5, kind="ignore")]})
    assert read(root).class_names == {0: "background", 1: "blood", 2: "clot"}
    values, counts = np.unique(masks(root)["a"], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist())) == {0: 379, 1: 387, 2: 9, 255: 25}


def test_regions_without_attributes_are_of_one_class(tmp_path):
    root = via(tmp_path, {"a": [rect(0, 0, 3, 3)], "b": [rect(0, 0, 5, 5, comment="")]})
    assert read(root).class_names == {0: "background", 1: "object"} and masks(root)["b"].sum() == 25


def test_the_attribute_with_the_class_is_the_one_of_that_name(tmp_path, caplog):
    shapes = [rect(0, 0, 3, 3, sure="yes", Class={"clot": True, "blood": False}), rect(9, 9, 2, 2, sure="no")]
    root = via(tmp_path, {"a": shapes})
    assert read(root).class_names == {0: "background", 1: "clot"} and masks(root)["a"].sum() == 9
    assert "1 of the kind rect without a label" in caplog.text
    with pytest.raises(InputError, match="have the attributes kind, sure: name the one that says the class 'label'"):
        read_source(via(tmp_path / "other", {"a": [rect(0, 0, 3, 3, sure="yes", kind="clot")]}))


def test_lines_and_points_are_scribbles(tmp_path, caplog):
    strokes = [through("polyline", (2, 3), (9, 3), label="blood")]
    strokes.append(region({"name": "point", "cx": 30, "cy": 10}, label="background"))
    (entry,) = read(via(tmp_path / "scribbles", {"a": strokes})).entries
    scribble = entry.scribble()
    assert entry.label is None and (scribble[2:10, 3] == 1).all() and scribble[30, 10] == 0
    assert (scribble != 255).sum() == 9
    mark = region({"name": "point", "cx": 30, "cy": 10}, label="tip of the nose")
    (entry,) = read(via(tmp_path / "marks", {"a": [mark, rect(0, 0, 5, 5, label="blood")]})).entries
    assert entry.scribble is None and "1 of the kind point" in caplog.text


@pytest.mark.parametrize("named", [False, True])
def test_images_without_a_region_are_background_or_unlabelled(tmp_path, named):
    root = via(tmp_path, {"a": [rect(0, 0, 5, 5)], "b": []})
    source = root / "via.json" if named else root
    assert masks(source)["b"].sum() == 0 and masks(source, unannotated="unlabelled")["b"] is None


def test_an_image_that_a_file_lists_twice_loses_no_region(tmp_path):
    """VIA knows an image by its name and its size in bytes: one that was saved anew can be added again."""
    path = via(tmp_path, {"a": [rect(3, 4, 5, 6)], "b": []}) / "via.json"
    content = json.loads(path.read_text())
    content["a.png9"] = content["a.png0"] | {"size": 9, "regions": []}
    path.write_text(json.dumps(content))
    assert np.array_equal(masks(tmp_path)["a"], area(3, 4, 8, 10))
    content["a.png9"]["regions"] = [rect(20, 4, 5, 6)]
    path.write_text(json.dumps(content))
    (problem,) = read_source(tmp_path).problems
    assert problem[0].endswith("a.png") and "both have shapes of it" in problem[1]


def test_an_image_that_is_not_there_is_a_problem(tmp_path):
    root = via(tmp_path, {"a": [rect(0, 0, 5, 5)]}, listed={"gone": [rect(0, 0, 5, 5)]})
    source = read_source(root)
    ((file, message),) = source.problems
    assert file.endswith("via.json") and "gone.png that it lists is not there" in message
    assert [entry.key for entry in source.entries] == ["a"]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (
            {"name": "rect", "x": 0, "y": 0, "width": "wide", "height": 3},
            "rect 1 of the label 'object' cannot be drawn",
        ),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "polygon 1 of the label"),
        ({"name": "circle", "cx": 1, "cy": 2}, "circle 1 of the label 'object' cannot be drawn"),
        ({"name": "circle", "cx": 1, "cy": 2, "r": float("nan")}, "has no valid segmentation"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "has no valid segmentation"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_named(tmp_path, shape, reason):
    (entry,) = read(via(tmp_path, {"a": [region(shape)]})).entries
    with pytest.raises(InputError, match=f"via.json, image a.png: .*{reason}"):
        entry.label()


@pytest.mark.parametrize(
    "text", ['{"shape_attributes": 3}', '["shape_attributes"]', '{"shape_attributes": {"regions": [1]}}']
)
def test_files_that_are_none_of_its_are_refused(tmp_path, text):
    (via(tmp_path, {"a": []}) / "via.json").write_text(text)
    with pytest.raises(InputError, match="via.json is no file of VIA 2"):
        read_source(tmp_path)


def test_prepare_makes_a_data_set_of_it(tmp_path):
    report, datalist = run(via(tmp_path / "via", {f"p{n:02d}": [rect(n, 3, 9, 9, label="blood")] for n in range(12)}))
    assert report.num_classes == 2 and report.class_names == {0: "background", 1: "blood"}
    assert sum(map(len, datalist.values())) == 12 and not datalist["unlabeled"]
