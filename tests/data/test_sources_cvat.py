# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""CVAT's XML: every shape where it was drawn, images that nobody annotated, and files that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.data.prepare import Options, prepare
from scripts.data.sources import read_source
from scripts.errors import InputError
from tests.folders import save

SIZE = (20, 16)  # width, height
LABELS = ("blood", "background", "ignore", "clot")
SQUARE = '<polygon label="clot" points="2.00,3.00;8.00,3.00;8.00,7.00;2.00,7.00" z_order="0"></polygon>'


def label(name, kind="any"):
    return f"<label><name>{name}</name><color>#fa3253</color><type>{kind}</type><attributes></attributes></label>"


def cvat(root, images, labels=tuple(map(label, LABELS)), holder="task", name="annotations.xml", listed=""):
    """A file with the shapes of images of 20 x 16 pixels, which lie in ``images/``."""
    for key in images:
        save(root / f"images/{key}.png", np.full((SIZE[1], SIZE[0], 3), len(key), np.uint8))
    width, height = SIZE
    entries = "".join(
        f'<image id="{n}" name="{key}.png" width="{width}" height="{height}">{shapes}</image>'
        for n, (key, shapes) in enumerate(images.items())
    )
    meta = f"<meta><{holder}><id>1</id><labels>{''.join(labels)}</labels></{holder}><dumped>2026</dumped></meta>"
    text = f"<annotations><version>1.1</version>{meta}{entries}{listed}</annotations>"
    (root / name).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}')
    return root


def mask_of(root):
    source = read_source(root)
    assert source.layout == "cvat" and source.problems == []
    return source.entries[0].label()


def box(left, top, right, bottom, more=""):
    return f'<box label="blood" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" {more}></box>'


def test_a_polygon_lies_where_it_was_drawn_and_classes_follow_the_labels(tmp_path):
    mask = mask_of(cvat(tmp_path, {"a": SQUARE}))
    expected = np.zeros(SIZE, np.uint8)
    expected[2:8, 3:7] = 2  # background and ignore are no classes
    assert mask.dtype == np.uint8 and (mask == expected).all()
    assert read_source(tmp_path).class_names == {0: "background", 1: "blood", 2: "clot"}


def test_boxes_and_ellipses_turn_clockwise_around_their_middle(tmp_path):
    flat = mask_of(cvat(tmp_path / "flat", {"a": box(4, 6, 14, 8)}))
    assert flat[4:14, 6:8].all() and flat.sum() == 20
    upright = mask_of(cvat(tmp_path / "upright", {"a": box(4, 6, 14, 8, 'rotation="90.00"')}))
    assert upright[8:10, 2:12].all() and upright.sum() == 20
    turned = mask_of(cvat(tmp_path / "turned", {"a": box(4, 6, 14, 8, 'rotation="45"')}))
    assert turned[11, 9] and turned[6, 4] and not turned[11, 4]  # the right end goes down
    shape = '<ellipse label="blood" cx="10" cy="8" rx="6" ry="3" rotation="0"></ellipse>'
    ellipse = mask_of(cvat(tmp_path / "ellipse", {"a": shape}))
    x, y = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = ((x - 10) / 6) ** 2 + ((y - 8) / 3) ** 2
    assert ellipse[inside < 0.8].all() and not ellipse[inside > 1.2].any()


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_mask_says_its_pixels_row_by_row(tmp_path, seed):
    rng = np.random.default_rng(seed)
    area = rng.random((5, 7)) < 0.5  # height, width
    area[0, 0] = seed % 2  # runs begin with background, if of no pixel
    runs, value, flat = [], False, area.ravel()
    while len(flat):
        length = int(np.argmax(flat != value)) if (flat != value).any() else len(flat)
        runs, flat, value = [*runs, length], flat[length:], not value
    text = ", ".join(map(str, runs))
    mask = mask_of(
        cvat(tmp_path, {"a": f'<mask label="blood" rle="{text}" left="3" top="2" width="7" height="5"></mask>'})
    )
    expected = np.zeros(SIZE, np.uint8)
    expected[3:10, 2:7] = area.T
    assert (mask == expected).all()
    whole = f'<mask label="blood" rle="0, {SIZE[0] * SIZE[1]}" left="0" top="0" width="{SIZE[0]}" height="{SIZE[1]}" />'
    assert mask_of(cvat(tmp_path / "whole", {"a": whole})).all()


def test_the_higher_order_lies_on_top_then_the_smaller_shape_and_ignored_ones_below(tmp_path):
    shapes = (
        SQUARE
        + box(0, 0, 20, 4)
        + box(3, 3, 5, 5)
        + box(6, 5, 20, 16, 'z_order="1"')
        + '<box label="ignore" xtl="0" ytl="0" xbr="20" ybr="8"></box>'
        + '<box label="Background" xtl="10" ytl="10" xbr="12" ybr="12" z_order="2"></box>'
    )
    mask = mask_of(cvat(tmp_path, {"a": shapes}, (*map(label, LABELS), label("Background"))))
    assert mask[4, 4] == 1 and mask[2, 3] == 2  # in the square, the small box; the square over the long box
    assert mask[7, 6] == 1  # a large box of a higher order over the square
    assert mask[0, 5] == 255 and mask[0, 0] == 1 and mask[10, 10] == 0 and mask[0, 15] == 0


