# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The set that the tests of a run train on."""

import shutil

import pytest


@pytest.fixture
def data(synthetic_set, tmp_path):
    """A copy of the synthetic set that a test may spoil."""
    return shutil.copytree(synthetic_set, tmp_path / "data set")
