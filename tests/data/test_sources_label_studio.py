# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Label Studio's exports: every region where it was drawn, whose work counts, and files that are wrong."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from scripts.data.sources import read_source
from scripts.data.sources.brush import unpack
from scripts.errors import InputError
from tests.folders import save
from tests.preparing import run

SIZE = (40, 20)  # width, height
#: 3 x 2 pixels, of which (1, 0) and (2, 1) are brushed, as encode_rle of label-studio-sdk 2.1.2 packs them
PACKED = [0, 0, 0, 24, 57, 27, 252, 96, 0, 3, 128, 16, 0, 72, 31, 246, 192, 0, 7, 0, 32, 0, 144, 50, 0]


def region(kind, value, *labels, number=1, **more):
    """A result of the kind, as the export JSON holds it; positions are percent of the image."""
    value = {**value, **({kind: list(labels)} if labels else {})}
    noted = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
    return {"id": f"r{number}", "type": kind, "from_name": "label", "to_name": "image", "value": value, **noted, **more}


def box(left, top, width, height, label="blood", **more):
    value = {"x": left, "y": top, "width": width, "height": height, "rotation": 0} | more
    return region("rectanglelabels", value, label)


def by(results, **more):
    """Somebody's annotation."""
    return {"id": 1, "was_cancelled": False, "result": results, "created_at": "2026-01-01T00:00:00Z"} | more


def export(root, annotations, name="project-1.json", address="/data/upload/1/0a1b2c3d-{}.png"):
    """Images of 40 x 20 pixels, and an export that has the annotations of each."""
    for key in annotations:
        save(root / f"images/{key}.png", np.full((SIZE[1], SIZE[0], 3), len(key), np.uint8))
    tasks = [
        {"id": n, "data": {"image": address.format(key)}, "annotations": made, "predictions": []}
        for n, (key, made) in enumerate(annotations.items())
    ]
    (root / name).write_text(json.dumps(tasks))
    return root


def minimal(root, annotations, name="minimal.json"):
    """The same as JSON-MIN: the regions below the name of their control, without ids and kinds."""
    records = []
    for key, made in annotations.items():
        save(root / f"images/{key}.png", np.full((SIZE[1], SIZE[0], 3), len(key), np.uint8))
        for one in made or [None]:
            noted = {"id": 1, "annotation_id": one and one["id"], "updated_at": one and one["created_at"]}
            sizes = ("original_width", "original_height")
            drawn = [{**each["value"], **{k: each[k] for k in sizes}} for each in one["result"]] if one else None
            records.append({"image": f"{key}.png", **({"label": drawn} if drawn else {}), **noted})
    (root / name).write_text(json.dumps(records))
    return root


def read(root, **options):
    source = read_source(root, **options)
    assert source.layout == "labelstudio" and source.problems == []
    return source


def masks(root, **options):
    """The mask of each image, None where it has none."""
    return {entry.key: entry.label and entry.label() for entry in read(root, **options).entries}


def data_url(drawn, mode="RGBA"):
    """Black where an area (X, Y) is drawn, transparent elsewhere, as Label Studio's canvas gives it."""
    picture = Image.new(mode, drawn.shape)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(drawn.T.astype(np.uint8) * 255))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def area(left, top, right, bottom):
    region = np.zeros(SIZE, bool)
    region[left:right, top:bottom] = True
    return region


def packed(drawn):
    """The run lengths of an area (X, Y), as runs of eight values each, which the vendor's encoder never writes."""
    values = [part for alpha in drawn.T.ravel() for part in (9, 9, 9, 255 * int(alpha))]
    bits = f"{len(values):032b}{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}"
    for start in range(0, len(values), 8):
        some = values[start : start + 8]
        bits += f"000{len(some) - 1:03b}" + "".join(f"{value:08b}" for value in some)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@pytest.mark.parametrize("write", [export, minimal])
def test_every_region_lies_where_it_was_drawn(tmp_path, write):
    drawn = np.random.default_rng(0).random(SIZE) < 0.4
    corners = [[25, 10], [75, 10], [75, 60], [25, 60]]
    vertices = [{"x": x, "y": y} for x, y in corners]
    found = masks(
        write(
            tmp_path,
            {
                "brush": [by([region("brushlabels", {"format": "rle", "rle": packed(drawn)}, "blood")])],
                "bitmask": [by([region("bitmasklabels", {"imageDataURL": data_url(drawn)}, "blood")])],
                "polygon": [by([region("polygonlabels", {"points": corners, "closed": True}, "clot")])],
                "vector": [
                    by(
                        [
                            region(
                                "vectorlabels",
                                {"vertices": vertices, "closed": True},
                                "clot",
                            )
                        ]
                    )
                ],
                "box": [by([box(50, 25, 25, 50)])],
                "turned": [by([box(50, 25, 25, 50, rotation=90)])],
                "nothing": [by([])],
            },
        )
    )
    assert found["brush"].dtype == np.uint8 and (found["brush"] == drawn).all()
    assert (found["bitmask"] == drawn).all()
    assert (found["polygon"] == 2 * area(10, 2, 30, 12)).all() and (found["vector"] == found["polygon"]).all()
    assert (found["box"] == area(20, 5, 30, 15)).all()
    assert (found["turned"] == area(10, 5, 20, 15)).all()  # clockwise around its first corner
    assert found["nothing"].shape == SIZE and not found["nothing"].any()


