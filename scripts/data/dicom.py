# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""DICOM: single frames as pictures, files of several frames and folders of one series as volumes.

Arrays have X along the columns and Y along the rows of the DICOM image. Affines lead to RAS+ millimetres as in NIfTI;
DICOM counts to the left and to the back instead (PS3.3, C.7.6.2), hence the two changed signs. pydicom 2.4 and 3 do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from scripts.data.files import decoding, is_dicom, is_image, reading
from scripts.errors import InputError

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
UNEVEN = 0.1  # of the usual distance between slices
# where enhanced DICOM keeps, frame by frame or shared, what plain DICOM has on top
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


@dataclass
class Frame:
    """A single frame: ``array`` (C, X, Y), ``affine`` (4, 4), whether compression changed it, whether it is 0-255."""

    array: np.ndarray
    affine: np.ndarray
    lossy: bool
    eight_bit: bool


def _pydicom() -> ModuleType:
    try:
        import pydicom
    except ImportError:
        raise InputError("DICOM files need the package pydicom: install it with 'pip install pydicom'.") from None
    return pydicom


def frame_count(path: str | Path) -> int:
    """Frames of a DICOM file, from its header.

    Raises:
        InputError: the file is not readable.
    """
    with reading(path):
        return _frames_in(read_header(path))


def _frames_in(data: Any) -> int:
    return int(data.get("NumberOfFrames", 1) or 1)


def read_header(path: str | Path, tags: Sequence[str] | None = None) -> Any:
    """The data set of a file without its pixels; with ``tags`` those attributes alone, which is faster.

    Raises:
        InputError: the file is damaged, or pydicom is missing.
    """
    pydicom = _pydicom()
    with reading(path):
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)


def _open(path: str | Path) -> Any:
    """The data set of an image file whose size can be believed."""
    pydicom = _pydicom()
    with reading(path):
        data = pydicom.dcmread(path)
    if "Rows" not in data or "PixelData" not in data:
        raise InputError(f"{path} is a DICOM file without an image: remove it.")
    size, limit = (int(data.Columns), int(data.Rows)), Image.MAX_IMAGE_PIXELS
    if limit and size[0] * size[1] > limit:
        raise InputError(f"{path} has {size[0]} x {size[1]} pixels, more than {limit}: reduce or crop it.")
    return data


def read_frame(path: str | Path) -> Frame:
    """Reads a file of one frame.

    Raises:
        InputError: the file is damaged, holds no image or several frames, or is compressed without a decoder.
    """
    with reading(path):
        data = _open(path)
        if _frames_in(data) > 1:
            raise InputError(
                f"{path} has {data.NumberOfFrames} frames, so it is a volume: cut it with 'python -m bundle prepare'."
            )
        array = _values(data, path)[..., 0]
        lossy = str(data.get("LossyImageCompression", "")) == "01"
        full = int(data.BitsStored) == 8 or data.PhotometricInterpretation == "PALETTE COLOR"
        return Frame(array, _affine([data], path), lossy, eight_bit=full and array.dtype == np.uint8)


