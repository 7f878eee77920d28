# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Volumes: every axis order comes out as the radiological view and goes back exactly; what is not read is named."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from scripts.data.volumes import (
    check_same_grid,
    is_volume,
    read_volume,
    save_slice,
    scale_volume,
    slice_affine,
    turn_back,
)
from scripts.errors import InputError

# in RAS+ millimetres: what lies to the right, below (rows) and behind (slices) in the view of a plane
VIEW = {"axial": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)), "coronal": ((-1, 0, 0), (0, 0, -1), (0, -1, 0))}
VIEW["sagittal"] = ((0, -1, 0), (0, 0, -1), (-1, 0, 0))


def affines():
    """All 48 axis orders and directions, each turned a little."""
    generator = np.random.default_rng(0)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        turn = Rotation.from_euler("xyz", generator.uniform(-15, 15, 3), degrees=True).as_matrix()
        affine = np.eye(4)
        affine[:3, :3] = turn @ (np.eye(3)[:, order] * signs) * (0.5, 1.0, 3.0)
        affine[:3, 3] = generator.normal(size=3) * 50
        yield affine


def write(path, values, affine=None):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_axis_order_is_shown_right_and_goes_back(tmp_path, plane):
    values = np.random.default_rng(1).integers(-500, 500, (4, 5, 6)).astype(np.int16)
    for affine in affines():
        volume = read_volume(write(tmp_path / "a.nii", values, affine), plane)
        assert volume.plane == plane and volume.source_shape == (4, 5, 6) and volume.array.dtype == np.int16
        np.testing.assert_array_equal(turn_back(volume.array[0], volume.source_affine, volume.plane), values)
        directions = volume.affine[:3, :3] / np.array(volume.spacing)
        assert (np.einsum("ij,ji->i", VIEW[plane], directions) > 0.8).all()
        # the same value lies at the same place, whichever way it is stored
        point = np.array([2, 3, 1])
        stored = np.linalg.inv(affine) @ np.append(apply_affine(volume.affine, point), 1)
        assert volume.array[0][tuple(point)] == values[tuple(stored[:3].round().astype(int))]
        np.testing.assert_allclose(apply_affine(slice_affine(volume, 1), [2, 3, 0]), apply_affine(volume.affine, point))


@pytest.mark.parametrize(
    "spacing, plane",
    [
        ((1, 1, 1), "axial"),
        ((1, 1, 1.4), "axial"),
        ((3, 1, 1), "sagittal"),
        ((1, 1.5, 1), "coronal"),
        ((1, 1, 5), "axial"),
    ],
)
def test_auto_cuts_across_the_coarsest_axis(tmp_path, spacing, plane):
    volume = read_volume(write(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8), np.diag([*spacing, 1])))
    assert volume.plane == plane
    assert sorted(volume.spacing) == pytest.approx(sorted(spacing))


def test_a_single_slice_is_the_plane(tmp_path):
    assert read_volume(write(tmp_path / "a.nii", np.zeros((4, 1, 6), np.uint8))).array.shape == (1, 4, 6, 1)
    assert read_volume(write(tmp_path / "b.nii", np.zeros((4, 6), np.uint8))).plane == "axial"


def test_channels_come_from_a_fourth_axis_from_colours_and_from_files(tmp_path):
    values = np.random.default_rng(2).random((4, 5, 6, 2)).astype(np.float32)
    both = read_volume(write(tmp_path / "both.nii.gz", values))
    names = [write(tmp_path / f"{n}.nii.gz", values[..., n]) for n in range(2)]
    np.testing.assert_array_equal(read_volume(names).array, both.array)
    typed = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    typed["G"] = 9
    assert read_volume(write(tmp_path / "rgb.nii", typed)).array.max(axis=(1, 2, 3)).tolist() == [0, 9, 0]


