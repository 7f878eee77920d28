# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""ImageReader: one axis convention, every kind of picture, one sentence for what is not read."""

from __future__ import annotations

import os

import nibabel
import numpy as np
import pytest
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Resized, SaveImaged
from PIL import Image

from scripts.data import ImageReader, MaskReader
from scripts.data.volumes import turn_back
from scripts.errors import InputError

WIDTH, HEIGHT = 7, 5
COLOURS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return str(path)


def read_image(path, channels=3):
    return ImageReader(channels).get_data(str(path))[0]


def read_mask(path, num_classes=2):
    return MaskReader(num_classes).get_data(str(path))[0]


def test_a_non_square_picture_comes_as_channel_x_y(tmp_path):
    image = read_image(save(tmp_path / "a.png", COLOURS))
    assert image.shape == (3, WIDTH, HEIGHT) and image.dtype == np.float32
    np.testing.assert_allclose(image[2, 6, 1], COLOURS[1, 6, 2] / 255, rtol=1e-6)


def test_image_and_mask_share_the_convention_with_nifti(tmp_path):
    values = COLOURS[..., 0] % 2
    png = read_mask(save(tmp_path / "a.png", values))
    nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(png, read_mask(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(png[0], values.T)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_lossless_formats_agree(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a.{suffix}", COLOURS))
    np.testing.assert_allclose(image, COLOURS.transpose(2, 1, 0) / 255, rtol=1e-6)


def test_grey_is_repeated_and_colour_becomes_luminance(tmp_path):
    grey = read_image(save(tmp_path / "grey.png", COLOURS[..., 0]))
    np.testing.assert_array_equal(grey[0], grey[2])
    luminance = read_image(save(tmp_path / "rgb.png", COLOURS), channels=1)
    np.testing.assert_allclose(luminance[0].T, COLOURS @ np.array([0.299, 0.587, 0.114]) / 255, atol=1e-5)


def test_transparency_is_dropped(tmp_path):
    rgba = np.dstack([COLOURS, COLOURS[..., :1]])
    path = save(tmp_path / "rgba.png", rgba)
    np.testing.assert_allclose(read_image(path), COLOURS.transpose(2, 1, 0) / 255, rtol=1e-6)
    assert read_image(path, channels=4).shape == (4, WIDTH, HEIGHT)
    assert read_image(save(tmp_path / "la.png", COLOURS[..., :2]), channels=1).shape == (1, WIDTH, HEIGHT)


def test_palette_images_give_their_colours(tmp_path):
    palette = Image.fromarray(COLOURS).quantize(8)
    palette.save(tmp_path / "a.png")
    expected = np.asarray(palette.convert("RGB")).transpose(2, 1, 0) / 255
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), expected, rtol=1e-6)


def test_one_bit_and_cmyk_pictures_are_read(tmp_path):
    bits = Image.fromarray(COLOURS[..., 0] > 128)
    bits.save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0.0, 1.0}
    Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg").shape == (3, WIDTH, HEIGHT)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_is_scaled_by_percentiles(tmp_path, name):
    values = np.linspace(1000, 5000, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    image = read_image(save(tmp_path / name, values), channels=1)
    low, high = np.percentile(values.astype(np.float32), (0.5, 99.5))
    np.testing.assert_allclose(image[0].T, np.clip((values - low) / (high - low), 0, 1), atol=1e-5)
    assert image.min() == 0 and image.max() == 1


def test_float_tiff_and_constant_images(tmp_path):
    image = read_image(save(tmp_path / "a.tif", COLOURS[..., 0].astype(np.float32) * 7 - 100))
    assert image.shape == (3, WIDTH, HEIGHT) and image.min() == 0 and image.max() == 1
    assert not read_image(save(tmp_path / "flat.tif", np.full((4, 4), 3.5, np.float32))).any()


def test_nan_is_refused(tmp_path):
    values = COLOURS[..., 0].astype(np.float32)
    values[0, 0] = np.nan
    with pytest.raises(InputError, match="a.tif holds NaN"):
        read_image(save(tmp_path / "a.tif", values))


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (7, 5, 1, 1)])
def test_flat_nifti_shapes(tmp_path, shape):
    values = np.arange(35, dtype=np.int16).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([0.5, 0.5, 1, 1])), tmp_path / "a.nii")
    image, meta = ImageReader(1).get_data(str(tmp_path / "a.nii"))
    assert image.shape == (1, 7, 5) and tuple(meta["spatial_shape"]) == (7, 5)
    np.testing.assert_array_equal(meta["affine"], np.diag([0.5, 0.5, 1, 1]))


