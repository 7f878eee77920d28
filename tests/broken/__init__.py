# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What folders of images suffer from in the wild: each function breaks a good data set and says what must be named."""

from tests.broken import coco, cvat, lists, pictures, regions, volumes  # each registers its cases
from tests.broken.base import CASES, good_set, image, mask

__all__ = ["CASES", "coco", "cvat", "good_set", "image", "lists", "mask", "pictures", "regions", "volumes"]
