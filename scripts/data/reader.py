# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The readers for MONAI's ``LoadImaged``: files in, arrays of one convention out.

The convention, for images and masks alike and everywhere in this bundle, is MONAI's: arrays are (C, X, Y), X to the
right and Y downwards as a viewer shows the picture (EXIF orientation applied), which is also how NIfTI files are
stored. To show an array as a picture, transpose X and Y.

Both readers decode in ``get_data``: ``LoadImage`` catches whatever ``read`` raises and tries MONAI's other readers,
which would hide the message and read the file by another convention.
"""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai.data
import nibabel
import numpy as np
from monai.utils import MetaKeys, ensure_tuple

from scripts.data.decode import Decoded, decode
from scripts.data.files import is_image, is_nifti
from scripts.data.volumes import has_colours, is_volume, read_volume, scale_by_percentiles, scale_volume
from scripts.errors import InputError

IGNORE_INDEX = 255
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601

# where pydicom is installed, LoadImaged also makes a reader of its own, which says twice that it has no GPU decoder
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)


def _luminance(array: np.ndarray) -> np.ndarray:
    """Red, green and blue (3, ...) as grey (1, ...)."""
    return np.tensordot(LUMINANCE, array, axes=1)[None]


class _FileReader(monai.data.ImageReader):
    """What both readers share: the file names are passed on, and the metadata that MONAI's writers need."""

    indices = False
    channels = 1

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:
        """Whether all the names have a suffix that is read, or are folders."""
        return all(is_image(name) or Path(name).is_dir() for name in ensure_tuple(filename))

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> str:
        """Returns the file's name; see the module on why nothing is opened here."""
        names = ensure_tuple(data)
        return str(names[0]) if len(names) == 1 else ", ".join(map(str, names))

    def get_data(self, img: str) -> tuple[np.ndarray, dict]:
        """Decodes the file.

        Returns:
            The array (C, X, Y) and its metadata: affine, spatial shape (X, Y) and channel dimension 0.

        Raises:
            InputError: see :func:`scripts.data.decode.decode` and the class.
        """
        if is_volume(img) and not self._is_channels(img):
            return self.get_volume(img)
        decoded = decode(img, indices=self.indices)
        return self._with_metadata(self.convert(decoded, img), decoded.affine)

    def get_volume(self, path: str) -> tuple[np.ndarray, dict]:
        """Reads a volume; here: refuses it.

        Raises:
            InputError: always, but for readers that read volumes.
        """
        raise InputError(f"{path} is a volume, not one 2-D image: cut it into slices with 'python -m bundle prepare'.")

    def _is_channels(self, path: str) -> bool:
        """Whether the third axis of a NIfTI file holds the channels: only if a grey volume would not fit anyway."""
        return self.channels not in (1, 3) and is_nifti(path) and nibabel.load(path).shape[2:] == (self.channels,)

    @staticmethod
    def _with_metadata(array: np.ndarray, affine: np.ndarray, **more: Any) -> tuple[np.ndarray, dict]:
        array = np.ascontiguousarray(array)
        return array, {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape[1:]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
            **more,
        }

    @abstractmethod
    def convert(self, decoded: Decoded, path: str | Path) -> np.ndarray:
        """The array (C, X, Y) of the convention."""


class ImageReader(_FileReader):
    """Reads an image as float32 in [0, 1], shape (channels, X, Y).

    Eight-bit pictures are divided by 255. Other values (16-bit, float, NIfTI, DICOM) are scaled so that their 0.5th and
    99.5th percentile become 0 and 1, and clipped: colours together, other channels each. A NIfTI file whose header says
    what is black and white (``cal_min`` and ``cal_max``, as slices of volumes do) is scaled by that. Transparency is
    dropped, grey is repeated to three channels, colour (of a film too) becomes luminance where one channel is wanted.

    Volumes are (channels, X, Y, Z), turned into their plane (:mod:`scripts.data.volumes`) and scaled as a whole, each
    channel by its percentiles, eight-bit colours by 255 (:func:`scripts.data.volumes.scale_volume`); their
    metadata hold ``plane``, ``source_shape`` and ``source_affine``, which lead back.

    Args:
        channels: the channels of the array, the network's input channels.
        volumes: read volumes (NIfTI, DICOM files with several frames, folders with one DICOM series); else refuse them.
        plane: the plane volumes are cut in: ``auto``, ``axial``, ``coronal`` or ``sagittal``.

    Raises:
        InputError: the channels do not match, a value is not finite, or a volume is not wanted.

    Example:
        >>> from monai.transforms import LoadImaged
        >>> load = LoadImaged("image", reader=ImageReader(channels=3))
    """

    def __init__(self, channels: int = 3, volumes: bool = False, plane: str = "auto") -> None:
        super().__init__()
        self.channels, self.volumes, self.plane = channels, volumes, plane

    def get_volume(self, path: str) -> tuple[np.ndarray, dict]:
        """The volume as float32 in [0, 1], (channels, X, Y, Z), and its metadata.

        Raises:
            InputError: see :func:`scripts.data.volumes.read_volume` and the class.
        """
        if not self.volumes:
            return super().get_volume(path)
        volume = read_volume(path, self.plane)
        count, to_grey = len(volume.array), self.channels == 1 and has_colours(volume.array)
        if not (to_grey or count == self.channels or (count, self.channels) == (1, 3)):
            raise InputError(
                f"{path} has {count} channels or points in time, but in_channels is {self.channels}: give volumes of "
                f"{self.channels}, or one file a point in time."
            )
        array = scale_volume(volume.array)
        array = _luminance(array) if to_grey else np.repeat(array, self.channels // count, axis=0)
        way_back = {"source_shape": np.asarray(volume.source_shape), "source_affine": volume.source_affine}
        array, meta = self._with_metadata(array, volume.affine, plane=volume.plane, **way_back)
        # the mask is turned back, and MONAI Label compares it with, and places it by, these
        as_stored = {MetaKeys.SPATIAL_SHAPE: way_back["source_shape"], MetaKeys.ORIGINAL_AFFINE: volume.source_affine}
        return array, meta | as_stored

    def convert(self, decoded: Decoded, path: str | Path) -> np.ndarray:
        """The image as float32 in [0, 1], (channels, X, Y)."""
        array = np.ascontiguousarray(decoded.array)  # while it is small: a picture's rows become planes here
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path} holds NaN or infinite values: replace them or remove the image.")
        array = self._match_channels(array.astype(np.float32), decoded.alpha, path)
        if decoded.window:
            low, high = (np.float32(value) for value in decoded.window)
            return np.clip((array - low) / (high - low), 0, 1)
        axes = None if len(array) == 3 else (1, 2)
        return array / np.float32(255) if decoded.eight_bit else scale_by_percentiles(array, axes)

    def _match_channels(self, array: np.ndarray, alpha: bool, path: str | Path) -> np.ndarray:
        if len(array) == self.channels:
            return array
        array = array[:-1] if alpha else array
        if len(array) == self.channels:
            return array
        if len(array) == 1 and self.channels == 3:
            return np.repeat(array, 3, axis=0)
        if len(array) == 3 and self.channels == 1:
            return _luminance(array)
        if str(path).endswith((".nii", ".nii.gz")):
            raise InputError(
                f"{path} has {len(array)} channels or slices, but in_channels is {self.channels}: cut a volume into "
                f"slices with 'python -m bundle prepare', or set in_channels to {len(array)}."
            )
        raise InputError(
            f"{path} has {len(array)} channels (or slices), but in_channels is {self.channels}: set in_channels to "
            f"{len(array)} or convert the image."
        )