@pytest.mark.parametrize("shape", [(7, 5, 4), (7, 5, 1, 4)])
def test_nifti_channels_must_be_the_wanted_number(tmp_path, shape):
    nibabel.save(nibabel.Nifti1Image(np.random.rand(*shape).astype(np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_image(tmp_path / "a.nii.gz", channels=4).shape == (4, 7, 5)
    with pytest.raises(InputError, match="4 channels" if len(shape) == 4 else "bundle prepare"):
        read_image(tmp_path / "a.nii.gz", channels=3)


def test_channels_of_different_scale_are_scaled_each(tmp_path):
    values = np.stack([np.random.rand(9, 9), 1000 * np.random.rand(9, 9)], axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii", channels=2).max(axis=(1, 2)).tolist() == [1, 1]


def test_colours_are_scaled_together(tmp_path):
    values = np.random.default_rng(0).uniform(0, 1, (9, 8, 1, 3)).astype(np.float32) * [1000, 400, 200]
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    image, (low, high) = read_image(tmp_path / "a.nii"), np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(
        image, np.clip((values[:, :, 0].transpose(2, 0, 1) - low) / (high - low), 0, 1), atol=1e-5
    )


def test_colour_nifti_is_read(tmp_path):
    typed = np.zeros((7, 5, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    typed["G"] = 9
    nibabel.save(nibabel.Nifti1Image(typed, np.eye(4)), tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").shape == (3, 7, 5)


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4, 3, 2), (4, 4, 30)])
def test_a_volume_is_refused(tmp_path, shape):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), tmp_path / "a.nii")
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match="a.nii is a volume.*python -m bundle prepare"):
            read(tmp_path / "a.nii")


def test_a_volume_is_turned_scaled_and_knows_the_way_back(tmp_path):
    values = np.random.default_rng(1).normal(50, 20, (6, 5, 4)).astype(np.float32)
    affine = np.array([[0, 0, 4, 7], [0.5, 0, 0, 1], [0, -0.6, 0, 2], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
    reader = ImageReader(3, volumes=True)
    array, meta = reader.get_data(str(tmp_path / "a.nii.gz"))
    assert meta["plane"] == "sagittal" and array.shape == (3, 6, 5, 4) and array.dtype == np.float32
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values - low) / (high - low), 0, 1)
    np.testing.assert_allclose(turn_back(array[1], meta["source_affine"], meta["plane"]), expected, atol=1e-5)
    assert tuple(meta["source_shape"]) == (6, 5, 4)
    with pytest.raises(InputError, match="1 channels or points in time, but in_channels is 2"):
        ImageReader(2, volumes=True).get_data(str(tmp_path / "a.nii.gz"))


def test_a_series_in_time_is_no_image_of_channels(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4, 20), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="a.nii has 20 channels or points in time"):
        ImageReader(3, volumes=True).get_data(str(tmp_path / "a.nii"))


