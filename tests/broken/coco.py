# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Broken COCO files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.broken.base import COUNT, HEIGHT, WIDTH, case


def coco(root: Path, change: Callable[[dict], None]) -> Path:
    """The set as COCO polygons, changed; its masks are gone."""
    content = {
        "images": [{"id": n, "file_name": f"case{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(COUNT)],
        "categories": [{"id": 1, "name": "lesion"}],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": 1,
                "iscrowd": 0,
                "area": 112,
                "bbox": [6, 4 + n, 14, 8],
                "segmentation": [[6, 4 + n, 20, 4 + n, 20, 12 + n, 6, 12 + n]],
            }
            for n in range(COUNT)
        ],
    }
    change(content)
    for path in (root / "masks").iterdir():
        path.unlink()
    (root / "masks").rmdir()
    (root / "annotations.json").write_text(json.dumps(content))
    return root


@case(("prepare",))
def coco_naming_a_missing_image(root):
    coco(root, lambda content: content["images"][2].update(file_name="never.png"))
    return "never.png"


@case(("prepare",))
def coco_of_an_unknown_category(root):
    coco(root, lambda content: content["annotations"][2].update(category_id=9))
    return "annotations.json"


@case(("prepare",))
def coco_with_a_broken_polygon(root):
    coco(root, lambda content: content["annotations"][2].update(segmentation=[[1, 2, 3]]))
    return "annotations.json"


@case(("prepare",))
def coco_of_another_image_size(root):
    coco(root, lambda content: content["images"][2].update(width=WIDTH * 2))
    return "case2.png"