@pytest.mark.parametrize("holder", ["task", "job", "project"])
def test_images_without_a_shape_are_background_unless_nobody_has_looked(tmp_path, caplog, holder):
    shapes = {"a": SQUARE, "b": "", "c": '<tag label="blood"></tag><points label="wire" points="1,1"></points>'}
    save(tmp_path / "images/d.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    cvat(tmp_path, shapes, holder=holder)
    source = read_source(tmp_path)
    assert [None if entry.label is None else int(entry.label().any()) for entry in source.entries] == [1, 0, 0, None]
    assert "2 of the 3 images in annotations.xml have no annotation" in caplog.text
    assert "passed over: 1 of the kind points" in caplog.text
    source = read_source(tmp_path, unannotated="unlabelled")
    assert [entry.label is None for entry in source.entries] == [False, True, True, True]
    assert "1 images with shapes, 2 without any, 1 not listed" in source.text


def test_subsets_pin_the_split(tmp_path):
    cvat(tmp_path, {"a": SQUARE, "bb": SQUARE, "ccc": ""})
    path = tmp_path / "annotations.xml"
    text = path.read_text()
    for number, subset in enumerate(("Train", "Validation", "Test")):
        text = text.replace(f'<image id="{number}"', f'<image id="{number}" subset="{subset}"')
    path.write_text(text)
    assert [entry.side for entry in read_source(tmp_path).entries] == ["train", "val", "test"]
    source = read_source(tmp_path, unannotated="unlabelled")
    assert [entry.side for entry in source.entries] == ["train", "val"]
    assert [(Path(file).name, reason) for file, reason in source.left_out] == [
        ("ccc.png", "to test on, but without a mask")
    ]
    path.write_text(text.replace(' subset="Test"', ' subset="default"'))
    assert {entry.side for entry in read_source(tmp_path).entries} == {None}


def test_a_folder_is_prepared_from_it(tmp_path):
    images = {f"{'x' * number}{number}": SQUARE if number % 2 else box(1, 1, 5, 5) for number in range(1, 13)}
    report = prepare(cvat(tmp_path / "src", images), tmp_path / "out", Options(unannotated="unlabelled"))
    assert report.layout == "cvat" and report.num_classes == 3 and sum(report.images.values()) == 12
    assert report.class_names == {0: "background", 1: "blood", 2: "clot"}


@pytest.mark.parametrize(
    "shape, message",
    [
        ('<polygon label="clot" points="2,3;8,3"></polygon>', "no polygon of three points"),
        ('<polygon label="clot" points="2,3;8,x;1,1"></polygon>', "polygon 1 of the label 'clot' cannot be drawn"),
        ('<polygon label="clot"></polygon>', "cannot be drawn"),
        ('<polygon label="clot" points="0,0;1e9,0;0,1"></polygon>', "its outline leaves the image"),
        ('<polygon points="2,3;8,3;8,7"></polygon>', "it has no label"),
        ('<box label="blood" xtl="1" ytl="1" xbr="nan" ybr="2"></box>', "its outline leaves the image"),
        ('<mask label="blood" rle="1, 2" left="0" top="0" width="2" height="2"></mask>', "do not fill its box"),
        ('<mask label="blood" rle="4" left="19" top="0" width="2" height="2"></mask>', "its box leaves the image"),
    ],
)
def test_broken_shapes_are_named_with_their_image(tmp_path, shape, message):
    root = cvat(tmp_path, {"a": shape, "bb": SQUARE})
    with pytest.raises(InputError, match=message) as error:
        read_source(root).entries[0].label()
    assert "annotations.xml, image a.png" in str(error.value)


def test_broken_files_and_images_that_are_not_there(tmp_path):
    root = cvat(tmp_path / "gone", {"a": SQUARE, "bb": SQUARE})
    (root / "images/bb.png").unlink()
    ((path, reason),) = read_source(root).problems
    assert path.endswith("annotations.xml") and "bb.png" in reason
    root = cvat(
        tmp_path / "sizeless", {"a": SQUARE, "bb": SQUARE}, listed='<image id="9" name="a.png" width="3"></image>'
    )
    ((_, reason),) = read_source(root).problems
    assert "'a.png' has no usable width and height" in reason
    path = cvat(tmp_path / "cut", {"a": SQUARE}) / "annotations.xml"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match="annotations.xml is not valid XML"):
        read_source(tmp_path / "cut")
    with pytest.raises(InputError, match="export it as 'CVAT for images 1.1'"):
        read_source(cvat(tmp_path / "video", {"a": ""}, listed='<track id="0" label="blood"></track>'))
    with pytest.raises(InputError, match="annotations.xml of CVAT: 0 labels"):
        read_source(cvat(tmp_path / "none", {"a": ""}, [label("good", "tag"), label("background")]))


def test_other_xml_files_are_none_of_cvats(tmp_path):
    save(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "a.xml").write_text("<annotation><filename>a.png</filename></annotation>")
    assert read_source(tmp_path).layout == "names"
