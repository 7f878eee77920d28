# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Views: masks exactly with their image, the ignore index past the frame, range, seed, any channel count and size."""

import pytest
import torch

from scripts.losses import IGNORE_INDEX
from scripts.transforms import StrongView, WeakView, another, cut_mix, gaussian_blur, random_boxes

SHAPES = [(3, 1, 64, 64), (2, 3, 48, 65), (2, 5, 33, 21)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weak_view_moves_image_and_mask_alike(shape):
    torch.manual_seed(0)
    # a smooth picture whose mask is a threshold of it: after the same geometry it still is (almost)
    x, y = torch.meshgrid(torch.linspace(0, 1, shape[2]), torch.linspace(0, 1, shape[3]), indexing="ij")
    image = (0.5 + 0.5 * torch.sin(5 * x + 3 * y)).expand(shape).contiguous()
    label = (image[:, :1] > 0.6).long()
    for _ in range(5):
        moved, moved_label = WeakView()(image, label)
        valid = moved_label != IGNORE_INDEX
        assert moved.shape == image.shape and moved_label.shape == label.shape and moved_label.dtype == torch.long
        assert set(moved_label.unique().tolist()) <= {0, 1, IGNORE_INDEX}
        agree = ((moved[:, :1] > 0.6).long() == moved_label)[valid].float().mean()
        assert agree > 0.97 and valid.float().mean() > 0.5


def test_weak_view_keeps_every_label_value_and_fills_with_ignore():
    torch.manual_seed(0)
    label = torch.randint(0, 8, (16, 1, 32, 32))
    label[:, :, 10:12] = IGNORE_INDEX
    _, moved = WeakView(scale=2.0, shift=0.5, probability=1.0)(torch.rand(16, 3, 32, 32), label)
    assert set(moved.unique().tolist()) == set(range(8)) | {IGNORE_INDEX}
    # a shift of up to half a frame must leave pixels outside, and none of them may read as class 0
    only_seven = torch.full_like(label, 7)
    _, moved = WeakView(scale=2.0, shift=0.5, probability=1.0)(torch.rand(16, 3, 32, 32), only_seven)
    assert set(moved.unique().tolist()) == {7, IGNORE_INDEX}


def test_past_the_frame_a_weak_view_mirrors_the_image():
    torch.manual_seed(0)
    flat = torch.full((8, 3, 24, 24), 0.7)
    assert torch.allclose(WeakView(probability=1.0)(flat)[0], flat, atol=1e-5)


def test_flips_and_quarter_turns_alone_are_exact():
    torch.manual_seed(0)
    image = torch.rand(8, 3, 16, 16)
    label = (image[:, :1] * 200).long()
    moved, moved_label = WeakView(rotate=0, scale=1.0, shift=0.0)(image, label)
    assert (moved_label == (moved[:, :1] * 200 + 1e-3).long()).float().mean() > 0.99
    assert (moved_label != IGNORE_INDEX).all()
    orientations = [torch.rot90(f, k, (1, 2)) for f in (image[0], image[0].flip(1)) for k in range(4)]
    assert any(torch.allclose(moved[0], o, atol=1e-5) for o in orientations)


def test_weak_views_of_another_resolution_show_the_same_picture():
    torch.manual_seed(0)
    x, y = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 130), indexing="ij")
    image = (0.5 + 0.5 * torch.sin(5 * x + 3 * y)).expand(4, 3, 96, 130).contiguous()
    view = WeakView(rotate=0, scale=1.0, shift=0.0, flip=0)
    view.resolution = 0.5
    small, label = view(image, (image[:, :1] > 0.6).long())
    assert small.shape == (4, 3, 48, 64) and label.shape == (4, 1, 48, 64)
    expected = torch.nn.functional.interpolate(image, (48, 64), mode="bilinear", antialias=True)
    assert (small - expected).abs().max() < 0.02
    assert ((small[:, :1] > 0.6).long() == label).float().mean() > 0.97
    view.resolution = 0.1
    assert view(image)[0].shape == (4, 3, 32, 32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strong_view_stays_in_range_and_changes_the_picture(shape):
    torch.manual_seed(0)
    image = torch.rand(shape)
    view = StrongView()(image)
    assert view.shape == image.shape and view.min() >= 0 and view.max() <= 1 and not torch.equal(view, image)


@pytest.mark.parametrize("view", [WeakView(), StrongView()], ids=["weak", "strong"])
def test_same_seed_same_view(view):
    image = torch.rand(4, 3, 24, 24)
    results = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        out = view(image)
        results.append(out[0] if isinstance(out, tuple) else out)
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


@pytest.mark.parametrize("view", [WeakView(), StrongView(blur=2.0)], ids=["weak", "strong"])
def test_views_are_the_same_in_mixed_precision(view):
    image = torch.rand(4, 3, 40, 40)
    results = []
    for mixed in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            out = view(image)
        results.append(out[0] if isinstance(out, tuple) else out)
    assert results[1].dtype == torch.float32 and torch.equal(*results)


def test_blur_keeps_the_mean_of_a_flat_image_and_sigma_zero_is_the_identity():
    image = torch.rand(2, 3, 20, 20)
    assert torch.allclose(gaussian_blur(image, torch.zeros(2)), image, atol=1e-6)
    flat = torch.full((2, 3, 20, 20), 0.3)
    assert torch.allclose(gaussian_blur(flat, torch.tensor([0.5, 2.0])), flat, atol=1e-6)
    assert gaussian_blur(image, torch.tensor([0.0, 1.5]))[1].var() < image[1].var()


def test_boxes_cover_the_asked_area():
    torch.manual_seed(0)
    boxes = random_boxes(500, (40, 60), torch.device("cpu"), area=(0.1, 0.3))
    share = boxes.float().mean(dim=(1, 2, 3))
    assert boxes.shape == (500, 1, 40, 60) and 0.08 < share.min() and share.max() < 0.33
    empty = random_boxes(500, (40, 60), torch.device("cpu"), p=0.4).any(dim=-1).any(dim=-1)
    assert 0.3 < empty.float().mean() < 0.5


def test_another_image_is_never_the_same_one():
    torch.manual_seed(0)
    for size in (2, 3, 8):
        drawn = torch.stack([another(size, torch.device("cpu")) for _ in range(50)])
        assert (drawn != torch.arange(size)).all() and len(drawn[:, 0].unique()) == size - 1
    assert another(1, torch.device("cpu")).tolist() == [0]


def test_cut_mix_moves_all_tensors_alike():
    torch.manual_seed(0)
    values = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 30, 30)
    image, label = cut_mix((values, values[:, :1].long()), p=1.0, area=(4 / 9, 4 / 9), aspect=1.0)
    assert torch.equal(image[:, :1].long(), label)
    pasted = image != values
    assert torch.allclose(pasted.float().mean(dim=(1, 2, 3)), torch.tensor(4 / 9), atol=0.05)
    columns, rows = pasted[0, 0].any(1), pasted[0, 0].any(0)
    assert columns.sum() == rows.sum() and pasted[0, 0].sum() == columns.sum() * rows.sum()
    assert torch.equal(cut_mix((values,), p=0.0)[0], values)