class MaskReader(_FileReader):
    """Reads a mask as class indices, uint8, shape (1, X, Y); 255 is the ignore index.

    Values are class indices 0 to ``num_classes - 1``: the values of a grey image (also one stored as RGB with equal
    channels) or the indices of a palette. With two classes a file that holds nothing but 0 and 255 is a binary mask,
    255 being class 1. In any other file 255 is the ignore index, as the border in Pascal VOC.

    Use it with ``LoadImaged(..., dtype=None)``, which otherwise makes the indices float.

    Args:
        num_classes: the classes, background included.
        ignore_value: another value that becomes 255, as scribbles mark pixels without a label by ``num_classes``.
        volumes: read volumes too, as (1, X, Y, Z) in their plane; else refuse them.

    Raises:
        InputError: a value is no class, the mask is in colour, JPEG compression has changed its values, or a volume is
            not wanted.
    """

    indices = True

    def __init__(self, num_classes: int = 2, ignore_value: int = IGNORE_INDEX, volumes: bool = False) -> None:
        super().__init__()
        self.num_classes, self.ignore_value, self.volumes = num_classes, ignore_value, volumes
        self.known = {*range(num_classes), IGNORE_INDEX, ignore_value}

    def get_volume(self, path: str) -> tuple[np.ndarray, dict]:
        """The volume as class indices, uint8, (1, X, Y, Z), and its metadata."""
        if not self.volumes:
            return super().get_volume(path)
        volume = read_volume(path)
        return self._with_metadata(self._to_classes(volume.array[:1], False, path), volume.affine)

    def convert(self, decoded: Decoded, path: str | Path) -> np.ndarray:
        """The mask as class indices, uint8, (1, X, Y)."""
        array = decoded.array[:-1] if decoded.alpha else decoded.array
        if (array[1:] != array[:1]).any():
            raise InputError(
                f"The mask {path} is in colour: save it with one channel that holds the class of each pixel, or let "
                "'python -m bundle prepare --values' translate the colours."
            )
        return self._to_classes(array[:1], decoded.lossy, path)

    def _to_classes(self, values: np.ndarray, lossy: bool, path: str | Path) -> np.ndarray:
        counted = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
        present = counted.tolist()
        if self.num_classes == 2 and {0, IGNORE_INDEX}.issuperset(present):
            return (values == IGNORE_INDEX).astype(np.uint8)
        strange = [value for value in present if value not in self.known]
        if not strange:
            classes = values.astype(np.uint8)
            if self.ignore_value in present:
                classes[values == self.ignore_value] = IGNORE_INDEX
            return classes
        if lossy:
            raise InputError(
                f"The mask {path} is a JPEG, whose compression has blurred the classes: save masks as PNG."
            )
        if self.num_classes >= IGNORE_INDEX:  # a survey does not know them yet
            example = f" {int(strange[0])}=1" if float(strange[0]).is_integer() else ""
            raise InputError(
                f"The mask {path} holds the value {strange[0]:g}, which is no class: let 'python -m bundle prepare "
                f"--values{example}' translate it, or pass --ignore_value if it marks pixels without a label."
            )
        raise InputError(
            f"The mask {path} holds the value {strange[0]:g}, but the classes are 0 to {self.num_classes - 1} (255: "
            "ignored): correct num_classes, pass --ignore_value if the value marks pixels without a label, or let "
            "'python -m bundle prepare --values' translate it."
        )
