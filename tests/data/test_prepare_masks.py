# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What `prepare` makes of masks: values, colours, blurred edges, scribbles, crowds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from scripts.data import MaskReader
from scripts.data.prepare import Options, prepare
from scripts.data.prepare.values import NO_LABEL, decide_rule
from scripts.errors import InputError
from tests.folders import pairs, save
from tests.preparing import everything, refused, run


def test_grey_values_need_names_and_the_message_says_which(tmp_path):
    made = [(image, np.array([0, 85, 170], np.uint8)[mask]) for image, mask in pairs(10, classes=3)]
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", mask)
    message = refused(tmp_path / "src", "--values '85=1,170=2'")
    assert "0 (" in message and "85 (" in message and "170 (" in message
    report, datalist = run(tmp_path / "src", values="85=1,170=2")
    assert report.num_classes == 3
    for item in everything(datalist):
        expected = made[int(item["key"])][1] // 85
        assert (MaskReader(3).get_data(item["label"])[0][0] == expected.T).all()
    message = refused(tmp_path / "src", "hold values that have no class: ", values="0=0")
    assert "85 (" in message and "170 (" in message and "--values '0=0,85=1,170=2', or add --nearest" in message
    message = refused(tmp_path / "src", "have no class: 170 ", values="85=1")
    assert "--values '85=1,170=2'" in message and " 85 (" not in message and " 0 (" not in message


def test_colours_become_classes(tmp_path):
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    made = pairs(10, classes=3)
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", palette[mask])
    message = refused(tmp_path / "src", "#ff0000=")
    option = message.split("--values '")[1].split("'")[0]
    assert sorted(option.split(",")) == ["#00ff00=1", "#ff0000=2"]
    _, datalist = run(tmp_path / "src", values="#ff0000=1,#00ff00=2")
    for item in everything(datalist):
        assert (MaskReader(3).get_data(item["label"])[0][0].T == made[int(item["key"])][1]).all()


def test_colours_are_those_of_a_palette_whatever_its_order(tmp_path):
    made, colours = pairs(10, classes=3), np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    for index, (image, mask) in enumerate(made):
        order = (0, 1, 2) if index % 2 else (0, 2, 1)
        picture = Image.fromarray(np.array(order, np.uint8)[mask], mode="P")
        picture.putpalette(colours[list(order)].ravel().tolist())
        save(tmp_path / f"src/images/{index}.png", image)
        (tmp_path / "src/masks").mkdir(exist_ok=True)
        picture.save(tmp_path / f"src/masks/{index}.png")
    assert "#00ff00=2" in refused(tmp_path / "src", "have no class: #00ff00", values="#ff0000=1")
    _, datalist = run(tmp_path / "src", values="#ff0000=1,#00ff00=2")
    for item in everything(datalist):
        assert (MaskReader(3).get_data(item["label"])[0][0].T == made[int(item["key"])][1]).all()


def test_jpeg_masks_of_few_values_are_proposed_by_what_stands_out():
    masks = [(f"m{n}.jpg", {0: 900, 1: 9, 2: 4, 3: 2, 252: 3, 253: 4, 255: 300}, True) for n in range(4)]
    with pytest.raises(InputError, match="--values '255=1' --nearest"):
        decide_rule(masks, {})
    with pytest.raises(InputError, match="--values '2=1' --nearest"):  # nothing stands out
        decide_rule([("m.jpg", {0: 900, 1: 30, 2: 30}, True)], {})


def test_masks_that_are_all_empty_are_told(tmp_path, caplog):
    for index, (image, mask) in enumerate(pairs(8)):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", mask * 0)
    prepare(tmp_path / "src", tmp_path / "out", Options())
    assert "All 8 masks are empty" in caplog.text


def test_jpeg_masks_take_the_nearest_named_value(tmp_path):
    made = pairs(10, classes=3)
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.jpg", np.array([0, 128, 255], np.uint8)[mask])
    refused(tmp_path / "src", "hold values that are no class indices")
    _, datalist = run(tmp_path / "src", values="128=1,255=2")
    wrong = [
        (MaskReader(3).get_data(item["label"])[0][0].T != made[int(item["key"])][1]).mean()
        for item in everything(datalist)
    ]
    assert np.mean(wrong) < 0.05


def scribbled(root, count, unlabelled, classes):
    """Images with dense masks and scribbles, which hold ``unlabelled`` off the strokes."""
    for index, (image, mask) in enumerate(pairs(count, classes=classes)):
        scribble = np.full_like(mask, unlabelled)
        scribble[::4] = mask[::4]
        for name, array in (("images", image), ("masks", mask), ("scribbles", scribble)):
            save(root / f"{name}/{index:02d}.png", array)
    return root


