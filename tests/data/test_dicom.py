# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""DICOM frames as pictures and series as volumes, from files written with pydicom."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImaged
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, generate_uid
from scipy.spatial.transform import Rotation

from scripts.data import ImageReader, MaskReader
from scripts.data.dicom import read_series, series_files
from scripts.data.volumes import is_volume, read_volume, scale_volume
from scripts.errors import InputError

NEW = pydicom.__version__ >= "3"
PIXELS = np.random.default_rng(0).integers(0, 4000, (5, 7)).astype(np.uint16)  # rows, columns


def write(path, pixels=PIXELS, **attributes):
    """A DICOM file of grey (rows, columns) or colour (rows, columns, 3) pixels, or frames of them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    meta.TransferSyntaxUID = attributes.pop("syntax", ExplicitVRLittleEndian)
    data = Dataset()
    data.file_meta = meta
    if not NEW:
        data.is_little_endian, data.is_implicit_VR = True, False
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    colour = pixels.shape[-1] == 3
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    if pixels.ndim == 3 + colour:
        data.NumberOfFrames = len(pixels)
    bits = pixels.dtype.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    for name, value in attributes.items():
        setattr(data, name, value)
    data.save_as(path, **({"enforce_file_format": True} if NEW else {"write_like_original": False}))
    return str(path)


def read_image(path, channels=1):
    return ImageReader(channels).get_data(str(path))[0]


def test_a_grey_frame_is_scaled_by_percentiles_through_load_image(tmp_path):
    image = LoadImaged("image", reader=ImageReader(1))({"image": write(tmp_path / "a.dcm")})["image"]
    low, high = np.percentile(PIXELS, (0.5, 99.5))
    assert image.shape == (1, 7, 5)
    np.testing.assert_allclose(image[0].numpy().T, np.clip((PIXELS - low) / (high - low), 0, 1), atol=1e-5)


def test_eight_bit_is_divided_by_255_and_monochrome1_is_inverted(tmp_path):
    pixels = (PIXELS // 16).astype(np.uint8)
    for kind, expected in (("MONOCHROME2", pixels / 255), ("MONOCHROME1", 1 - pixels / 255)):
        image = read_image(write(tmp_path / "a.dcm", pixels, PhotometricInterpretation=kind))
        np.testing.assert_allclose(image[0].T, expected, atol=1e-6)
    deep = read_image(write(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11))
    np.testing.assert_allclose(deep, 1 - read_image(write(tmp_path / "c.dcm")), atol=1e-5)


def test_slope_and_intercept_give_the_units(tmp_path):
    volume = read_volume(write(tmp_path / "a.dcm", PIXELS[None].repeat(2, 0), RescaleSlope=2, RescaleIntercept=-1024))
    np.testing.assert_array_equal(volume.array[0, ..., 1].T, PIXELS * 2.0 - 1024)
    np.testing.assert_allclose(
        read_image(write(tmp_path / "b.dcm", RescaleSlope=2, RescaleIntercept=-1024)),
        read_image(write(tmp_path / "c.dcm")),
        atol=1e-6,
    )


def test_colours(tmp_path):
    rgb = np.random.default_rng(1).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    np.testing.assert_allclose(read_image(write(tmp_path / "a.dcm", rgb), 3), rgb.transpose(2, 1, 0) / 255, atol=1e-6)
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    ybr = [
        0.299 * r + 0.587 * g + 0.114 * b,
        128 - 0.1687 * r - 0.3313 * g + b / 2,
        128 + r / 2 - 0.4187 * g - 0.0813 * b,
    ]
    path = write(
        tmp_path / "b.dcm",
        np.stack(ybr, -1).round().clip(0, 255).astype(np.uint8),
        PhotometricInterpretation="YBR_FULL",
    )
    np.testing.assert_allclose(read_image(path, 3), rgb.transpose(2, 1, 0) / 255, atol=0.02)


def test_the_frames_of_a_film_have_the_colours_of_a_still(tmp_path):
    film = np.random.default_rng(1).integers(20, 90, (4, 6, 5, 3), dtype=np.uint8)  # dark, and redder than it is blue
    film[..., 0] += 100
    array, _ = ImageReader(3, volumes=True).get_data(write(tmp_path / "film.dcm", film))
    still = read_image(write(tmp_path / "still.dcm", film[1]), 3)
    np.testing.assert_allclose(array[..., 1], still, atol=1e-6)
    np.testing.assert_allclose(array[..., 1], film[1].transpose(2, 1, 0) / 255, atol=1e-6)
    grey, _ = ImageReader(1, volumes=True).get_data(str(tmp_path / "film.dcm"))
    np.testing.assert_allclose(grey[..., 1], read_image(tmp_path / "still.dcm", 1), atol=1e-6)


def test_palettes_give_their_colours(tmp_path):
    table = np.random.default_rng(2).integers(0, 256, (3, 256)).astype(np.uint8)
    names = ("Red", "Green", "Blue")
    luts = {f"{name}PaletteColorLookupTableData": row.tobytes() for name, row in zip(names, table)}
    luts |= {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 8] for name in names}
    pixels = (PIXELS % 256).astype(np.uint8)
    path = write(tmp_path / "a.dcm", pixels, PhotometricInterpretation="PALETTE COLOR", **luts)
    np.testing.assert_allclose(read_image(path, 3), table[:, pixels.T] / 255, atol=1e-6)


def test_masks_are_read_and_several_frames_are_a_volume(tmp_path):
    mask = (PIXELS % 2).astype(np.uint8)
    np.testing.assert_array_equal(MaskReader().get_data(write(tmp_path / "a.dcm", mask))[0][0].T, mask)
    path = write(tmp_path / "b.dcm", np.stack([PIXELS, PIXELS + 1]))
    assert is_volume(path) and not is_volume(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="b.dcm is a volume"):
        read_image(path)
    array, _ = ImageReader(1, volumes=True).get_data(path)
    np.testing.assert_allclose(array[0, ..., 1].T, scale_volume(np.stack([PIXELS, PIXELS + 1])[None])[0, 1])


def write_series(folder, count=6, skip=(), names="{}.dcm", uid="1.2.3", slope=1.0, **attributes):
    """An oblique series whose files are not in the order of their positions; values tell the slice."""
    folder.mkdir(exist_ok=True)
    turn = Rotation.from_euler("xyz", (10, -20, 15), degrees=True).as_matrix()
    origin = np.array([-30.0, 12, 100])
    for z in set(range(count)) - set(skip):
        place = {"ImagePositionPatient": [round(v, 6) for v in origin + turn[:, 2] * 3 * z]}
        place |= {"ImageOrientationPatient": [round(v, 9) for v in turn[:, :2].T.ravel()], "PixelSpacing": [0.8, 0.5]}
        place |= {"SeriesInstanceUID": uid, "RescaleSlope": slope, "RescaleIntercept": 0} | attributes
        write(folder / names.format((z * 5) % 7), PIXELS // 4 + 1000 * z, **place)
    return folder, turn, origin


@pytest.mark.parametrize("names", ["{}.dcm", "IM{}", "1.2.840.{}"])
def test_a_series_is_sorted_by_position(tmp_path, names):
    folder, turn, origin = write_series(tmp_path / "s", names=names)
    array, affine = read_series(folder)
    assert is_volume(folder) and array.shape == (1, 7, 5, 6)
    for z in range(6):
        np.testing.assert_array_equal(array[0, ..., z].T, PIXELS // 4 + 1000 * z)
    x, y, z = 3, 2, 4
    left_back_up = origin + turn @ (x * 0.5, y * 0.8, z * 3)
    np.testing.assert_allclose(apply_affine(affine, (x, y, z)), left_back_up * (-1, -1, 1), atol=1e-4)
    volume = read_volume(folder)
    assert volume.plane == "axial" and volume.spacing == pytest.approx((0.5, 0.8, 3), abs=1e-4)
    np.testing.assert_array_equal(volume.array[0], array[0])  # a series is in the radiological view already


def test_a_report_in_the_folder_and_other_files_do_not_disturb(tmp_path):
    folder, *_ = write_series(tmp_path / "s")
    path = folder / "report.dcm"
    write(path)
    report = pydicom.dcmread(path)
    del report.Rows, report.PixelData
    report.SeriesInstanceUID = "9.9"
    report.save_as(path)
    (folder / "notes.txt").write_text("no image")
    (folder / "picture.png").write_bytes(b"")
    assert len(series_files(folder)) == 7 and read_series(folder)[0].shape == (1, 7, 5, 6)


def test_bad_series_are_named(tmp_path):
    with pytest.raises(InputError, match="lie unevenly .6.00 mm where 3.00 mm is usual.*missing slice"):
        read_series(write_series(tmp_path / "gap", skip=(2,))[0])
    folder, *_ = write_series(tmp_path / "two")
    write_series(folder, names="other{}.dcm", uid="1.2.4")
    with pytest.raises(InputError, match="two holds 2 DICOM series"):
        read_series(folder)
    folder, *_ = write_series(tmp_path / "time")
    write_series(folder, names="again{}.dcm")
    with pytest.raises(InputError, match="several slices at one position"):
        read_series(folder)
    folder, *_ = write_series(tmp_path / "turned")
    write_series(folder, names="{}.dcm", skip=range(1, 6), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    with pytest.raises(InputError, match="differ in ImageOrientationPatient"):
        read_series(folder)
    folder, *_ = write_series(tmp_path / "nowhere", ImagePositionPatient=None)
    with pytest.raises(InputError, match="does not say where its slice lies"):
        read_series(folder)
    with pytest.raises(InputError, match="numbers cannot be read"):
        read_series(write_series(tmp_path / "numbers", ImageOrientationPatient=[1, 0, 0])[0])
    with pytest.raises(InputError, match="flat.dcm does not say how it lies in space"):
        read_volume(write(tmp_path / "flat.dcm", PIXELS[None].repeat(2, 0), PixelSpacing=[0, 1]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no DICOM image"):
        read_series(tmp_path / "empty")


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    with pytest.raises(InputError, match="text.dcm cannot be read"):
        read_image(tmp_path / "text.dcm")
    path = write(tmp_path / "cut.dcm")
    content = (tmp_path / "cut.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[:-20])
    with pytest.raises(InputError, match="cut.dcm cannot be read"):
        read_image(path)
    write(tmp_path / "small.dcm")
    packed = pydicom.dcmread(tmp_path / "small.dcm")
    packed.file_meta.TransferSyntaxUID = JPEGLSLossless
    packed.PixelData = pydicom.encaps.encapsulate([bytes(20)])
    packed["PixelData"].is_undefined_length = True
    packed.save_as(tmp_path / "packed.dcm")
    with pytest.raises(InputError, match="packed.dcm is compressed .JPEG-LS Lossless.*pip install"):
        read_image(tmp_path / "packed.dcm")
    with pytest.raises(InputError, match="huge.dcm has 30000 x 30000 pixels"):
        read_image(write(tmp_path / "huge.dcm", Rows=30000, Columns=30000))


def test_enhanced_frames_have_their_own_places_and_units(tmp_path):
    frames, shared = [], Dataset()
    for z in (2, 0, 1):
        place, values, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 4.0 * z]
        values.RescaleSlope, values.RescaleIntercept = 1, 10 * z
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Sequence([place]), Sequence([values])
        frames.append(frame)
    measures, turn = Dataset(), Dataset()
    measures.PixelSpacing, turn.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([turn])
    groups = {
        "PerFrameFunctionalGroupsSequence": Sequence(frames),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
    }
    volume = read_volume(write(tmp_path / "a.dcm", np.stack([PIXELS] * 3), **groups))
    assert volume.spacing == pytest.approx((1, 1, 4))
    for z in range(3):
        np.testing.assert_array_equal(volume.array[0, ..., z].T, PIXELS + 10.0 * z)