@pytest.mark.parametrize(
    "broken, reason",
    [
        ("data:image/png;base64,", "its picture is damaged"),
        ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==", "its picture is damaged"),
        ("nothing", "its picture is damaged"),
        (7, "."),
        ("small", "it has 3 x 2 pixels, its image 40 x 20"),
        ("opaque", "nothing of it is transparent"),
    ],
)
def test_a_damaged_bitmask_is_named(tmp_path, broken, reason):
    made = {"small": data_url(np.ones((3, 2), bool)), "opaque": data_url(np.ones(SIZE, bool), "RGB")}
    value = {"imageDataURL": made.get(broken, broken)}
    source = read(export(tmp_path, {"a": [by([region("bitmasklabels", value, "blood")])]}))
    with pytest.raises(InputError, match=rf"bitmask 1 of the label 'blood' cannot be drawn \(.*{reason}.*\): correct"):
        source.entries[0].label()


def test_an_ellipse_turns_around_its_middle(tmp_path):
    value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 15, "rotation": 90}
    mask = masks(export(tmp_path, {"a": [by([region("ellipselabels", value, "blood")])]}))["a"]
    x, y = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = ((x - 20) / 3) ** 2 + ((y - 10) / 8) ** 2
    assert mask[inside < 0.75].all() and not mask[inside > 1.25].any()


def test_brushes_are_read_as_the_vendor_packs_them():
    assert unpack(PACKED, (3, 2)).tolist() == [[False, False], [True, False], [False, True]]


@pytest.mark.parametrize(
    "broken", [PACKED[:-3], PACKED[:5], [], [0, 0, 0, 28, *PACKED[4:]], [*PACKED[:4], 0, *PACKED[5:]], [300], "rle"]
)
def test_a_damaged_brush_is_named(tmp_path, broken):
    value = {"format": "rle", "rle": broken}
    noted = {"original_width": 3, "original_height": 2}
    source = read(export(tmp_path, {"a": [by([region("brushlabels", value, "blood", **noted)])]}))
    with pytest.raises(
        InputError, match=r"0a1b2c3d-a.png: brush 1 of the label 'blood' cannot be drawn \(.+\): correct"
    ):
        source.entries[0].label()


def test_classes_follow_the_alphabet_and_smaller_areas_lie_on_top(tmp_path):
    shapes = [box(40, 60, 10, 10, "clot"), box(0, 50, 100, 50), box(90, 60, 10, 10, "background")]
    root = export(tmp_path, {"a": [by([*shapes, box(0, 0, 5, 5, "Ignore")])]})
    assert read(root).class_names == {0: "background", 1: "blood", 2: "clot"}
    values, counts = np.unique(masks(root)["a"], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist())) == {0: 406, 1: 384, 2: 8, 255: 2}


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/1/0a1b2c3d-my_frame_1.png",
        "/data/local-files/?d=study/images/my%20frame%201.png",
        "https://example.org/some/where/my%20frame%201.png?token=1",
        "s3://bucket/0a1b2c3d-my_frame_1.png",
        "images/my frame 1.png",
    ],
)
def test_images_are_found_under_the_names_they_had_before_the_upload(tmp_path, address):
    export(tmp_path, {"my frame 1": [by([box(0, 0, 50, 50)])], "b": [by([])]}, address=address)
    tasks = json.loads((tmp_path / "project-1.json").read_text())
    (tmp_path / "project-1.json").write_text(json.dumps(tasks[:1]))
    assert {key: mask is not None for key, mask in masks(tmp_path).items()} == {"my frame 1": True, "b": False}


@pytest.mark.parametrize("named", [False, True])
def test_who_has_not_been_looked_at_is_unlabelled(tmp_path, named):
    made = {
        "a": [by([box(0, 0, 50, 50)])],
        "none": [],
        "skipped": [by([box(0, 0, 9, 9)], was_cancelled=True)],
        "empty": [by([])],
    }
    root = export(tmp_path, made)
    source = root / "project-1.json" if named else root
    assert {key: mask is not None for key, mask in masks(source).items()} == {
        "a": True,
        "none": False,
        "skipped": False,
        "empty": True,
    }
    assert masks(source, unannotated="unlabelled")["empty"] is None


@pytest.mark.parametrize("write", [export, minimal])
def test_of_several_annotations_the_latest_counts(tmp_path, caplog, write):
    late = by([box(0, 0, 50, 50)], id=2, created_at="2026-03-01T00:00:00Z")
    root = write(tmp_path, {"a": [late, by([box(0, 0, 100, 100)])], "b": [by([])]})
    assert masks(root)["a"].sum() == 200 and "several annotations of 1 images" in caplog.text