@pytest.mark.parametrize("window", [(0, 1), (0.25, 0.75), (0, 0), (5, 2)])
def test_the_header_says_black_and_white(tmp_path, window):
    values = np.linspace(0.2, 0.6, 35).reshape(7, 5, 1).astype(np.float32)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = window
    nibabel.save(image, tmp_path / "a.nii.gz")
    low, high = window if window[1] > window[0] else np.percentile(values, (0.5, 99.5))
    expected = np.clip((values[..., 0] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(read_image(tmp_path / "a.nii.gz", channels=1)[0], expected, atol=1e-5)


def test_a_folder_or_pipe_with_the_name_of_an_image_is_named(tmp_path):
    (tmp_path / "a.png").mkdir()
    os.mkfifo(tmp_path / "b.nii.gz")
    for name in ("a.png", "b.nii.gz"):
        with pytest.raises(InputError, match=f"{name} has the name of an image but is no regular file"):
            read_image(tmp_path / name)


def test_an_empty_nifti_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((0, 5), np.uint8), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="a.nii .*empty"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    shown = {
        1: COLOURS,
        2: COLOURS[:, ::-1],
        3: COLOURS[::-1, ::-1],
        4: COLOURS[::-1],
        5: COLOURS.transpose(1, 0, 2),
        6: np.rot90(COLOURS, -1),
        7: np.rot90(COLOURS, 2).transpose(1, 0, 2),
        8: np.rot90(COLOURS),
    }[orientation]
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), shown.transpose(2, 1, 0) / 255, rtol=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.nii", "a.nii.gz"])
def test_a_truncated_file_is_named(tmp_path, name):
    path = tmp_path / name
    if ".nii" in name:
        nibabel.save(nibabel.Nifti1Image(np.random.rand(64, 64).astype(np.float32), np.eye(4)), path)
    else:
        save(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{name} cannot be read .*replace or remove it"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_garbage_and_missing_files_are_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match="a.png cannot be read"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InputError, match="b.png does not exist"):
        read_image(tmp_path / "b.png")


def test_huge_pictures_are_refused_at_pillows_limit(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", COLOURS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(InputError, match="7 x 5 pixels"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match="a.png"):
        read_image(path)


def test_load_image_gives_our_message_not_another_readers_array(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 3, 2), np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="bundle prepare"):
        LoadImaged("image", reader=ImageReader())({"image": str(tmp_path / "a.nii")})


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_a_prediction_returns_to_the_original_size_and_is_saved(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        save(path, COLOURS)
    else:
        nibabel.save(nibabel.Nifti1Image(COLOURS.transpose(1, 0, 2)[:, :, None], np.diag([0.7, 0.7, 1, 1])), path)
    before = Compose(
        [
            LoadImaged("image", reader=ImageReader()),
            EnsureChannelFirstd("image"),
            Resized("image", (16, 16), mode="bilinear"),
        ]
    )
    batch = next(iter(DataLoader(Dataset([{"image": str(path)}], before), batch_size=1)))
    batch["pred"] = (batch["image"][:, :1] > 0.5).float()
    # MONAI's NIfTI writer fails on 2-D arrays whose end dimensions it has squeezed.
    options = {
        "output_postfix": "",
        "separate_folder": False,
        "squeeze_end_dims": suffix == ".png",
        "output_dtype": np.uint8,
    }
    save_it = SaveImaged("pred", output_dir=tmp_path / "out", output_ext=suffix, **options)
    after = Compose([Invertd("pred", before, orig_keys="image", nearest_interp=True), save_it])
    result = after(decollate_batch(batch)[0])["pred"]
    assert result.shape == (1, WIDTH, HEIGHT)
    saved = MaskReader().get_data(str(tmp_path / "out" / f"a{suffix}"))[0]
    np.testing.assert_array_equal(saved, result.numpy().astype(np.uint8))


def test_a_nifti_slice_of_rgba_drops_transparency(tmp_path):
    names = ("R", "G", "B", "A")
    typed = np.zeros((WIDTH, HEIGHT), dtype=[(name, "u1") for name in names])
    for channel, name in enumerate(names[:3]):
        typed[name] = COLOURS[..., channel].T
    typed["A"] = np.arange(HEIGHT)
    plain = typed[["R", "G", "B"]].astype([(name, "u1") for name in names[:3]])
    images = []
    for name, values in (("rgba", typed), ("rgb", plain)):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii")
        images.append(read_image(tmp_path / f"{name}.nii"))
    np.testing.assert_array_equal(*images)
    assert images[0].shape == (3, WIDTH, HEIGHT) and images[0].max() == 1
