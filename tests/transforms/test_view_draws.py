# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the weak and the strong view draw: each change alone against its formula, an image at a time, rigid."""

import math

import torch

from scripts.transforms import StrongView, WeakView

STILL = {"flip": 0, "rotate": 0, "scale": 1, "shift": 0}


def drawn(size=(64, 64), **parts):
    torch.manual_seed(0)
    return WeakView(**STILL | parts).draw(torch.zeros(4000, 1, *size))


def test_flips_and_quarter_turns_make_eight_orientations_equally_often():
    found, counts = drawn(flip=0.5)[:, :, :2].round().unique(dim=0, return_counts=True)
    assert len(found) == 8 and 400 < counts.min() and counts.max() < 600
    assert len(drawn((64, 48), flip=0.5)[:, :, :2].round().unique(dim=0)) == 4  # no quarter turn of an oblong


def test_rotation_zoom_and_shift_are_drawn_for_their_share_within_their_bounds():
    matrix = drawn(rotate=30)[:, :, :2]
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])
    assert 29 < math.degrees(angle.max()) <= 30 and -30 <= math.degrees(angle.min()) < -29
    assert 0.18 < (angle == 0).float().mean() < 0.22
    zoom = torch.linalg.det(drawn(scale=2)[:, :, :2]).sqrt()
    assert 0.5 <= zoom.min() < 0.51 and 1.97 < zoom.max() <= 2.001 and 0.95 < zoom.median() < 1.05
    assert 0.18 < (zoom == 1).float().mean() < 0.22
    shift = drawn(shift=0.1)[:, :, 2]  # in units of half a side
    assert 0.195 < shift.abs().max() <= 0.2 and 0.18 < (shift == 0).all(1).float().mean() < 0.22


def test_rotations_of_oblong_images_are_rigid():
    x, y = 96, 40
    matrix = drawn((x, y), rotate=45, probability=1.0)[:, :, :2]
    sides = torch.tensor([y, x]) / 2  # the first coordinate runs along the last axis
    pixels = matrix * sides.view(2, 1) / sides.view(1, 2)
    torch.testing.assert_close(pixels @ pixels.mT, torch.eye(2).expand(4000, 2, 2), atol=1e-5, rtol=0)


NONE = dict.fromkeys(("brightness", "contrast", "gamma", "saturation", "balance", "blur", "noise", "grey"), 0.0)


def changed(image, **parts):
    torch.manual_seed(0)
    return StrongView(**NONE | {"probability": 1.0} | parts)(image)


def spread(values):
    """Largest difference inside an image, and between the images."""
    flat = values.flatten(1)
    return (flat.amax(1) - flat.amin(1)).max().item(), (flat.mean(1).max() - flat.mean(1).min()).item()


def test_every_change_of_the_strong_view_is_its_formula_with_one_draw_an_image():
    torch.manual_seed(1)
    image = 0.3 + 0.3 * torch.rand(40, 3, 12, 10)
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    grey = image.mean(1, keepdim=True)
    for found, lowest, highest in (
        (changed(image, brightness=0.2) - image, -0.2, 0.2),
        (
            ((changed(image, contrast=0.5) - mean) / (image - mean))[(image - mean).abs().flatten(1).min(1).values > 0],
            1 / 1.5,
            1.5,
        ),
        (changed(image, gamma=0.5).log() / image.log(), 1 / 1.5, 1.5),
        ((changed(image, saturation=0.5) - grey).norm(dim=1) / (image - grey).norm(dim=1), 1 / 1.5, 1.5),
    ):
        inside, between = spread(found)
        assert inside < 0.02 and between > 0.6 * (highest - lowest)
        assert lowest - 0.01 < found.min() and found.max() < highest + 0.01
    ratio = changed(image, balance=0.1) / image
    assert spread(ratio[:, 0])[0] < 1e-4 and 0.9 - 1e-4 <= ratio.min() and ratio.max() <= 1.1 + 1e-4
    assert (ratio[:, 0, 0, 0] - ratio[:, 1, 0, 0]).abs().max() > 0.1
    assert (changed(image, blur=1.5).var(dim=(2, 3)) < image.var(dim=(2, 3))).float().mean() > 0.3
    noise = (changed(image, noise=0.05) - image).flatten(1).std(1)
    assert noise.max() <= 0.06 and 0.3 < (noise > 1e-3).float().mean() < 0.7
    assert spread(changed(image, grey=1.0).std(1))[0] < 1e-5
    torch.testing.assert_close(changed(image, **{k: 0.5 for k in NONE if k != "grey"}, probability=0.0), image)
