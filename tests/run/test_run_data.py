# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Bad data: one sentence with the file and the mend, before training starts."""

import json
import shutil

import pytest
from PIL import Image

from tests.folders import image_of, mask_of
from tests.tiny import refusal


def training_files(data) -> list[str]:
    """Names of the training images."""
    return [name for name in json.loads((data / "splits.json").read_text())["train"]]


def truncate(data):
    path = image_of(data, training_files(data)[0])
    path.write_bytes(path.read_bytes()[:200])
    return path.name


def shrink_mask(data):
    path = mask_of(data, training_files(data)[0])
    Image.open(path).crop((0, 0, 30, 32)).save(path)
    return training_files(data)[0]


def strange_value(data):
    path = mask_of(data, training_files(data)[0])
    Image.new("L", (32, 32), 7).save(path)
    return path.name


def remove_masks(data):
    shutil.rmtree(data / "masks")
    for name in ("pairs.csv", "splits.json"):
        (data / name).unlink()
    return "mask"


def duplicate_stem(data):
    for name in ("pairs.csv", "splits.json"):
        (data / name).unlink()
    path = sorted((data / "images").iterdir())[0]
    Image.open(path).save(path.with_suffix(".bmp"))
    return path.stem


def group_on_two_sides(data):
    table = (data / "pairs.csv").read_text().splitlines()
    splits = json.loads((data / "splits.json").read_text())
    column = table[0].split(",").index("group")
    rows = {}
    for line in table[1:]:
        cells = line.split(",")
        rows[cells[0]] = cells
    names = list(rows)
    find = {
        key: next(n for n in names if key in n) for side in splits.values() if isinstance(side, list) for key in side
    }
    rows[find[splits["train"][0]]][column] = rows[find[splits["test"][0]]][column]
    (data / "pairs.csv").write_text("\n".join([table[0], *(",".join(rows[name]) for name in names)]) + "\n")
    return rows[find[splits["test"][0]]][column]


@pytest.mark.parametrize(
    "spoil",
    [truncate, shrink_mask, strange_value, remove_masks, duplicate_stem, group_on_two_sides],
    ids=lambda function: function.__name__,
)
def test_bad_data_is_named_before_training(data, tmp_path, spoil):
    named = spoil(data)
    sentence = refusal(data, tmp_path, label_ratio=1.0)
    assert named in sentence and "\n" not in sentence


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, 1000, "many"])
def test_a_label_ratio_out_of_range_is_refused(data, tmp_path, ratio):
    assert "label_ratio" in refusal(data, tmp_path, label_ratio=ratio)


def test_one_labelled_image_is_too_few(data, tmp_path):
    assert "fewer than 2 labelled" in refusal(data, tmp_path, label_ratio=0.01)
