# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Broken files of Label Studio and VIA."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.broken.base import COUNT, HEIGHT, WIDTH, case


def exchanged(root: Path, content: object, old: str, new: str, name: str = "regions.json") -> Path:
    """The set with a file of regions in the place of its masks, a piece of it exchanged."""
    shutil.rmtree(root / "masks")
    text = json.dumps(content)
    assert old in text
    (root / name).write_text(text.replace(old, new))
    return root


def label_studio(root: Path, old: str, new: str) -> Path:
    """The set with its masks as boxes of Label Studio."""
    noted = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "type": "rectanglelabels"}
    tasks = []
    for n in range(COUNT):
        value = {"x": 15, "y": 100 * (4 + n) / HEIGHT, "width": 35, "height": 25, "rectanglelabels": ["lesion"]}
        made = [{"id": n, "result": [{"id": f"r{n}", "value": value, **noted}]}]
        tasks.append({"id": n, "data": {"image": f"/data/upload/1/case{n}.png"}, "annotations": made})
    return exchanged(root, tasks, old, new)


def via(root: Path, old: str, new: str) -> Path:
    """The set with its masks as boxes of VIA."""
    images = {}
    for n in range(COUNT):
        shape = {"name": "rect", "x": 6, "y": 4 + n, "width": 14, "height": 8}
        regions = [{"shape_attributes": shape, "region_attributes": {}}]
        images[f"case{n}.png-1"] = {"filename": f"case{n}.png", "size": -1, "regions": regions}
    return exchanged(root, images, old, new)


@case(("prepare",))
def label_studio_naming_a_missing_image(root):
    label_studio(root, "case2.png", "never.png")
    return "never.png"


@case(("prepare",))
def label_studio_with_a_box_that_is_no_number(root):
    label_studio(root, '"y": 18.75', '"y": "high"')
    return "case2.png"


@case(("prepare",))
def label_studio_of_another_image_size(root):
    label_studio(root, f'"original_width": {WIDTH}', f'"original_width": {WIDTH * 2}')
    return "case0.png"


@case(("prepare",))
def label_studio_cut_short(root):
    label_studio(root, "}]}]", "}]}")
    return "regions.json"


@case(("prepare",))
def label_studio_without_tasks(root):
    label_studio(root, '"annotations"', '"something"')
    return "regions.json"


@case(("prepare",))
def via_naming_a_missing_image(root):
    via(root, '"filename": "case2.png"', '"filename": "never.png"')
    return "never.png"


@case(("prepare",))
def via_with_a_box_that_is_no_number(root):
    via(root, '"y": 6,', '"y": "six",')
    return "case2.png"


@case(("prepare",))
def via_cut_short(root):
    via(root, "}}", "}")
    return "regions.json"
