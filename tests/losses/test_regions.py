# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Patches, boundary bands and coverage, against loops and scipy."""

import pytest
import torch
from scipy.ndimage import distance_transform_cdt

from scripts.losses import IGNORE_INDEX, boundary_band, class_shares, patch_classes, tile


@pytest.mark.parametrize("size", [(8, 8), (9, 14)])
def test_tiles_are_the_squares_of_the_image(size):
    maps = torch.rand(2, 3, *size)
    tiles = iter(tile(maps, 4))
    for image in maps:
        for x in range(size[0] // 4):
            for y in range(size[1] // 4):
                square = image[:, 4 * x : 4 * x + 4, 4 * y : 4 * y + 4]
                assert torch.equal(next(tiles), square.flatten(1).T)
    assert next(tiles, None) is None


def test_an_image_smaller_than_a_patch_is_one_patch():
    assert tile(torch.rand(2, 3, 5, 9), 32).shape == (2, 25, 3)


@pytest.mark.parametrize("radius", [1, 3])
def test_the_band_is_the_chessboard_distance_to_another_class(radius):
    torch.manual_seed(0)
    labels = torch.zeros(1, 1, 40, 40, dtype=torch.long)
    labels[..., 5:20, 8:30], labels[..., 25:33, 10:12] = 1, 2
    expected = torch.zeros(40, 40, dtype=torch.bool)
    for k in range(3):
        inside = labels[0, 0] == k
        expected |= inside & (torch.from_numpy(distance_transform_cdt(inside.numpy(), "chessboard")) <= radius)
    assert torch.equal(boundary_band(labels, radius)[0, 0], expected)


def test_ignored_pixels_bound_nothing():
    labels = torch.full((1, 1, 12, 12), IGNORE_INDEX)
    assert not boundary_band(labels, 2).any()
    labels[..., :6, :] = 1
    assert not boundary_band(labels, 2).any()
    labels[..., 10:, :] = 0
    assert not boundary_band(labels, 2).any() and boundary_band(labels, 5)[..., 5, :].all()
    assert not boundary_band(labels, 5)[labels == IGNORE_INDEX].any()


def test_shares_count_every_pixel_of_the_patch():
    labels = torch.tensor([[0, 0, 1, IGNORE_INDEX], [2, 2, 2, 2]])
    assert class_shares(labels, 3).tolist() == [[0.5, 0.25, 0.0], [0.0, 0.0, 1.0]]


def test_patches_stand_for_a_class_by_coverage():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (3, 1, 24, 24)) * (torch.rand(3, 1, 24, 24) < torch.rand(3, 1, 1, 1)).long()
    labels[:, :, :6] = 0
    labels[1, :, 12:, 12:] = labels[0, :, :6, :4] = labels[0, :, :6, 6:8] = IGNORE_INDEX
    labels[2, :, 12:18], labels[2, :, 18:, :13] = 2, 1
    found = patch_classes(labels, 4, 3, foreground=0.3, background=0.02)
    expected = []
    for patch in tile(labels, 6)[..., 0].tolist():
        known = [v for v in patch if v != IGNORE_INDEX]
        share = [known.count(k) / max(len(known), 1) for k in range(3)]
        lesion = 1 if share[1] >= share[2] else 2
        kind = 0 if share[1] + share[2] < 0.02 else lesion if share[lesion] > 0.3 else -1
        expected.append(kind if len(known) >= 18 else -1)
    assert found.flatten().tolist() == expected and set(expected) == {-1, 0, 1, 2}


def test_the_share_of_a_lesion_is_of_the_known_pixels():
    labels = torch.zeros(1, 1, 10, 10, dtype=torch.long)
    labels[..., :4, :] = IGNORE_INDEX
    labels[..., 4:6, :], labels[..., 6, :5] = 1, 1  # 25 of 60 known pixels, and a quarter of all
    assert patch_classes(labels, 1, 2).tolist() == [[1]]
