# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Broken tables, splits and lists."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tests.broken.base import COUNT, case


def with_csv(root: Path, rows: list[dict[str, str]] | None = None, text: str | None = None) -> Path:
    """Lays a ``pairs.csv`` beside the images."""
    path = root / "pairs.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
        return path
    rows = rows or [{"image": f"images/case{n}.png", "mask": f"masks/case{n}.png"} for n in range(COUNT)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(root: Path) -> list[dict[str, str]]:
    """The rows of a good ``pairs.csv``."""
    return [{"key": f"k{n}", "image": f"images/case{n}.png", "mask": f"masks/case{n}.png"} for n in range(COUNT)]


@case()
def empty_csv(root):
    return with_csv(root, text="").name


@case()
def csv_with_a_header_only(root):
    return with_csv(root, text="image,mask\n").name


@case(("check", "train"))
def csv_without_a_mask_column(root):
    return with_csv(root, text="image,segm\nimages/case0.png,masks/case0.png\n").name


@case()
def csv_pointing_outside(root):
    rows = rows_of(root)
    rows[2]["image"] = "../elsewhere.png"
    with_csv(root, rows)
    return "pairs.csv"


@case()
def csv_with_an_absolute_path_outside(root):
    rows = rows_of(root)
    rows[2]["mask"] = "/etc/hostname"
    with_csv(root, rows)
    return "pairs.csv"


@case()
def csv_in_utf16(root):
    path = with_csv(root)
    path.write_bytes(path.read_text().encode("utf-16"))
    return path.name


@case()
def csv_with_a_key_twice(root):
    rows = rows_of(root)
    rows[4]["key"] = rows[5]["key"]
    with_csv(root, rows)
    return "k5"


@case()
def csv_naming_a_missing_image(root):
    rows = rows_of(root)
    rows[4]["image"] = "images/never.png"
    with_csv(root, rows)
    return "never.png"


@case()
def csv_with_a_row_without_image(root):
    rows = rows_of(root)
    rows[4]["image"] = ""
    with_csv(root, rows)
    return "pairs.csv"


@case()
def csv_with_a_null_byte(root):
    path = with_csv(root)
    path.write_bytes(path.read_bytes().replace(b"case4", b"ca\0e4", 1))
    return "pairs.csv"


@case()
def splits_that_are_no_json(root):
    (root / "splits.json").write_text("{train: case0")
    return "splits.json"


@case()
def splits_naming_an_unknown_key(root):
    (root / "splits.json").write_text(json.dumps({"train": ["case0", "nobody"], "val": ["case1"], "test": ["case2"]}))
    return "nobody"


@case()
def splits_with_a_key_on_two_sides(root):
    sides = {"train": ["case0", "case1", "case2"], "val": ["case3"], "test": ["case2", "case4"]}
    (root / "splits.json").write_text(json.dumps(sides))
    return "case2"


@case()
def group_on_two_sides(root):
    rows = [row | {"group": "p1" if n in (0, 7) else f"g{n}"} for n, row in enumerate(rows_of(root))]
    with_csv(root, rows)
    sides = {"train": ["k0", "k1", "k2", "k3"], "val": ["k4", "k5"], "test": ["k6", "k7"]}
    (root / "splits.json").write_text(json.dumps(sides))
    return "p1"


@case()
def datalist_that_is_cut_off(root):
    (root / "datalist.json").write_text('{"training": [{"image": "images/case0.png", "lab')
    return "datalist.json"


@case(("check", "train"))
def datalist_without_training(root):
    (root / "datalist.json").write_text(json.dumps({"validation": []}))
    return "datalist.json"


@case()
def datalist_naming_a_missing_mask(root):
    entries = [{"image": f"images/case{n}.png", "label": f"masks/case{n}.png"} for n in range(COUNT)]
    entries[1]["label"] = "masks/never.png"
    (root / "datalist.json").write_text(json.dumps({"training": entries}))
    return "never.png"


@case()
def datalist_of_numbers(root):
    (root / "datalist.json").write_text(json.dumps({"training": [1, 2, 3, 4, 5]}))
    return "datalist.json"


@case()
def voc_list_naming_a_missing_image(root):
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationClass")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("case0\ncase1\nghost\n")
    return "ghost"
