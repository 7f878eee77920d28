# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Resizing there and back: values against slow versions and MONAI's Resized, metadata, inversion, volumes by slices."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Resized

from scripts.errors import InputError
from scripts.transforms import ResizePlaned
from scripts.transforms.resize import resize_plane

AFFINE = torch.tensor([[0.5, 0, 0, 7], [0, 0.8, 0, -3], [0, 0, 2, 1], [0, 0, 0, 1]], dtype=torch.float64)


def an_image(*shape, seed=0):
    return MetaTensor(torch.rand(shape, generator=torch.Generator().manual_seed(seed)), affine=AFFINE.clone())


def slow_bilinear(image, size):
    """Triangle filter as wide as the shrinking, pixel by pixel along one axis after the other."""
    for axis, length in enumerate(size):
        lines, scale = image.movedim(axis, 0), image.shape[axis] / length
        reach = max(scale, 1.0)
        rows = []
        for i in range(length):
            centre = (i + 0.5) * scale - 0.5
            weights = torch.tensor([max(0.0, 1 - abs(j - centre) / reach) for j in range(len(lines))])
            rows.append(torch.tensordot(weights / weights.sum(), lines, dims=1))
        image = torch.stack(rows).movedim(0, axis)
    return image


@pytest.mark.parametrize("size", [(5, 4), (21, 9), (7, 20), (26, 24)])
def test_bilinear_equals_the_slow_version(size):
    image = an_image(1, 13, 12)
    resized = ResizePlaned("image", size)({"image": image})["image"]
    torch.testing.assert_close(resized.as_tensor()[0], slow_bilinear(image.as_tensor()[0], size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(3, 40, 30), (1, 8, 50)])
def test_without_shrinking_it_is_what_monai_does(shape):
    size = (64, 64)
    ours, monais = (t({"image": an_image(*shape)})["image"] for t in (ResizePlaned("image", size), _monais(size)))
    torch.testing.assert_close(ours.as_tensor(), monais.as_tensor())
    torch.testing.assert_close(ours.affine, monais.affine)


def _monais(size):
    return Resized("image", size, mode="bilinear", anti_aliasing=False)


@pytest.mark.parametrize("shape", [(2, 30, 20), (2, 9, 11), (2, 30, 20, 5)])
def test_inversion_restores_size_and_affine_and_is_monais(shape):
    image = an_image(*shape)
    there = ResizePlaned("image", (12, 16))
    data = there({"image": image})
    assert data["image"].shape == (2, 12, 16, *shape[3:]) and not torch.allclose(
        data["image"].affine[:2, :2], AFFINE[:2, :2]
    )
    data["pred"] = MetaTensor(torch.rand(4, 12, 16, *shape[3:]))
    back = Invertd("pred", Compose([there]), orig_keys="image", nearest_interp=False)(data)["pred"]
    assert back.shape == (4, *shape[1:])
    torch.testing.assert_close(back.affine, image.affine)
    if len(shape) == 3:
        torch.testing.assert_close(back.as_tensor(), _monais(shape[1:])({"image": data["pred"]})["image"].as_tensor())
    nearest = Invertd("pred", Compose([there]), orig_keys="image", nearest_interp=True)(data)["pred"]
    assert set(nearest.unique().tolist()) <= set(data["pred"].unique().tolist())


def test_a_volume_is_its_slices():
    image = an_image(2, 20, 18, 3)
    whole = resize_plane(image, (7, 25), antialias=True)
    for z in range(3):
        torch.testing.assert_close(whole[..., z], resize_plane(image[..., z], (7, 25), antialias=True))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_nearest_keeps_type_and_values(dtype):
    mask = torch.tensor([[0, 1], [255, 3]], dtype=dtype)[None]
    large = ResizePlaned("label", 6, mode="nearest-exact")({"label": mask})["label"]
    assert large.dtype == dtype and torch.equal(large[0], mask[0].repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert torch.equal(resize_plane(large, (2, 2), "nearest-exact"), mask)


def test_missing_keys_and_bad_settings():
    assert ResizePlaned("label", 4, allow_missing_keys=True)({"key": "a"}) == {"key": "a"}
    with pytest.raises(KeyError):
        ResizePlaned("label", 4)({"key": "a"})
    with pytest.raises(InputError, match="bilinear, nearest-exact"):
        ResizePlaned("image", 4, mode="cubic")
    with pytest.raises(InputError, match="at least 1"):
        ResizePlaned("image", (4, 0))
