# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Data that the tests of whole runs share."""

import logging
import os
from functools import partial

import pytest

# tiny tensors gain nothing from threads, which only fight over the cores; child processes inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")

from scripts.data import write_synthetic_set  # noqa: E402
from tests.small_suite import write_suite  # noqa: E402


@pytest.fixture(autouse=True)
def messages_reach_caplog():
    """Undoes what a run in this process made of the bundle's logger, so that tests hold in any order."""
    yield
    logger = logging.getLogger("less_net")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(scope="session")
def synthetic_set(tmp_path_factory):
    """The embedded synthetic set in small: 20 frames of 32 pixels. Copy it before changing it."""
    return write_synthetic_set(tmp_path_factory.mktemp("data") / "set", count=20, size=32)


@pytest.fixture
def suite(tmp_path):
    """Writes a small suite of the benchmark into the test's folder, some of its keys changed; its path."""
    return partial(write_suite, tmp_path)
