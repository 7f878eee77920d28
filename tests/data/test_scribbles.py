# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Made scribbles: inside their class, in every class, the same for a seed, and measured rightly."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data import scribbles
from scripts.data.scribbles import draw_scribble, measure_scribble, rng_of


def blobs(classes, size=(90, 60), seed=0):
    """A mask with smooth regions of random classes, some of them tiny."""
    waves = scribbles._waves(size, np.random.default_rng(seed), 9.0)
    other = scribbles._waves(size, np.random.default_rng(seed + 1), 9.0)
    return np.where(waves > 0.5, 1 + np.floor(np.abs(other) * 3 % (classes - 1)), 0).astype(np.uint8)


def disc(size=80, radius=25):
    x, y = np.mgrid[:size, :size] - size // 2
    return (np.hypot(x, y) < radius).astype(np.uint8)


@pytest.mark.parametrize("classes", [2, 4, 7])
@pytest.mark.parametrize("size", [(90, 60), (40, 128), (64, 64)])
@pytest.mark.parametrize("width", [0, 3])
def test_strokes_lie_in_their_class_and_every_class_has_one(classes, size, width):
    for seed in range(3):
        mask = blobs(classes, size, seed)
        scribble = draw_scribble(mask, classes, rng_of(seed, "a"), width=width)
        assert scribble.dtype == np.uint8 and scribble.shape == mask.shape
        drawn = scribble < classes
        assert (scribble[drawn] == mask[drawn]).all() and set(np.unique(scribble[~drawn])) <= {classes}
        assert set(np.unique(scribble[drawn])) == set(np.unique(mask))
        assert drawn.mean() < (0.6 if width else 0.35), "the regions are narrow"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (9, 1), (3, 40)])
def test_tiny_images_have_strokes(size):
    for mask in (np.zeros(size, np.uint8), np.ones(size, np.uint8), np.resize([0, 1], size).astype(np.uint8)):
        scribble = draw_scribble(mask, 2, rng_of(0, "a"))
        drawn = scribble < 2
        assert (scribble[drawn] == mask[drawn]).all() and set(scribble[drawn]) == set(np.unique(mask))


def test_each_small_lesion_gets_what_fits():
    mask = np.zeros((40, 30), np.uint8)
    mask[3, 3] = mask[10:12, 10:12] = mask[20:21, 5:25] = 1
    mask[30, 2] = 2
    scribble = draw_scribble(mask, 3, rng_of(0, "a"))
    assert scribble[3, 3] == 1 and (scribble[10:12, 10:12] == 1).any() and (scribble[20, 5:25] == 1).any()
    assert scribble[30, 2] == 2


def test_ignored_pixels_get_no_stroke():
    mask = disc()
    mask[:, 30:34] = 255
    scribble = draw_scribble(mask, 2, rng_of(0, "a"))
    assert (scribble[:, 30:34] == 2).all() and {0, 1, 2} == set(np.unique(scribble))


def test_the_background_can_be_left_out_and_an_empty_mask_has_one():
    assert set(np.unique(draw_scribble(disc(), 2, rng_of(0, "a"), background=False))) == {1, 2}
    empty = draw_scribble(np.zeros((50, 70), np.uint8), 2, rng_of(0, "a"))
    assert set(np.unique(empty)) == {0, 2} and 0.002 < (empty == 0).mean() < 0.1
    lesion_at_the_edge = np.zeros((50, 70), np.uint8)
    lesion_at_the_edge[0] = 1
    assert set(np.unique(draw_scribble(lesion_at_the_edge, 2, rng_of(0, "a")))) == {0, 1, 2}


def test_a_stroke_runs_inside_and_the_background_is_marked_around_the_lesion():
    mask = disc()
    x, y = np.mgrid[:80, :80] - 40
    radius = np.hypot(x, y)
    for seed in range(5):
        scribble = draw_scribble(mask, 2, rng_of(seed, "a"), length=1.0, width=1)
        assert 3 < np.median(radius[scribble == 1]) < 18, "half way between the middle and the border"
        ring = (scribble == 0) & (radius < 38)
        assert len(np.unique(np.arctan2(y, x)[ring].round())) >= 6, "all round"
        assert radius[scribble == 0].min() > 25


def test_length_and_width_make_more_of_a_stroke():
    mask = disc(160, 60)

    def covered(**settings):
        return np.mean([(draw_scribble(mask, 2, rng_of(s, "a"), **settings) == 1).mean() for s in range(4)])

    short, long = covered(length=0.2, width=1), covered(length=0.9, width=1)
    assert 2.5 * short < long < 1.6 * covered(length=0.9, width=2) / 1.2
    assert covered(length=0.9, width=5) > 2.5 * long


def test_strokes_depend_on_seed_and_key_alone():
    mask = blobs(4)
    first, again = (draw_scribble(mask, 4, rng_of(3, "a")) for _ in range(2))
    assert np.array_equal(first, again)
    for seed, key in ((4, "a"), (3, "b")):
        assert not np.array_equal(first, draw_scribble(mask, 4, rng_of(seed, key)))


def test_measures_by_hand():
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    scribble = np.full((20, 20), 2, np.uint8)
    scribble[7, 6:10] = 1
    scribble[12, 6:10] = 1
    scribble[0, :12] = 0
    numbers = measure_scribble(scribble, mask, 2)
    assert numbers[1]["coverage"] == 0.08 and numbers[1]["strokes"] == 2 and numbers[1]["share"] == 0.4
    assert numbers[1]["width"] == 1 and numbers[1]["depth"] == 3 / 5
    assert measure_scribble(np.full((20, 20), 2), mask, 2)[1] == {"coverage": 0, "share": 0, "strokes": 0}
    assert set(measure_scribble(scribble, mask, 4)) == {0, 1}