def test_scribbles_that_mark_unlabelled_by_the_next_number_stay_and_the_command_says_so(tmp_path):
    source = scribbled(tmp_path / "src", 8, 4, classes=4)
    report, datalist = run(source)
    assert (report.num_classes, report.ignore_value) == (4, 4)
    assert all(item["scribble"].startswith(str(source)) for item in datalist["training"])
    values = MaskReader(4, report.ignore_value).get_data(datalist["training"][0]["scribble"])[0]
    assert 0.7 < (values == 255).mean() < 0.8


def test_scribbles_of_two_classes_never_read_no_label_as_lesion(tmp_path):
    source = scribbled(tmp_path / "src", 8, 255, classes=2)
    save(source / "scribbles/00.png", np.where(np.arange(32)[:, None] % 4, 255, 0).astype(np.uint8).repeat(32, 1))
    report, datalist = run(source)
    reader = MaskReader(2, report.ignore_value)
    for item in everything(datalist):
        if "scribble" in item:
            assert (reader.get_data(item["scribble"])[0] == 255).mean() > 0.7


def test_masks_with_blurred_edges_need_nearest(tmp_path):
    made = pairs(8)
    for index, (image, mask) in enumerate(made):
        soft = (np.repeat(mask, 2, 1)[:, 1:].astype(int) + np.repeat(mask, 2, 1)[:, :-1])[:, ::2] * 100 + mask * 55
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", (soft * (1 + np.arange(32)) / 32).astype(np.uint8))
    assert "--nearest (0 is background" in refused(tmp_path / "src", "8 %|more")
    assert "=2" not in refused(tmp_path / "src", "and 2 more. Add --nearest", values="255=1")
    report, _ = run(tmp_path / "src", values="255=1", nearest=True)
    assert report.num_classes == 2


def test_crowds_of_a_single_category_are_ignored_and_no_lesion(tmp_path):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "polyp"}]}
    square = [4, 4, 20, 4, 20, 20, 4, 20]
    for number, (image, _) in enumerate(pairs(8)):
        save(tmp_path / f"src/{number}.png", image)
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        one = {"id": number, "image_id": number, "category_id": 1, "segmentation": [square], "iscrowd": number % 2}
        content["annotations"].append(one)
    (tmp_path / "src/a.json").write_text(json.dumps(content))
    report, datalist = run(tmp_path / "src")
    assert report.ignore_value == 2
    for item in everything(datalist):
        mask = MaskReader(2, report.ignore_value).get_data(item["label"])[0]
        assert set(np.unique(mask)) == {0, 255 if int(item["key"]) % 2 else 1} and (mask > 0).sum() == 256


def test_a_size_other_than_the_coco_file_says_is_named(tmp_path):
    save(tmp_path / "src/a.png", pairs(1)[0][0])
    images = [{"id": 1, "file_name": "a.png", "width": 32, "height": 30}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "src/a.json").write_text(json.dumps(content))
    refused(tmp_path / "src", "annotation of .*a.png has 32 x 30 pixels, but .*a.png has 32 x 32")


def test_a_value_that_few_masks_hold_is_shown_with_its_file():
    masks = [(f"m{n}.png", {0: 50, 255: 9}, False) for n in range(9)] + [("odd.png", {0: 50, 255: 9, 7: 1}, False)]
    with pytest.raises(InputError, match="7 is only in odd.png$"):
        decide_rule(masks, {})
    with pytest.raises(InputError) as caught:  # held by most of them, values are classes and not a slip
        decide_rule([(f"m{n}.png", {0: 50, 85: 9, 170: 3, NO_LABEL: 4}, False) for n in range(9)], {})
    assert "only in" not in str(caught.value) and "'85=1,170=2'" in str(caught.value)


def test_masks_without_background_are_told(tmp_path, caplog):
    for index, (image, mask) in enumerate(pairs(8)):
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", mask + 1)
    prepare(tmp_path / "src", tmp_path / "out", Options())
    assert "No mask holds class 0" in caplog.text and "--values '1=0,2=1'" in caplog.text
    caplog.clear()
    run(tmp_path / "src", tmp_path / "again", values="1=0,2=1")
    assert "No mask holds" not in caplog.text


def test_of_a_label_servers_masks_those_that_were_approved_are_taken(tmp_path, caplog):
    for index, (image, mask) in enumerate(pairs(24)):
        save(tmp_path / f"src/{index}.png", image)
        save(tmp_path / f"src/labels/{'final' if index % 2 else 'original'}/{index}.png", mask * 255)
    (tmp_path / "src" / "datastore_v2.json").write_text("{}")
    _, datalist = run(tmp_path / "src", tmp_path / "approved")
    assert sorted(int(item["key"]) for item in everything(datalist) if "label" in item) == list(range(1, 24, 2))
    assert len(everything(datalist)) == 24
    assert "labels/original holds masks that nobody has approved, so it is left out: --masks takes it" in caplog.text
    _, datalist = run(tmp_path / "src", tmp_path / "both", masks="labels")
    assert all("label" in item for item in everything(datalist))
