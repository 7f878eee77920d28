# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Volumes that an application hands over become slices that training reads, whatever integers their labels are of."""

from __future__ import annotations

import re

import nibabel
import numpy as np
import pytest

from scripts.data import ImageReader, MaskReader
from scripts.data.slices import fit_for_training
from scripts.errors import InputError

SHAPE = (6, 7, 3)


def write(path, values):
    """A NIfTI volume of the very type of its values; nibabel asks to be told where it is one of 64 bits."""
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1, 5, 1]), dtype=values.dtype), path)
    return str(path)


def label(dtype):
    return np.random.default_rng(0).integers(0, 3, SHAPE).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, np.float32])
def test_labels_of_every_type_become_slices(tmp_path, dtype):
    values = np.random.default_rng(1).integers(0, 900, SHAPE).astype(dtype)
    item = {"image": write(tmp_path / "a.nii.gz", values), "label": write(tmp_path / "label.nii.gz", label(dtype))}
    slices = fit_for_training([item], tmp_path / "cache")
    assert [one["key"] for one in slices] == ["a_0000", "a_0001", "a_0002"]
    for index, one in enumerate(slices):
        np.testing.assert_array_equal(MaskReader(3).get_data(one["label"])[0][0], label(np.uint8)[..., index])
        assert ImageReader(1).get_data(one["image"])[0].shape == (1, *SHAPE[:2])


@pytest.mark.parametrize("value", [70000, 2**32 + 1, -1])
def test_a_value_that_is_no_class_keeps_its_number(tmp_path, value):
    values = label(np.int64)
    values[0, 0, 0] = value
    item = {"image": write(tmp_path / "a.nii", label(np.uint8)), "label": write(tmp_path / "label.nii", values)}
    first = fit_for_training([item], tmp_path / "cache")[0]
    with pytest.raises(InputError, match=re.escape(f"holds the value {float(value):g}, but")):
        MaskReader(3).get_data(first["label"])
