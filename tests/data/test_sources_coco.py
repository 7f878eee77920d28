# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""COCO annotations: polygons, run lengths, crowds, overlaps, and files that are wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scripts.data.sources import read_source
from scripts.data.sources.coco import paint
from scripts.errors import InputError
from tests.folders import pairs, save

SIZE = (12, 10)  # width, height
SQUARE = [2, 3, 8, 3, 8, 7, 2, 7]
WHOLE = [0, 0, 12, 0, 12, 10, 0, 10]
SPELLINGS = {"nested": [SQUARE], "flat": SQUARE}


def coco(root, annotations, categories=({"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}), name="coco.json"):
    """One image of 12 x 10 pixels with the annotations."""
    root.mkdir(parents=True, exist_ok=True)
    save(root / "images/a.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    images = [{"id": 5, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}]
    listed = [{"id": number, "image_id": 5, "category_id": 3} | one for number, one in enumerate(annotations)]
    content = {"images": images, "annotations": listed, "categories": list(categories)}
    (root / name).write_text(json.dumps(content))
    return root


def mask_of(root):
    source = read_source(root)
    assert source.layout == "coco" and source.problems == []
    return source.entries[0].label()


def runs_of(area):
    """Uncompressed run lengths of an area (X, Y), column by column, zeros first."""
    flat, runs, value = area.ravel(), [], False
    while len(flat):
        length = int(np.argmax(flat != value)) if (flat != value).any() else len(flat)
        runs.append(length)
        flat, value = flat[length:], not value
    return {"size": [SIZE[1], SIZE[0]], "counts": runs}


def test_a_polygon_lies_where_it_was_drawn_and_classes_follow_the_ids(tmp_path):
    mask = mask_of(coco(tmp_path, [{"segmentation": [SQUARE]}]))
    expected = np.zeros(SIZE, np.uint8)
    expected[2:8, 3:7] = 2  # category 3 comes after 1
    assert mask.dtype == np.uint8 and (mask == expected).all()
    assert read_source(tmp_path).class_names == {0: "background", 1: "dog", 2: "cat"}


def test_an_object_of_one_polygon_may_lack_the_list_around_it(tmp_path):
    """As MyVision writes boxes and supervision 0.13 wrote all."""
    nested, flat = (mask_of(coco(tmp_path / name, [{"segmentation": one}])) for name, one in SPELLINGS.items())
    assert nested.any() and (nested == flat).all()


def test_run_lengths_say_the_same_pixels(tmp_path):
    from pycocotools import mask as coder

    area = np.random.default_rng(0).random(SIZE) < 0.4
    packed = coder.encode(np.asfortranarray(area.T.astype(np.uint8)))
    packed["counts"] = packed["counts"].decode()
    packed["size"] = [int(size) for size in packed["size"]]
    for number, shape in enumerate((runs_of(area), packed)):
        mask = mask_of(coco(tmp_path / str(number), [{"segmentation": shape, "category_id": 1}]))
        assert (mask == area).all()


def test_smaller_objects_lie_on_top_and_crowds_are_ignored_below_all(tmp_path):
    crowd = np.zeros(SIZE, bool)
    crowd[:4] = True
    annotations = [
        {"segmentation": [[4, 4, 6, 4, 6, 6, 4, 6]], "category_id": 1},
        {"segmentation": [SQUARE]},
        {"segmentation": runs_of(crowd), "iscrowd": 1},
    ]
    mask = mask_of(coco(tmp_path, annotations))
    assert mask[4, 4] == 1 and mask[2, 3] == 2 and mask[0, 0] == 255 and mask[11, 9] == 0
    mask = mask_of(coco(tmp_path, [{"segmentation": [WHOLE], "category_id": 1}, {"segmentation": [WHOLE]}]))
    assert (mask == 2).all()  # equal areas: the later one


def change(root, **parts):
    """The file of :func:`coco` with other parts."""
    path = root / "coco.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    return root


def test_crowds_as_cvat_makes_them_of_brushed_objects_are_told_of(tmp_path, caplog):
    areas = [{"segmentation": [SQUARE]}] * 9
    mask_of(coco(tmp_path / "few", [*areas, {"segmentation": [WHOLE], "iscrowd": 1}]))
    assert not caplog.text
    assert 1 not in mask_of(coco(tmp_path / "all", [{"segmentation": [SQUARE], "iscrowd": 1}] * 2))
    assert "2 of the 2 annotations in coco.json are marked iscrowd" in caplog.text


def test_background_and_ignore_are_no_classes(tmp_path):
    names = ("Background", "dog", "ignore", "cat")
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    shapes = [
        {"segmentation": [WHOLE], "category_id": 2},
        {"segmentation": [SQUARE], "category_id": 3},
        {"segmentation": [[4, 4, 6, 4, 6, 6, 4, 6]], "category_id": 0},
    ]
    root = coco(tmp_path, shapes, categories)
    mask = mask_of(root)
    assert (mask[4, 4], mask[2, 3], mask[0, 0]) == (0, 2, 255)  # a hole in a cat
    assert read_source(root).class_names == {0: "background", 1: "dog", 2: "cat"}
    with pytest.raises(InputError, match="coco.json have 0 labels beside background and ignore, but 1 to 254 can"):
        read_source(coco(tmp_path, [], categories[:1]))


def test_a_category_that_only_holds_others_is_left_out(tmp_path, caplog):
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "dog"},
    ]
    root = coco(tmp_path, [{"segmentation": [SQUARE], "category_id": 1}], categories)
    assert mask_of(root).max() == 1 and read_source(root).class_names == {0: "background", 1: "cat", 2: "dog"}
    assert "coco.json: the category 'pets' is no class, for others belong to it" in caplog.text
    caplog.clear()
    used = coco(tmp_path, [{"segmentation": [SQUARE], "category_id": "0"}], categories)
    assert read_source(used).class_names == {0: "background", 1: "pets", 2: "cat", 3: "dog"} and not caplog.text


def test_ids_of_categories_may_be_text_or_floats(tmp_path):
    for number, written in enumerate(("3", 3.0, "1")):
        mask = mask_of(coco(tmp_path / str(number), [{"segmentation": [SQUARE], "category_id": written}]))
        assert mask.max() == (1 if written == "1" else 2)


def test_marks_written_as_text_count_as_the_numbers_they_are(tmp_path):
    lower = {"segmentation": [SQUARE], "z_order": 0}
    upper = {"segmentation": [WHOLE], "z_order": "1", "category_id": 1, "iscrowd": None}
    assert (mask_of(coco(tmp_path / "order", [lower, upper])) == 1).all()
    assert mask_of(coco(tmp_path / "crowd", [lower | {"iscrowd": "0"}])).max() == 2


def test_annotations_of_no_listed_image_are_a_problem(tmp_path):
    strays = [{"segmentation": [SQUARE], "image_id": number} for number in range(100, 107)]
    root = coco(tmp_path, [{"segmentation": [SQUARE]}, *strays])
    ((path, reason),) = read_source(root).problems
    assert path == str(root / "coco.json")
    assert reason.startswith(
        "7 of its 8 annotations (id 1, 2, 3, 4, 5, ...) are for images that it does not list (image_id 100, 101, 102, "
        "103, 104, ...): correct image_id"
    )
    ((_, reason),) = read_source(change(root, annotations=["text"])).problems
    assert reason.startswith("1 of its 1 annotations (id None)")


def test_images_of_one_id_or_none_are_refused(tmp_path):
    image = {"id": 5, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}
    root = change(coco(tmp_path, []), images=[image, image | {"file_name": "b.png", "id": "5"}])
    with pytest.raises(InputError, match="coco.json gives the id 5 to two images, a.png and b.png: list every image"):
        read_source(root)
    del image["id"]
    ((_, reason),) = read_source(change(root, images=[image])).problems
    assert reason.startswith("an image needs id, file_name")


def test_a_file_of_boxes_is_told_once(tmp_path):
    box = {"bbox": [2, 3, 6, 4]}
    root = coco(tmp_path, [box, box | {"segmentation": []}])
    with pytest.raises(InputError, match="coco.json holds boxes only; segmentations are needed"):
        read_source(root)
    assert read_source(coco(tmp_path, [box, {"segmentation": [SQUARE]}])).problems == []  # told when it is drawn


def few(root, annotated, listed, others=0, side="train"):
    """A COCO file of which some images have an object; others lie beside them."""
    images = [{"id": n, "file_name": f"{side}{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in range(listed)]
    for number in range(listed + others):
        save(root / f"images/{side}{number}.png", np.full((SIZE[1], SIZE[0], 3), number, np.uint8))
    drawn = [{"id": n, "image_id": n, "category_id": 1, "segmentation": [SQUARE]} for n in range(annotated)]
    content = {"images": images, "annotations": drawn, "categories": [{"id": 1, "name": "blood"}]}
    (root / f"instances_{side}.json").write_text(json.dumps(content))
    return root


def test_an_image_without_objects_is_background_and_most_of_them_are_told_of(tmp_path, caplog):
    assert not mask_of(coco(tmp_path / "one", [])).any()
    assert "1 of the 1 images in coco.json have no annotation" in caplog.text
    caplog.clear()
    root = tmp_path / "several"
    source = read_source(few(root, 2, 4))
    assert [bool(entry.label().any()) for entry in source.entries] == [True, True, False, False]
    assert not caplog.text and "2 images with shapes, 2 without any, 0 not listed" in source.text
    read_source(few(root, 2, 5))
    assert "3 of the 5 images" in caplog.text and "--unannotated unlabelled" in caplog.text
    caplog.clear()
    read_source(root, unannotated="background")
    assert not caplog.text


def test_images_that_nobody_annotated_are_unlabelled(tmp_path, caplog):
    few(tmp_path, 2, 5, others=2)
    save(tmp_path / "images/train0.jpg", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    save(tmp_path / "masks/train1.png", np.zeros((SIZE[1], SIZE[0]), np.uint8))
    save(tmp_path / "test/images/c.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    source = read_source(tmp_path, unannotated="unlabelled")
    expected = [(f"train{number}", number > 1) for number in range(7)] + [("c", True)]
    assert [(entry.key, entry.label is None) for entry in source.entries] == expected
    assert {Path(file).name: reason.split(",")[0] for file, reason in source.left_out} == {
        "train0.jpg": "an image of the same name is in COCO files",
        "train1.png": "a mask",
    }
    assert not caplog.text
    few(tmp_path, 1, 3, side="val")  # now the files pin the split
    source = read_source(tmp_path, unannotated="unlabelled")
    assert Counter((entry.side, entry.label is None) for entry in source.entries) == {
        ("train", False): 2,
        ("train", True): 5,
        ("val", False): 1,
    }
    held_out = {Path(file).name: reason for file, reason in source.left_out if "without a mask" in reason}
    assert held_out == {
        "val1.png": "to validate on, but without a mask",
        "val2.png": "to validate on, but without a mask",
        "c.png": "to test on, but without a mask",
    }
    one = read_source(tmp_path / "instances_train.json")  # of the other images nothing is known then
    assert sorted(entry.key for entry in one.entries) == [f"train{number}" for number in range(5)]
    with pytest.raises(InputError, match="--unannotated is for COCO, CVAT, Label Studio and VIA files"):
        read_source(tmp_path, "names", unannotated="unlabelled")
    with pytest.raises(InputError, match="--unannotated is 'unlabeled': give background or unlabelled"):
        read_source(tmp_path, unannotated="unlabeled")


def test_an_image_in_several_files_counts_once_with_the_shapes_of_one(tmp_path):
    few(tmp_path, 2, 4, side="job")
    content = json.loads((tmp_path / "instances_job.json").read_text())
    for annotation in content["annotations"]:
        annotation["image_id"] += 1
    (tmp_path / "another.json").write_text(json.dumps(content | {"annotations": content["annotations"][1:]}))
    source = read_source(tmp_path, unannotated="unlabelled")
    assert sorted((entry.key, entry.label is None) for entry in source.entries) == [
        ("job0", False),
        ("job1", False),
        ("job2", False),
        ("job3", True),
    ]
    (tmp_path / "another.json").write_text(json.dumps(content))
    ((file, reason),) = read_source(tmp_path).problems
    assert Path(file).name == "job1.png" and "another.json and instances_job.json both have shapes of it" in reason


def test_folders_of_the_files_pin_the_split_too_and_what_cannot_be_used_is_not_unlisted(tmp_path):
    for side in ("train", "valid", "test"):
        few(tmp_path / side, 1, 2, side="x")
        (tmp_path / side / "instances_x.json").rename(tmp_path / side / "_annotations.coco.json")
        for path in (tmp_path / side / "images").iterdir():
            path.rename(tmp_path / side / path.name)
    sides = Counter(entry.side for entry in read_source(tmp_path).entries)
    assert sides == {"train": 2, "val": 2, "test": 2}
    path = tmp_path / "test/_annotations.coco.json"
    content = json.loads(path.read_text())
    del content["images"][0]["width"]
    path.write_text(json.dumps(content))
    source = read_source(tmp_path)
    assert len(source.problems) == 1 and len(source.entries) == 5
    assert [reason for _, reason in source.left_out] == ["an image of the same name is in COCO files"]


def test_images_that_are_listed_by_another_path_are_listed(tmp_path):
    root = few(tmp_path / "real", 1, 2)
    (tmp_path / "link").symlink_to(root)
    path = root / "instances_train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = str(root / "images" / image["file_name"])
    path.write_text(json.dumps(content))
    assert [entry.label is None for entry in read_source(tmp_path / "link").entries] == [False, False]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({}, "annotation 0 has no valid segmentation"),
        ({"segmentation": []}, "no polygon of three points"),
        ({"segmentation": [[1, 1, 2, 2]]}, "no polygon of three points"),
        ({"segmentation": [["a"] * 6]}, "no valid segmentation"),
        ({"segmentation": {"size": [10, 12], "counts": [5, 5]}}, "do not fill the image"),
        ({"segmentation": {"size": [12, 10], "counts": [120]}}, "its size is"),
        ({"segmentation": {"size": [10, 12], "counts": "%%%"}}, "no valid segmentation|annotation 0"),
        ({"segmentation": [SQUARE], "category_id": 9}, "annotation 0 has an unknown category"),
        ({"segmentation": [SQUARE], "category_id": [3]}, "annotation 0 has an unknown category"),
        ({"segmentation": [SQUARE], "category_id": "cat"}, "annotation 0 has an unknown category"),
        ({"segmentation": [SQUARE], "z_order": [1]}, "annotation 0 has an iscrowd or z_order that is no number"),
        ({"segmentation": [SQUARE], "z_order": "top"}, "annotation 0 has an iscrowd or z_order that is no number"),
    ],
)
def test_broken_annotations(tmp_path, annotation, message):
    label = read_source(coco(tmp_path, [annotation])).entries[0].label
    with pytest.raises(InputError, match=message):
        label()


def test_files_named_by_side_pin_the_split_and_must_agree(tmp_path):
    for number, side in enumerate(("train", "val")):
        save(tmp_path / f"{side}/{number}.png", pairs(1)[0][0])
        images = [{"id": 1, "file_name": f"{number}.png", "width": 32, "height": 32}]
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/instances_{side}.json").write_text(json.dumps(content))
    assert {entry.key: entry.side for entry in read_source(tmp_path).entries} == {"0": "train", "1": "val"}
    content["categories"] = [{"id": 1, "name": "y"}]
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="instances_val.json has other categories"):
        read_source(tmp_path)


def test_images_that_are_not_there_are_problems(tmp_path):
    root = coco(tmp_path, [])
    (root / "images/a.png").unlink()
    ((path, reason),) = read_source(root).problems
    assert path.endswith("coco.json") and "a.png" in reason


def test_no_damaged_annotation_does_more_than_raise(tmp_path):
    """The decoder in C writes past its memory on damaged run lengths; here they end in a sentence, or in a mask."""
    rng, masks = np.random.default_rng(0), 0
    for number in range(3000):
        text = "".join(map(chr, rng.integers(48, 112, rng.integers(0, 40))))
        polygon = rng.normal(0, 10 ** rng.uniform(0, 300), rng.integers(0, 14)).tolist()
        shape = {"size": [10, 12], "counts": text} if number % 2 else [polygon]
        try:
            masks += paint([{"segmentation": shape, "category_id": 1}], SIZE, {1: 1}, "file").shape == SIZE
        except InputError:
            pass
    assert 0 < masks < 3000
    with pytest.raises(InputError, match="has no end"):
        paint([{"segmentation": {"size": [10, 12], "counts": "o" * 10**6}, "category_id": 1}], SIZE, {1: 1}, "file")