def read_frames(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a file of one or more frames as a volume, sorted by position where frames have one.

    Returns:
        the values (C, X, Y, Z) and the affine (4, 4).

    Raises:
        InputError: as :func:`read_frame`, or the frames are not evenly spaced.
    """
    with reading(path):
        data = _open(path)
        array = _values(data, path)
        frames = [_FrameOf(data, index) for index in range(array.shape[-1])]
        if len(frames) > 1 and all(frame.get("ImagePositionPatient") for frame in frames):
            order = _by_position(frames, path)
            return array[..., order], _affine([frames[index] for index in order], path)
        return array, _affine(frames[:1], path)


def series_files(folder: str | Path) -> list[Path]:
    """The DICOM files directly inside a folder, whatever their names, sorted by name."""
    return [path for path in sorted(Path(folder).iterdir()) if _holds_dicom(path)]


def is_series(folder: str | Path) -> bool:
    """Whether a folder directly holds a DICOM file."""
    return any(_holds_dicom(path) for path in Path(folder).iterdir())


def _holds_dicom(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    if is_image(path):
        return is_dicom(path)
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_series(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the one series in a folder, its slices sorted by their position along their normal.

    Objects without an image (reports, structures) are passed over.

    Returns:
        the values (C, X, Y, Z) and the affine (4, 4).

    Raises:
        InputError: no image, several series, slices that differ in size or orientation, have no position, share one or
            lie unevenly (one is missing), or a file that is not readable.
    """
    with decoding(folder):
        headers = {path: header for path in series_files(folder) if "Rows" in (header := read_header(path))}
        _check_one_series(headers, folder)
        if len(headers) == 1:
            return read_frames(next(iter(headers)))
        _check_alike(headers, folder)
        paths = list(headers)
        order = _by_position([headers[path] for path in paths], folder)
        slices = [_values(_open(paths[index]), paths[index]) for index in order]
        if len({values.shape for values in slices}) > 1:
            raise InputError(f"The slices in {folder} differ in their channels or frames: keep those of one kind.")
        return np.concatenate(slices, axis=-1), _affine([headers[paths[index]] for index in order], folder)


def _check_one_series(headers: dict[Path, Any], folder: str | Path) -> None:
    if not headers:
        raise InputError(f"The folder {folder} holds no DICOM image: add the slices of one series or remove it.")
    count = len({str(header.get("SeriesInstanceUID", "")) for header in headers.values()})
    if count > 1:
        raise InputError(f"The folder {folder} holds {count} DICOM series: give every series a folder of its own.")


def _check_alike(headers: dict[Path, Any], folder: str | Path) -> None:
    first, reference = next(iter(headers.items()))
    for path, header in headers.items():
        if not (header.get("ImagePositionPatient") and header.get("ImageOrientationPatient")):
            raise InputError(
                f"{path} does not say where its slice lies (ImagePositionPatient), so {folder} is no volume: give "
                "its files the suffix .dcm and pass this folder, to have them as single images."
            )
        if _frames_in(header) > 1:
            raise InputError(f"{path} holds several frames beside other files in {folder}: give it its own folder.")
        if (header.Rows, header.Columns) != (reference.Rows, reference.Columns):
            raise InputError(f"{path} and {first} differ in size: keep the slices of one size in {folder}.")
        for name, tolerance in (("ImageOrientationPatient", 1e-3), ("PixelSpacing", 1e-3)):
            values = [np.array(one.get(name) or [0.0], dtype=float) for one in (header, reference)]
            if values[0].shape != values[1].shape or not np.allclose(*values, atol=tolerance):
                raise InputError(f"{path} and {first} differ in {name}: keep the slices of one stack in {folder}.")


def _by_position(slices: Sequence[Any], path: str | Path) -> np.ndarray:
    """The order of the slices along their normal.

    Raises:
        InputError: two share a position, or a distance differs by more than a tenth from the usual one.
    """
    positions = np.array([list(one.get("ImagePositionPatient")) for one in slices], dtype=float)
    along = positions @ np.cross(*_directions(slices[0]))
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    usual = float(np.median(gaps))
    if (gaps < 1e-3).any():
        raise InputError(
            f"{path} holds several slices at one position (a series over time?): keep one at each position."
        )
    if np.abs(gaps - usual).max() > UNEVEN * usual:
        wide = float(gaps[np.abs(gaps - usual).argmax()])
        raise InputError(
            f"The slices of {path} lie unevenly ({wide:.2f} mm where {usual:.2f} mm is usual): add the missing slice."
        )
    return order


def _directions(one: Any) -> np.ndarray:
    """Unit vectors (2, 3) along X and Y, to the left, the back and the head; those of an axial slice if unknown."""
    return np.array(list(one.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)), dtype=float).reshape(2, 3)


