# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Photographs with an EXIF rotation beside masks without one: told by `check`, `prepare` and the check of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from bundle.__main__ import main
from scripts.data.checks import check_images
from scripts.data.decode import decode
from scripts.data.exif import rotation_note
from scripts.data.survey import survey
from scripts.errors import InputError
from tests.folders import save

WIDE = (24, 40)  # (Y, X) as stored


def photograph(path: Path, seed: int, orientation: int = 1) -> str:
    """A JPEG of 40 x 24 pixels as stored, which viewers show turned by ``orientation``."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*WIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    return str(path)


def mask(path: Path, size: tuple[int, int]) -> str:
    values = np.zeros(size, np.uint8)
    values[4:9, 3:9] = 255
    return save(path, values)


def folder(root: Path, orientation: int, turned: int, mask_size: tuple[int, int]) -> Path:
    """Ten photographs with masks, the first ``turned`` of them with the orientation and a mask of that size."""
    for index in range(10):
        photograph(root / f"images/{index}.jpg", index, orientation if index < turned else 1)
        mask(root / f"masks/{index}.png", mask_size if index < turned else WIDE)
    return root


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_tag_is_read_with_the_pixels(tmp_path, orientation):
    decoded = decode(photograph(tmp_path / "a.jpg", 0, orientation))
    assert decoded.orientation == orientation
    assert decoded.array.shape[1:] == ((24, 40) if orientation > 4 else (40, 24))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_stored_size_is_refused_with_the_reason(tmp_path, capsys, orientation):
    source = folder(tmp_path / "src", orientation, 1, WIDE)
    mend = "turn the mask, or remove the EXIF tag from the image"
    (problem,) = survey(source).problems
    assert problem.kind == "size" and "has 24 x 40 pixels, but its mask" in problem.message and mend in problem.message
    item = {"key": "0", "image": str(source / "images/0.jpg"), "label": str(source / "masks/0.png")}
    with pytest.raises(InputError, match=mend):
        check_images([item], 2)
    assert main(["prepare", str(source), "--output", str(tmp_path / "out")]) == 2
    assert "carries an EXIF rotation, which the mask ignores" in capsys.readouterr().err


@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 24)), (3, (40, 24)), (6, (24, 41))])
def test_other_sizes_have_another_reason(tmp_path, orientation, size):
    (problem,) = survey(folder(tmp_path / "src", orientation, 1, size)).problems
    assert problem.message.endswith(": replace one of them.") and "EXIF" not in problem.message


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_rotation_beside_a_mask_without_one_is_a_note(tmp_path, caplog, orientation):
    source = folder(tmp_path / "src", orientation, 3, WIDE[::-1] if orientation > 4 else WIDE)
    found = survey(source)
    notes = [note.message for note in found.notes if note.kind == "exif_rotation"]
    assert not found.problems and notes == [rotation_note(3)]
    assert notes[0].startswith("3 images with a mask carry an EXIF rotation, which is applied: if the masks were drawn")
    assert main(["prepare", str(source), "--output", str(tmp_path / "out")]) == 0
    assert [record.message for record in caplog.records if "EXIF" in record.message] == [rotation_note(3)]


def test_upright_images_and_turned_ones_without_a_mask_or_with_a_turned_one_are_not_noted(tmp_path, caplog):
    source = folder(tmp_path / "src", 3, 2, WIDE)
    (source / "masks/0.png").unlink()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    with Image.open(source / "masks/1.png") as picture:
        picture.copy().save(source / "masks/1.png", exif=exif)
    assert not [note for note in survey(source).notes if note.kind == "exif_rotation"]
    assert main(["prepare", str(source), "--output", str(tmp_path / "out")]) == 0
    assert "EXIF" not in caplog.text
    assert rotation_note(1).startswith("1 image with a mask carries an EXIF rotation")
