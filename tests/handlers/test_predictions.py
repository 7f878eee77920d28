# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Which slices of a volume its picture shows, and where in it they lie."""

from types import SimpleNamespace

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor

from scripts import pictures
from scripts.handlers.predictions import Overlays, fullest_slices, montage


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


def test_the_share_marked_is_of_the_slices_not_of_empty_places_beside_them(tmp_path, monkeypatch):
    """Three slices lie in a sheet of four places."""
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((8, 6, 3)), np.diag([1.0, 1.0, 4.0, 1.0])), path)
    shares = []
    draw = pictures.prediction_overlay
    monkeypatch.setattr(pictures, "prediction_overlay", lambda *args: shares.append(args[-1]) or draw(*args))
    output = {"image": MetaTensor(torch.zeros(1), meta={"filename_or_obj": str(path)}), "pred": torch.ones(8, 6, 3)}
    Overlays(str(tmp_path / "out"), channels=1)(SimpleNamespace(state=SimpleNamespace(output=[output])))
    assert shares == [1.0] and (tmp_path / "out" / "overlays" / "scan.png").is_file()