def _affine(slices: Sequence[Any], path: str | Path) -> np.ndarray:
    """The affine (4, 4) of slices in their order; one slice is as thick as it says, or as its pixels are wide."""
    first, last = slices[0], slices[-1]
    along_y, along_x = (float(size) for size in (first.get("PixelSpacing") or (1.0, 1.0)))
    directions = _directions(first)
    origin, end = (np.array(list(one.get("ImagePositionPatient") or (0, 0, 0)), dtype=float) for one in (first, last))
    if len(slices) > 1:
        step = (end - origin) / (len(slices) - 1)  # not the normal: a tilted gantry shears the volume
    else:
        thickness = first.get("SpacingBetweenSlices") or first.get("SliceThickness") or max(along_x, along_y)
        step = np.cross(*directions) * float(thickness)
    affine = np.eye(4)
    affine[:3] = np.stack([directions[0] * along_x, directions[1] * along_y, step, origin], axis=1)
    affine[:3] *= LPS_TO_RAS[:, None]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise InputError(f"{path} does not say how it lies in space (orientation or spacing is 0): correct its header.")
    return affine


class _FrameOf:
    """One frame of an enhanced file: looks a name up in the frame's groups, in the shared ones, then on top."""

    def __init__(self, data: Any, index: int) -> None:
        frames, shared = (data.get(f"{kind}FunctionalGroupsSequence") or [] for kind in ("PerFrame", "Shared"))
        self.places = [*frames[index : index + 1], *shared[:1]]
        self.data = data

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        for place in self.places:
            group = place.get(GROUPS[name])
            if group and name in group[0]:
                return group[0].get(name)
        return self.data.get(name, default)


def _values(data: Any, path: str | Path) -> np.ndarray:
    """The frames (C, X, Y, Z): colours as RGB, grey with low values dark and in the units of the rescale slope."""
    kind = str(data.get("PhotometricInterpretation", ""))
    array = _decode(data, path)
    with reading(path):
        if kind == "PALETTE COLOR":
            array = _from_palette(array, data)
        elif kind.startswith("YBR_FULL") and not hasattr(data, "pixel_array_options"):  # pydicom 3 has done it
            from pydicom.pixel_data_handlers.util import convert_color_space

            array = convert_color_space(array, kind, "RGB")
        channels = 3 if int(data.get("SamplesPerPixel", 1)) == 3 or kind == "PALETTE COLOR" else 1
        array = array.reshape(-1, int(data.Rows), int(data.Columns), channels).transpose(3, 2, 1, 0)
        if kind == "MONOCHROME1":
            signed, depth = int(data.get("PixelRepresentation", 0)), int(data.BitsStored)
            array = (-1 if signed else 2**depth - 1) - array.astype(np.int64 if depth > 16 else np.int32)
        array = array if channels == 3 else _rescale(array, data)
        fits = int(data.BitsStored) == 8 and array.dtype.kind in "iu" and not int(data.get("PixelRepresentation", 0))
        return array.astype(np.uint8) if fits or kind == "PALETTE COLOR" else array


def _decode(data: Any, path: str | Path) -> np.ndarray:
    syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None or not syntax.is_compressed:
        with reading(path):
            return data.pixel_array
    try:
        return data.pixel_array
    except MemoryError:
        raise
    except Exception as error:  # a missing decoder is told by another type in every version of pydicom
        raise InputError(
            f"{path} is compressed ({syntax.name}) and no installed decoder reads it: save it uncompressed, or install "
            "one with 'pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg'."
        ) from error


def _from_palette(array: np.ndarray, data: Any) -> np.ndarray:
    """The colours of palette indices, as eight-bit values."""
    try:
        from pydicom.pixels import apply_color_lut
    except ImportError:  # pydicom 2
        from pydicom.pixel_data_handlers.util import apply_color_lut
    colours = apply_color_lut(array, data)[..., :3]
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)


def _rescale(array: np.ndarray, data: Any) -> np.ndarray:
    """Grey values (C, X, Y, Z) in the units of each frame's rescale slope and intercept; as they are without."""
    frames = [_FrameOf(data, index) for index in range(array.shape[-1])]
    lines = np.array([(f.get("RescaleSlope") or 1, f.get("RescaleIntercept") or 0) for f in frames], dtype=np.float32)
    if (lines == (1, 0)).all():
        return array
    return array.astype(np.float32) * lines[:, 0] + lines[:, 1]
