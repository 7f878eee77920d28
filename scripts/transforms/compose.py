# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A chain of transforms that is quick to invert."""

from __future__ import annotations

from monai.transforms import Compose


class FlatCompose(Compose):
    """MONAI's ``Compose`` that does not copy itself where it holds no other ``Compose``.

    ``Invertd`` asks its chain twice an image for a flat copy, and each copy seeds a random generator from the system:
    on a picture of 256x256 that took longer than resizing it. For the outermost chain.
    """

    def flatten(self) -> Compose:
        """Itself, or MONAI's flat copy if a part is a chain."""
        nested = any(isinstance(transform, Compose) for transform in self.transforms)
        return super().flatten() if nested else self
