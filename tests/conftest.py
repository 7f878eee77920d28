# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Data that the tests of whole runs share."""

import pytest

from scripts.data import write_synthetic_set


@pytest.fixture(scope="session")
def synthetic_set(tmp_path_factory):
    """The embedded synthetic set in small: 20 frames of 32 pixels. Copy it before changing it."""
    return write_synthetic_set(tmp_path_factory.mktemp("data") / "set", count=20, size=32)
