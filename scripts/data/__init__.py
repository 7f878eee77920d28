# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""From a dataset folder to checked lists of images, and from image files to arrays and batches."""

from scripts.data.caching import cached_dataset
from scripts.data.checks import check_datalist
from scripts.data.datalist import load_datalist
from scripts.data.reader import ImageReader, MaskReader
from scripts.data.streams import TwoStreamLoader, collate_shared
from scripts.data.synthetic import write_synthetic_set

__all__ = [
    "ImageReader",
    "MaskReader",
    "TwoStreamLoader",
    "cached_dataset",
    "check_datalist",
    "collate_shared",
    "load_datalist",
    "write_synthetic_set",
]
