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

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai.data
import numpy as np
from monai.utils import MetaKeys, ensure_tuple

from scripts.data.decode import Decoded, decode
from scripts.data.files import is_image
from scripts.errors import InputError

IGNORE_INDEX = 255
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
PERCENTILES = (0.5, 99.5)


class _FileReader(monai.data.ImageReader):
    """What both readers share: the file names are passed on, and the metadata that MONAI's writers need."""

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:
        """Whether all the names have a suffix that is read."""
        return all(is_image(name) for name in ensure_tuple(filename))

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
        decoded = decode(img, indices=self.indices)
        array = np.ascontiguousarray(self.convert(decoded, img))
        return array, {
            MetaKeys.AFFINE: decoded.affine,
            MetaKeys.ORIGINAL_AFFINE: decoded.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape[1:]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        }

    indices = False

    @abstractmethod
    def convert(self, decoded: Decoded, path: str | Path) -> np.ndarray:
        """The array (C, X, Y) of the convention."""


class ImageReader(_FileReader):
    """Reads an image as float32 in [0, 1], shape (channels, X, Y).

    Eight-bit pictures are divided by 255. Other values (16-bit, float, NIfTI) are scaled so that their 0.5th and
    99.5th percentile become 0 and 1, and clipped: colours together, other channels each. Transparency is dropped, grey
    is repeated to three channels, colour becomes luminance where one channel is wanted.

    Args:
        channels: the channels of the array, the network's input channels.

    Raises:
        InputError: the channels do not match, or a value is not finite.

    Example:
        >>> from monai.transforms import LoadImaged
        >>> load = LoadImaged("image", reader=ImageReader(channels=3))
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels

    def convert(self, decoded: Decoded, path: str | Path) -> np.ndarray:
        """The image as float32 in [0, 1], (channels, X, Y)."""
        array = decoded.array
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path} holds NaN or infinite values: replace them or remove the image.")
        array = self._match_channels(array.astype(np.float32), decoded.alpha, path)
        return array / np.float32(255) if decoded.eight_bit else _scale(array)

    def _match_channels(self, array: np.ndarray, alpha: bool, path: str | Path) -> np.ndarray:
        if len(array) == self.channels:
            return array
        array = array[:-1] if alpha else array
        if len(array) == self.channels:
            return array
        if len(array) == 1 and self.channels == 3:
            return np.repeat(array, 3, axis=0)
        if len(array) == 3 and self.channels == 1:
            return np.tensordot(LUMINANCE, array, axes=1)[None]
        raise InputError(
            f"{path} has {len(array)} channels (or slices), but in_channels is {self.channels}: set in_channels to "
            f"{len(array)} or convert the image."
        )


def _scale(array: np.ndarray) -> np.ndarray:
    """Percentiles to 0 and 1; a constant image becomes 0."""
    axes = None if len(array) == 3 else (1, 2)
    low, high = np.percentile(array, PERCENTILES, axis=axes, keepdims=True).astype(np.float32)
    span = np.where(high > low, high - low, np.float32(1))
    return np.clip((array - low) / span, 0, 1)


class MaskReader(_FileReader):
    """Reads a mask as class indices, uint8, shape (1, X, Y); 255 is the ignore index.

    Values are class indices 0 to ``num_classes - 1``: the values of a grey image (also one stored as RGB with equal
    channels) or the indices of a palette. With two classes a file that holds nothing but 0 and 255 is a binary mask,
    255 being class 1. In any other file 255 is the ignore index, as the border in Pascal VOC.

    Use it with ``LoadImaged(..., dtype=None)``, which otherwise makes the indices float.

    Args:
        num_classes: the classes, background included.

    Raises:
        InputError: a value is no class, the mask is in colour, or JPEG compression has changed its values.
    """

    indices = True

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.num_classes = num_classes

    def convert(self, decoded: Decoded, path: str | Path) -> np.ndarray:
        """The mask as class indices, uint8, (1, X, Y)."""
        array = decoded.array[:-1] if decoded.alpha else decoded.array
        if (array[1:] != array[:1]).any():
            raise InputError(
                f"The mask {path} is in colour: save it with one channel that holds the class of each pixel."
            )
        return self._to_classes(array[:1], decoded.lossy, path)

    def _to_classes(self, values: np.ndarray, lossy: bool, path: str | Path) -> np.ndarray:
        present = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
        if self.num_classes == 2 and np.isin(present, (0, IGNORE_INDEX)).all():
            return (values == IGNORE_INDEX).astype(np.uint8)
        strange = present[~np.isin(present, (*range(self.num_classes), IGNORE_INDEX))]
        if not len(strange):
            return values.astype(np.uint8)
        if lossy:
            raise InputError(
                f"The mask {path} is a JPEG, whose compression has blurred the classes: save masks as PNG."
            )
        raise InputError(
            f"The mask {path} holds the value {strange[0]:g}, but the classes are 0 to {self.num_classes - 1} (255: "
            "ignored): correct the mask or num_classes."
        )