def test_files_of_another_grid_are_refused(tmp_path):
    a = write(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(InputError, match="a.nii has 4 x 5 x 6 voxels, but .*b.nii has 4 x 5 x 7"):
        read_volume([a, write(tmp_path / "b.nii", np.zeros((4, 5, 7), np.uint8))])
    with pytest.raises(InputError, match="lie differently in space"):
        read_volume([a, write(tmp_path / "c.nii", np.zeros((4, 5, 6), np.uint8), np.diag([1, 1, 1.1, 1]))])
    check_same_grid("a", (4, 5, 6), np.eye(4), "b", (4, 5, 6), np.eye(4) * (1 + 5e-4))


def test_scaling_is_by_the_volume_and_by_channel():
    generator = np.random.default_rng(3)
    array = np.stack(
        [generator.normal(10, 3, (7, 8, 9)), generator.normal(-900, 200, (7, 8, 9)), np.full((7, 8, 9), 5)]
    )
    before, scaled = array.copy(), scale_volume(array)
    assert scaled.dtype == np.float32 and (array == before).all()
    for channel, result in zip(array[:2], scaled):
        low, high = np.percentile(channel, (0.5, 99.5))
        np.testing.assert_allclose(result, np.clip((channel - low) / (high - low), 0, 1), atol=1e-5)
    assert not scaled[2].any()


def test_a_scaled_slice_is_rounded_to_the_nearest_of_sixteen_bits(tmp_path):
    volume = read_volume(write(tmp_path / "volume.nii", np.zeros((2, 1, 3), np.uint8)), "axial")
    values = np.array([[[1.6], [2.4]]], np.float32) / 65535
    save_slice(tmp_path / "a.nii", values, volume, 0, scaled=True)
    stored = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj) * 65535
    assert stored.ravel().tolist() == pytest.approx([2, 2])


def test_what_is_a_volume(tmp_path):
    shapes = {(4, 5): False, (4, 5, 1): False, (4, 5, 1, 3): False, (4, 5, 2): True, (4, 5, 6, 2): True}
    for shape, expected in shapes.items():
        assert is_volume(write(tmp_path / "a.nii.gz", np.zeros(shape, np.uint8))) is expected, shape
    assert not is_volume(tmp_path) and not is_volume(tmp_path / "a.png")


@pytest.mark.parametrize(
    "values, match",
    [
        (np.full((4, 5, 6), np.nan, np.float32), "holds NaN"),
        (np.zeros((4, 5, 0), np.uint8), "is empty"),
        (np.zeros((4, 5, 6, 2, 2), np.uint8), "give volumes of three axes"),
        (np.zeros((4, 5, 6), np.complex64), "complex"),
    ],
)
def test_bad_volumes_are_named(tmp_path, values, match):
    with pytest.raises(InputError, match=f"a.nii.*{match}"):
        read_volume(write(tmp_path / "a.nii", values))


@pytest.mark.parametrize("shape", [(30000, 30000, 2), (2, 30000, 30000), (1000, 1000, 32000)])
def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path, shape):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    with open(tmp_path / "a.nii", "wb") as file:
        header["vox_offset"] = 352
        header["magic"] = b"n+1"
        header.write_to(file)
        file.write(bytes(100))
    with pytest.raises(InputError, match="a.nii has .* voxels, more than"):
        read_volume(tmp_path / "a.nii")


def test_damage_and_nonsense_are_named(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 99, (20, 20, 20)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="a.nii.gz cannot be read"):
        read_volume(path)
    with pytest.raises(InputError, match="none.nii does not exist"):
        read_volume(tmp_path / "none.nii")
    with pytest.raises(InputError, match="plane is 'oblique': give one of auto, axial"):
        read_volume(write(tmp_path / "b.nii", np.zeros((4, 5, 6), np.uint8)), "oblique")
    flat = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
    flat.header.set_sform(np.diag([1.0, 0, 1, 1]), 1)
    (tmp_path / "c.nii").write_bytes(flat.to_bytes())
    with pytest.raises(InputError, match="c.nii .*affine is singular"):
        read_volume(tmp_path / "c.nii")
