# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of cases: at the source's size, slices added up to volumes, distances in mm against a slow version."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.spatial.distance import cdist

from scripts import metrics
from scripts.errors import InputError
from scripts.handlers.scoring import CaseScores, spacing_of
from scripts.transforms.resize import resize_plane


def blobs(shape, seed):
    smooth = uniform_filter(np.random.default_rng(seed).random(shape), 5)
    return (smooth > np.median(smooth)).astype(np.uint8)


def logits_of(mask):
    """(2, X, Y) whose argmax is the mask."""
    mask = torch.from_numpy(mask.copy()).float()
    return torch.stack([1 - mask, mask])


def outline(mask, spacing):
    """Points in millimetres with a neighbour (6 in 3-D, 4 in 2-D) outside the mask."""
    padded, points = np.pad(mask, 1), []
    for point in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                other = point + 1
                other[axis] += step
                if not padded[tuple(other)]:
                    points.append(point)
    return np.unique(points, axis=0) * spacing


def slow_distances(predicted, reference, spacing):
    between = cdist(outline(predicted, spacing), outline(reference, spacing))
    there, back = between.min(1), between.min(0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return hd95, np.concatenate([there, back]).mean()


def write_slices(folder, mask, name="v", spacing="0.5 0.8 3", order=None):
    """A mask volume (X, Y, Z) as slices on the disk, as items in the given order."""
    items = []
    for z in order or range(mask.shape[2]):
        path = folder / f"{name}_{z}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(mask[..., z : z + 1], np.eye(4)), path)
        items.append({"key": f"{name}_{z}", "image": str(path), "label": str(path), "group": name, "volume": name})
        items[-1] |= {"slice": str(z)} | ({"spacing": spacing} if spacing else {})
    return items


def score(items, predicted, **kwargs):
    """The scores of slices whose prediction is that of their index."""
    scores = CaseScores(items, 2, **kwargs)
    for item in items:
        logits = logits_of(predicted[..., int(item["slice"])])
        scores.add(item["key"], logits, torch.zeros(1, *predicted.shape[:2]))
    return scores


@pytest.mark.parametrize("order", [None, [3, 0, 2, 5, 1, 4]])
def test_a_volume_is_scored_as_one_and_in_three_dimensions(tmp_path, order):
    predicted, reference = blobs((14, 11, 6), 0), blobs((14, 11, 6), 1)
    scores = score(write_slices(tmp_path, reference, order=order), predicted)
    both = (predicted & reference).sum()
    dice = 2 * both / (predicted.sum() + reference.sum())
    assert metrics.image_dice(scores.case_tables()).tolist() == pytest.approx([dice])
    hd95, assd = scores.case_distances()[0, :, 0].tolist()
    assert (hd95, assd) == pytest.approx(slow_distances(predicted, reference, (0.5, 0.8, 3)), abs=1e-4)
    assert scores.unit == "mm" and not scores.slices
    first = int((order or [0])[0])
    plane = slow_distances(predicted[..., first], reference[..., first], (0.5, 0.8))
    assert scores.distances[0][:, 0].tolist() == pytest.approx(plane, abs=1e-4)


def test_two_volumes_may_come_mixed_and_an_image_stays_one(tmp_path):
    masks = {name: blobs((9, 8, 3), seed) for seed, name in enumerate("ab")}
    items = [
        pair for both in zip(*(write_slices(tmp_path, mask, name) for name, mask in masks.items())) for pair in both
    ]
    lone = tmp_path / "lone.png"
    Image.fromarray(masks["a"][..., 0].T).save(lone)
    items.insert(2, {"key": "lone", "image": str(lone), "label": str(lone), "spacing": "2 2"})
    scores = CaseScores(items, 2)
    for item in items:
        mask = masks[item.get("volume", "a")][..., int(item.get("slice", 0))]
        scores.add(item["key"], logits_of(1 - mask if item["key"] == "lone" else mask), torch.zeros(1, 9, 8))
    assert list(scores.volumes) == ["a", "b"] and [len(case) for case in scores.cases()] == [3, 3, 1]
    assert metrics.image_dice(scores.case_tables()).tolist() == [1, 1, 0]
    distances = scores.case_distances()[:, 0, 0].tolist()
    assert distances[:2] == [0, 0]
    assert distances[2] == pytest.approx(
        slow_distances(1 - masks["a"][..., 0], masks["a"][..., 0], (2, 2))[0], abs=1e-4
    )


def test_without_every_spacing_pixels_are_the_unit(tmp_path):
    mask = blobs((9, 8, 3), 0)
    for spacing in (None, "1 1"):  # a volume needs three numbers
        scores = score(write_slices(tmp_path, mask, spacing=spacing), 1 - mask)
        assert scores.unit == "px" and scores.case_distances().shape == (3, 2, 1)
        expected = [slow_distances(1 - mask[..., z], mask[..., z], (1, 1))[0] for z in range(3)]
        assert scores.case_distances()[:, 0, 0].tolist() == pytest.approx(expected, abs=1e-4)
        assert scores.volume_rows_distances()[0, 0, 0].item() == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("score_size", ["source", "network"])
def test_the_size_of_scoring(tmp_path, score_size):
    mask = np.kron(blobs((20, 16, 1), 2)[..., 0], np.ones((2, 2), np.uint8))[..., None]
    items = write_slices(tmp_path, mask, spacing="1 3 5")
    logits = torch.rand(2, 10, 8, generator=torch.Generator().manual_seed(0))
    label = resize_plane(torch.from_numpy(mask[None, ..., 0]), (10, 8), "nearest-exact")
    scores = CaseScores(items, 2, score_size)
    scores.add(items[0]["key"], logits, label)
    if score_size == "source":
        predicted, reference, spacing = resize_plane(logits, (40, 32)).argmax(0), mask[..., 0], (1, 3)
    else:
        predicted, reference, spacing = logits.argmax(0), label[0].numpy(), (4, 12)
    assert scores.sizes == {reference.shape}
    table = metrics.confusion_counts(predicted[None], torch.from_numpy(reference)[None], 2)
    assert torch.equal(scores.case_tables(), table)
    expected = slow_distances(predicted.numpy(), reference, spacing)
    assert scores.distances[0][:, 0].tolist() == pytest.approx(expected, abs=1e-3)


def test_missing_slices_keep_their_place(tmp_path):
    mask = np.zeros((6, 6, 9), np.uint8)
    mask[2:4, 2:4, 0] = mask[2:4, 2:4, 8] = 1
    predicted = mask.copy()
    predicted[..., 8] = 0
    scores = score(write_slices(tmp_path, mask, spacing="1 1 2", order=[0, 8]), predicted)
    assert scores.case_distances()[0, 0, 0] == 16  # from the slice 8 to the slice 0


def test_bad_items_are_named(tmp_path):
    mask = blobs((9, 8, 2), 0)
    items = write_slices(tmp_path, mask)
    with pytest.raises(InputError, match="two slices of one index"):
        score([item | {"slice": "1"} for item in items], mask)
    with pytest.raises(InputError, match="score_size is 'full'"):
        CaseScores(items, 2, "full")
    for text in ("a b", "1 0 2", "nan 1 1"):
        with pytest.raises(InputError, match=f"has the spacing '{text}'"):
            spacing_of(items[0] | {"spacing": text})
    other = write_slices(tmp_path, blobs((7, 8, 2), 0), name="w")
    scores = CaseScores([items[0], other[1] | {"volume": "v"}], 2)
    scores.add(items[0]["key"], logits_of(mask[..., 0]), torch.zeros(1, 9, 8))
    with pytest.raises(InputError, match="slices of the volume v differ in size"):
        scores.add(other[1]["key"], logits_of(mask[..., 0]), torch.zeros(1, 9, 8))