def test_the_ground_truth_counts_before_the_latest(tmp_path):
    true = by([box(0, 0, 50, 50)], ground_truth=True)
    late = by([box(0, 0, 100, 100)], created_at="2026-03-01T00:00:00Z")
    assert masks(export(tmp_path, {"a": [true, late]}))["a"].sum() == 200


def test_a_shape_and_its_label_may_stand_apart(tmp_path, caplog):
    """As from the tags Rectangle and Labels; one that was never labelled is passed over with a word."""
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
    shapes = [
        region("rectangle", value),
        region("labels", value, "blood"),
        region("rectangle", value | {"x": 50}, number=2),
    ]
    choice = {"id": "c", "type": "choices", "from_name": "quality", "value": {"choices": ["good"]}}
    mask = masks(export(tmp_path, {"a": [by([*shapes, choice])]}))["a"]
    assert (mask == area(0, 0, 20, 10)).all() and "1 of the kind rectangle without a label" in caplog.text


def test_points_and_open_vectors_are_scribbles(tmp_path, caplog):
    line = region("vectorlabels", {"vertices": [{"x": 10, "y": 50}, {"x": 50, "y": 50}], "closed": False}, "blood")
    dot = region("keypointlabels", {"x": 90, "y": 10, "width": 1}, "background")
    (entry,) = read(export(tmp_path / "scribbles", {"a": [by([line, dot])]})).entries
    scribble = entry.scribble()
    assert entry.label is None and (scribble[4:21, 10] == 1).all() and scribble[36, 2] == 0
    assert (scribble != 255).sum() == 18
    mark = region("keypointlabels", {"x": 90, "y": 10, "width": 1}, "tip of the nose")
    (entry,) = read(export(tmp_path / "marks", {"a": [by([mark, box(0, 0, 50, 50)])]})).entries
    assert entry.scribble is None and "1 of the kind point" in caplog.text


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (box(0, 0, 50, 50) | {"image_rotation": 90}, "was turned in Label Studio: turn it back"),
        (region("rectanglelabels", box(0, 0, 5, 5)["value"], "blood", "clot"), "has the labels 'blood' and 'clot'"),
        (box(0, 0, 50, 50) | {"original_width": None}, "no usable original_width"),
        (box(0, 0, 50, 50) | {"original_width": 10**9}, "no usable original_width"),
    ],
)
def test_images_that_cannot_be_used_are_problems(tmp_path, shape, reason):
    source = read_source(export(tmp_path, {"a": [by([shape])], "b": [by([box(0, 0, 5, 5)])]}))
    ((file, message),) = source.problems
    assert file.endswith("project-1.json") and reason in message and "a.png" in message
    assert [entry.key for entry in source.entries] == ["b"]


def test_an_image_that_is_not_there_is_a_problem_only_if_somebody_drew_on_it(tmp_path):
    export(tmp_path, {"a": [by([box(0, 0, 50, 50)])], "b": [by([box(0, 0, 50, 50)])], "c": []})
    for key in "bc":
        (tmp_path / f"images/{key}.png").unlink()
    ((_, message),) = read_source(tmp_path).problems
    assert "0a1b2c3d-b.png that it lists is not there" in message


@pytest.mark.parametrize("value", [{"x": "left"}, {"width": None}, {"x": float("nan")}, {"height": 1e9}])
def test_a_shape_that_cannot_be_drawn_is_named(tmp_path, value):
    shape = box(0, 0, 50, 50)
    shape["value"] |= value
    source = read(export(tmp_path, {"a": [by([shape])]}))
    with pytest.raises(InputError, match="project-1.json, image /data/upload/1/0a1b2c3d-a.png"):
        source.entries[0].label()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"original_width": 3}', "is not valid JSON"),
        ('["original_width", 4]', "is no export of Label Studio"),
        ('[{"data": {}, "annotations": 3, "original_width": 1}]', "is no export of Label Studio"),
        ('[{"data": {}, "annotations": [], "original_width": 1}]', "names 0 labels"),
    ],
)
def test_files_that_are_no_export_are_refused(tmp_path, text, reason):
    export(tmp_path, {"a": []})
    (tmp_path / "project-1.json").write_text(text)
    with pytest.raises(InputError, match=reason):
        read_source(tmp_path)


def test_prepare_makes_a_data_set_of_it(tmp_path):
    made = {f"p{n:02d}": [by([box(5 * n, 10, 20, 40)])] if n < 12 else [] for n in range(16)}
    root = export(tmp_path / "studio", made)
    for n, key in enumerate(made):
        save(root / f"images/{key}.png", np.full((SIZE[1], SIZE[0], 3), 10 * n, np.uint8))
    report, datalist = run(root)
    assert report.num_classes == 2 and report.class_names == {0: "background", 1: "blood"}
    assert len(datalist["unlabeled"]) == 4 and sum(map(len, datalist.values())) == 16
