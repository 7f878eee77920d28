# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What becomes of logits: class indices, the grid of the source, files."""

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from scripts.data.volumes import read_volume
from scripts.errors import InputError
from scripts.transforms import SaveMaskd, ToClassesd, ToSourced
from tests.tiny import full_disk

AFFINE = np.array([[0, 0, -1, 7], [0, 2, 0, 1], [4, 0, 0, 2], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("shape", [(2, 5, 4), (4, 5, 4, 3)])
def test_the_largest_channel_wins_the_first_of_equal_ones(shape):
    logits = MetaTensor(torch.randint(0, 3, shape).float(), affine=torch.from_numpy(AFFINE))
    classes = ToClassesd("pred")({"pred": logits})["pred"]
    assert classes.dtype == torch.uint8 and classes.shape == (1, *shape[1:])
    np.testing.assert_array_equal(classes.numpy()[0], logits.numpy().argmax(0))
    np.testing.assert_array_equal(classes.affine, AFFINE)


@pytest.mark.parametrize("shape, plane", [((7, 6, 5), "axial"), ((1, 6, 5), "axial"), ((7, 6, 1), "sagittal")])
def test_a_volume_goes_back_and_is_written_with_every_axis(tmp_path, shape, plane):
    values = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    volume = read_volume(path)
    assert volume.plane == plane
    meta = {"plane": plane, "source_affine": torch.from_numpy(volume.source_affine), "filename_or_obj": str(path)}
    mask = MetaTensor(torch.from_numpy(volume.array.copy()), affine=torch.from_numpy(volume.affine), meta=meta)
    data = SaveMaskd("pred", str(tmp_path / "out"), 4)(ToSourced("pred")({"pred": mask}))
    written = nibabel.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), values)
    np.testing.assert_array_equal(data["pred"][0].numpy(), values)
    np.testing.assert_array_equal(written.affine, AFFINE)
    assert written.shape == shape and written.get_data_dtype() == np.uint8


@pytest.mark.parametrize("classes, factor", [(2, 255), (5, 1)])
def test_a_picture_is_written_whole_or_not_at_all(tmp_path, classes, factor):
    values = torch.randint(0, classes, (1, 300, 200), dtype=torch.uint8)
    data = {"pred": MetaTensor(values, meta={"filename_or_obj": "/there/a.b.jpg"})}
    save = SaveMaskd("pred", str(tmp_path / "out"), classes)
    with full_disk(), pytest.raises(InputError, match=r"cannot write .*a\.b\.png \(.*free space"):
        save(data)
    assert list((tmp_path / "out").iterdir()) == []
    save(data)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.b.png")), values[0].numpy().T * factor)


def test_a_picture_is_handed_on():
    mask = MetaTensor(torch.ones(1, 4, 5))
    assert ToSourced("pred")({"pred": mask})["pred"] is mask
