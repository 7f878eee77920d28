# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Clusters to masks: what each of the three ways sees, and the scores against loops."""

import math

import numpy as np
import pytest

from scripts.clustering import blind_mask, oracle_cluster, oracle_cropped, overlap


def scene():
    """A lesion of the same cluster (2) as dark corners, on skin (0) with a hair (1) across."""
    labels = np.zeros((40, 50), int)
    labels[:4, :4] = labels[-4:, -4:] = 2
    labels[15:25, 20:32] = 2
    labels[30, :] = 1
    reference = np.zeros((40, 50), bool)
    reference[15:25, 20:30] = True
    return labels, reference


def test_the_blind_choice_drops_what_touches_the_border():
    labels, reference = scene()
    expected = np.zeros_like(reference)
    expected[15:25, 20:32] = True
    assert (blind_mask(labels) == expected).all()
    assert not blind_mask(np.zeros((5, 5), int)).any()
    labels[5:8, 40:44] = 2
    assert blind_mask(labels).sum() == 132 and (blind_mask(labels, components=1) == expected).all()


@pytest.mark.parametrize("turns", range(4))
def test_every_border_counts_and_corners_join_pixels(turns):
    labels = np.zeros((7, 6), int)
    labels[[0, 1, 2], [2, 3, 4]] = 1  # a diagonal line from the border
    assert not blind_mask(np.rot90(labels, turns)).any()


def test_the_oracles_see_the_reference_once_and_twice():
    labels, reference = scene()
    whole = oracle_cluster(labels, reference)
    assert (whole == (labels == 2)).all()
    cropped = oracle_cropped(labels, reference)
    rows, columns = np.nonzero(cropped)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (15, 24, 20, 31)  # corners gone, 2 pixels too wide
    far = labels.copy()
    far[15:25, 20:45] = 2
    assert np.nonzero(oracle_cropped(far, reference))[1].max() == 29 + 4
    assert not oracle_cluster(labels, np.zeros_like(reference)).any()


def test_cluster_zero_may_be_chosen():
    labels, reference = scene()
    assert (oracle_cluster(np.where(labels == 2, 0, labels + 1), reference) == (labels == 2)).all()


def test_overlap_equals_the_plain_python_version():
    generator = np.random.default_rng(0)
    mask, reference = generator.random((2, 9, 8)) > 0.6
    pairs = list(zip(mask.ravel().tolist(), reference.ravel().tolist()))
    both, either = sum(a and b for a, b in pairs), sum(a or b for a, b in pairs)
    found = overlap(mask, reference)
    assert found["dice"] == pytest.approx(2 * both / (mask.sum() + reference.sum()))
    assert found["hm"] == pytest.approx((either - both) / either)
    assert found["xor"] == pytest.approx((either - both) / reference.sum())
    empty = np.zeros((3, 3), bool)
    none = overlap(empty, empty)
    assert none["dice"] == 1 and none["hm"] == 0 and math.isnan(none["xor"])
