# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Resizing of images and of the slices of volumes to the size of the network, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.utils import scale_affine
from monai.utils import TransformBackends, ensure_tuple_rep
from torch import Tensor

from scripts.errors import InputError

MODES = ("bilinear", "nearest-exact", "nearest")


class ResizePlaned(MapTransform, InvertibleTransform):
    """Resizes X and Y of ``(C, X, Y)`` images and of ``(C, X, Y, Z)`` volumes, whose slices are resized one by one.

    Shrinking images bilinearly, every pixel of the source has its share in the result (the antialiasing of
    ``torch.nn.functional.interpolate``). That replaces the Gaussian filter before MONAI's ``Resized``, which takes
    seconds on a large photograph. Metadata are kept, the affine follows, and ``Invertd`` resizes back: bilinear without
    antialiasing, as MONAI's does.

    Args:
        keys: keys of the images (C, X, Y) or (C, X, Y, Z).
        spatial_size: pixels along X and Y; one number for both.
        mode: ``bilinear`` gives float32, ``nearest-exact`` keeps the type, for masks.
        allow_missing_keys: pass over keys that an item does not have.

    Raises:
        InputError: no such mode, or no such size.

    Example:
        >>> small = ResizePlaned("image", (256, 192))({"image": torch.rand(3, 900, 700)})["image"]
        >>> tuple(small.shape)
        (3, 256, 192)
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: int | Sequence[int],
        mode: str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        size = spatial_size if isinstance(spatial_size, int) else tuple(spatial_size)
        self.size = tuple(int(length) for length in ensure_tuple_rep(size, 2))
        if mode not in MODES:
            raise InputError(f"mode is '{mode}': give one of {', '.join(MODES)}")
        if min(self.size) < 1:
            raise InputError(f"spatial_size is {spatial_size!r}: give sizes of at least 1")
        self.mode = mode

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resizes the images of the keys."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            resized = resize_plane(_plain(image), self.size, self.mode, antialias=True)
            result[key] = self._with_metadata(resized, image, self.get_transform_info(), {"mode": self.mode})
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resizes back to the size that was recorded on the way here."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            record = self.pop_transform(image)
            resized = resize_plane(_plain(image), record["orig_size"][:2], record["extra_info"]["mode"])
            result[key] = self._with_metadata(resized, image)
        return result

    def _with_metadata(self, resized: Tensor, image: Tensor, info: Any = None, extra: Any = None) -> Tensor:
        """The tensor with the metadata of ``image``, its affine scaled; with ``info`` the step is recorded."""
        if not isinstance(image, MetaTensor):
            return resized
        before, after = tuple(image.shape[1:]), tuple(resized.shape[1:])
        meta = self.track_transform_meta(
            image,
            sp_size=after,
            affine=scale_affine(before, after),
            extra_info=extra,
            orig_size=before,
            transform_info=info,
        )
        return MetaTensor(resized).copy_meta_from(meta)


def _plain(image: Any) -> Tensor:
    return image.as_tensor() if isinstance(image, MetaTensor) else torch.as_tensor(image)


def resize_plane(image: Tensor, size: Sequence[int], mode: str = "bilinear", antialias: bool = False) -> Tensor:
    """(C, X, Y) or (C, X, Y, Z) -> the same with X and Y of ``size``.

    Args:
        image: bilinear takes any type and gives float32; nearest keeps the type.
        size: pixels along X and Y.
        mode: ``bilinear``, ``nearest-exact`` or ``nearest``.
        antialias: average over all pixels where the image shrinks bilinearly.
    """
    size = tuple(int(length) for length in size)
    if mode == "bilinear":
        image, options = image.float(), {"antialias": antialias and any(a < b for a, b in zip(size, image.shape[1:3]))}
    else:
        options = {}
    if tuple(image.shape[1:3]) == size:
        return image
    slices = image.unsqueeze(0) if image.ndim == 3 else image.permute(3, 0, 1, 2)
    exact = slices if slices.is_floating_point() or slices.dtype == torch.uint8 else slices.double()
    resized = F.interpolate(exact, size, mode=mode, **options).to(slices.dtype)
    return resized[0] if image.ndim == 3 else resized.permute(1, 2, 3, 0).contiguous()
