# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Which slices of a volume its picture shows, and where in it they lie."""

import numpy as np

from scripts.handlers.predictions import fullest_slices, montage


def test_the_fullest_slices_are_chosen_and_stay_in_order():
    mask = np.zeros((6, 6, 20), np.uint8)
    for z, count in {3: 1, 17: 4, 9: 2}.items():
        mask[0, :count, z] = 1 + z % 2
    assert fullest_slices(mask, 3) == [3, 9, 17] and fullest_slices(mask, 1) == [17]
    assert fullest_slices(mask, 5) == [3, 8, 9, 10, 17] or fullest_slices(mask, 5) == [3, 9, 10, 11, 17]
    assert fullest_slices(np.zeros((2, 2, 5)), 3) == [1, 2, 3] and fullest_slices(np.zeros((2, 2, 2))) == [0, 1]


def test_the_montage_runs_to_the_right_and_down():
    array = np.arange(7, dtype=np.float32) * np.ones((2, 3, 4, 1), np.float32)
    sheet = montage(array, [0, 2, 3, 5, 6])
    assert sheet.shape == (2, 9, 8)
    places = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    for (column, row), z in zip(places, [0, 2, 3, 5, 6]):
        assert (sheet[:, 3 * column : 3 * column + 3, 4 * row : 4 * row + 4] == z).all()
    assert not sheet[:, 6:, 4:].any()
