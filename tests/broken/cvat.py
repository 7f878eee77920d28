# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Broken files of CVAT."""

from __future__ import annotations

from pathlib import Path

from tests.broken.base import COUNT, HEIGHT, WIDTH, case


def cvat(root: Path, old: str = "", new: str = "") -> Path:
    """The set with its masks as boxes of CVAT, a piece of the file exchanged."""
    boxes = "".join(
        f'<image id="{n}" name="case{n}.png" width="{WIDTH}" height="{HEIGHT}">'
        f'<box label="lesion" xtl="6" ytl="{4 + n}" xbr="20" ybr="{12 + n}"></box></image>'
        for n in range(COUNT)
    )
    labels = "<meta><task><labels><label><name>lesion</name></label></labels></task></meta>"
    text = f"<annotations><version>1.1</version>{labels}{boxes}</annotations>"
    for path in (root / "masks").iterdir():
        path.unlink()
    (root / "masks").rmdir()
    assert old in text
    (root / "annotations.xml").write_text(text.replace(old, new))
    return root


@case(("prepare",))
def cvat_naming_a_missing_image(root):
    cvat(root, "case2.png", "never.png")
    return "never.png"


@case(("prepare",))
def cvat_with_a_box_that_is_no_number(root):
    cvat(root, 'ytl="6"', 'ytl="six"')
    return "case2.png"


@case(("prepare",))
def cvat_of_another_image_size(root):
    cvat(root, f'name="case2.png" width="{WIDTH}"', f'name="case2.png" width="{WIDTH * 2}"')
    return "case2.png"


@case(("prepare",))
def cvat_cut_short(root):
    cvat(root, "</annotations>", "")
    return "annotations.xml"


@case(("prepare",))
def cvat_for_video(root):
    cvat(root, "</annotations>", '<track id="0" label="lesion"></track></annotations>')
    return "CVAT for images 1.1"
