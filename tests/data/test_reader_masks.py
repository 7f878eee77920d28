# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""MaskReader: masks as class indices, whatever they were drawn with, and what is refused."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged
from PIL import Image

from scripts.data import MaskReader
from scripts.errors import InputError
from tests.data.test_reader import COLOURS, HEIGHT, WIDTH, read_mask, save


@pytest.mark.parametrize(
    ("values", "num_classes", "expected"),
    [
        ((0, 255, 0), 2, [0, 1, 0]),
        ((255, 255, 255), 2, [1, 1, 1]),
        ((0, 1, 1), 2, [0, 1, 1]),
        ((0, 1, 255), 2, [0, 1, 255]),
        ((0, 3, 2), 4, [0, 3, 2]),
        ((0, 255, 0), 4, [0, 255, 0]),
    ],
)
def test_mask_values(tmp_path, values, num_classes, expected):
    mask = read_mask(save(tmp_path / "a.png", np.array([values], np.uint8)), num_classes)
    assert mask.dtype == np.uint8 and mask.shape == (1, 3, 1) and mask.ravel().tolist() == expected


@pytest.mark.parametrize(("values", "num_classes", "named"), [((0, 128), 2, "128"), ((0, 4), 4, "4"), ((1, 2), 2, "2")])
def test_a_value_outside_the_classes_is_named(tmp_path, values, num_classes, named):
    path = save(tmp_path / "a.png", np.array([values], np.uint8))
    with pytest.raises(InputError, match=f"a.png holds the value {named}, but the classes are 0 to {num_classes - 1}"):
        read_mask(path, num_classes)


@pytest.mark.parametrize(
    "num_classes, values, expected", [(4, (0, 3, 4, 255), (0, 3, 255, 255)), (2, (2, 2), (255, 255))]
)
def test_the_ignore_value_of_scribbles(tmp_path, num_classes, values, expected):
    path = save(tmp_path / "a.png", np.array([values], np.uint8))
    mask = MaskReader(num_classes, ignore_value=num_classes).get_data(path)[0]
    assert mask.dtype == np.uint8 and mask.ravel().tolist() == list(expected)
    with pytest.raises(InputError, match=f"holds the value {num_classes}"):
        MaskReader(num_classes).get_data(path)


def test_palette_mask_with_border_gives_indices(tmp_path):
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[1:4, 1:4] = 255
    values[2, 2] = 2
    mask = Image.fromarray(values).convert("P")
    mask.putpalette([channel for index in range(256) for channel in (255 - index, index, index // 2)])
    mask.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", 3)[0].T, values)


def test_one_bit_and_sixteen_bit_and_float_masks_hold_indices(tmp_path):
    values = (COLOURS[..., 0] % 3).astype(np.uint8)
    for name, array in {"a.png": values.astype(np.uint16), "a.tif": values.astype(np.float32)}.items():
        np.testing.assert_array_equal(read_mask(save(tmp_path / name, array), 3)[0].T, values)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "b.png", values > 0), 3)[0].T, values > 0)


def test_grey_stored_as_rgb_is_a_mask_and_colour_is_not(tmp_path):
    values = (COLOURS[..., :1] % 2).repeat(3, axis=2)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", values))[0].T, values[..., 0])
    with pytest.raises(InputError, match="is in colour"):
        read_mask(save(tmp_path / "b.png", COLOURS))


def test_jpeg_masks_pass_only_if_their_values_survived(tmp_path):
    assert read_mask(save(tmp_path / "flat.jpg", np.zeros((16, 16), np.uint8))).max() == 0
    with pytest.raises(InputError, match="save masks as PNG"):
        read_mask(save(tmp_path / "a.jpg", (np.indices((16, 16)).sum(0) % 5 // 4 * 255).astype(np.uint8), quality=30))


def test_masks_stay_uint8_through_load_image(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 255]], np.uint8))
    mask = LoadImaged("label", reader=MaskReader(), dtype=None)({"label": path})["label"]
    assert mask.dtype == torch.uint8 and mask.shape == (1, 2, 1)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (255, 0, 0)])
def test_a_mask_drawn_in_transparency_alone(tmp_path, colour):
    mask = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 == 0) * np.uint8(255)
    path = save(tmp_path / "m.png", np.dstack([np.full_like(mask, value) for value in colour] + [mask]))
    assert (MaskReader().get_data(path)[0][0] == mask.T // 255).all()


def test_transparency_beside_a_shape_in_grey_is_dropped(tmp_path):
    mask = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 == 0) * np.uint8(255)
    path = save(tmp_path / "m.png", np.dstack([mask, mask, mask, mask[::-1]]))
    assert (MaskReader().get_data(path)[0][0] == mask.T // 255).all()


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_fractions_are_no_example_for_values(tmp_path, value):
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4), value, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=f"holds the value {value:g}, which is no class.*prepare --values' "):
        read_mask(tmp_path / "a.nii", num_classes=255)


def save_palette(path, indices, colours):
    picture = Image.fromarray(np.array(indices, np.uint8), mode="P")
    picture.putpalette(np.array(colours, np.uint8).ravel().tolist())
    picture.save(path)
    return path


BLACK, WHITE, GREY, RED, GREEN = (0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 255, 0)


@pytest.mark.parametrize(
    ("colours", "indices", "num_classes", "expected"),
    [
        (
            (WHITE, BLACK),
            (1, 0, 1),
            2,
            [0, 1, 0],
        ),  # what a program that quantises makes of a mask that is mostly lesion
        ((BLACK, WHITE), (0, 1, 0), 2, [0, 1, 0]),
        (((2, 2, 2), BLACK, (1, 1, 1)), (0, 1, 2), 3, [2, 0, 1]),
        ((BLACK, RED, GREEN), (0, 1, 2), 3, [0, 1, 2]),  # Pascal VOC, labelme
        ((BLACK, RED, GREEN, GREY), (0, 0, 3), 4, [0, 0, 3]),  # one of its classes may be grey
        ((RED, GREEN, BLACK), (0, 1, 1), 3, [0, 1, 1]),  # black is there to fill up
        ((GREY, BLACK, BLACK), (0, 1, 2), 3, [0, 1, 2]),  # colours that tell no classes apart
    ],
)
def test_a_palette_says_whether_indices_or_grey_values_count(tmp_path, colours, indices, num_classes, expected):
    path = save_palette(tmp_path / "a.png", [indices], colours)
    assert read_mask(path, num_classes).ravel().tolist() == expected


def test_a_quantised_mask_reads_as_the_mask_itself(tmp_path):
    for share in (1, HEIGHT - 1):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:share] = 255
        Image.fromarray(mask).convert("RGB").quantize(2).save(tmp_path / "a.png")
        assert (read_mask(tmp_path / "a.png")[0].T == mask // 255).all()


def test_a_palette_whose_black_does_not_come_first_is_in_colour(tmp_path):
    with pytest.raises(InputError, match="is in colour: .*prepare --values"):
        read_mask(save_palette(tmp_path / "a.png", [(0, 1)], (RED, BLACK)))
