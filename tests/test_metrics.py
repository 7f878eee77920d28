# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The scores against slow plain-Python versions and against cases counted by hand."""

import math

import pytest
import torch

from scripts import metrics


def slow_counts(predicted, reference, k):
    """(agree, reference, predicted) pixels of class k, pixel by pixel."""
    agree = in_reference = in_predicted = 0
    for p, r in zip(predicted.flatten().tolist(), reference.flatten().tolist()):
        if r == 255:
            continue
        agree += p == k and r == k
        in_reference += r == k
        in_predicted += p == k
    return agree, in_reference, in_predicted


def slow_dice(predicted, reference, num_classes):
    total = 0.0
    for k in range(1, num_classes):
        agree, in_reference, in_predicted = slow_counts(predicted, reference, k)
        total += 2 * agree / (in_reference + in_predicted) if in_reference + in_predicted else 1.0
    return total / (num_classes - 1)


def slow_pooled(predicted, reference, num_classes):
    ious, recalls = [], []
    for k in range(num_classes):
        agree, in_reference, in_predicted = slow_counts(predicted, reference, k)
        if in_reference + in_predicted:
            ious.append(agree / (in_reference + in_predicted - agree))
        if in_reference:
            recalls.append(agree / in_reference)
    return sum(ious) / len(ious), sum(recalls) / len(recalls)


def random_masks(num_classes, seed=0, images=12, size=(9, 7)):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(0, num_classes, (images, *size), generator=generator)
    reference = torch.randint(0, num_classes, (images, *size), generator=generator)
    reference[torch.rand(reference.shape, generator=generator) < 0.1] = 255
    predicted[0], reference[0] = 0, 0
    reference[1] = 0
    predicted[2] = 0
    return predicted, reference


@pytest.mark.parametrize("num_classes, present", [(2, 2), (3, 3), (5, 5), (4, 3)])
def test_scores_equal_the_slow_versions(num_classes, present):
    predicted, reference = random_masks(present)
    confusion = metrics.confusion_counts(predicted, reference, num_classes)
    scores = metrics.overlap_scores(confusion)
    dice = [slow_dice(p, r, num_classes) for p, r in zip(predicted, reference)]
    lesion = [d for d, r in zip(dice, reference) if ((r > 0) & (r < 255)).any()]
    miou, recall = slow_pooled(predicted, reference, num_classes)
    assert metrics.image_dice(confusion).tolist() == pytest.approx(dice)
    assert scores["mean_dice"] == pytest.approx(sum(dice) / len(dice))
    assert scores["mean_dice_lesion"] == pytest.approx(sum(lesion) / len(lesion))
    assert scores["worst_decile_dice"] == pytest.approx(sum(sorted(dice)[:2]) / 2)
    assert scores["miou"] == pytest.approx(miou)
    assert scores["mean_recall"] == pytest.approx(recall)


def test_confusion_by_hand():
    reference = torch.tensor([[[0, 0, 1], [1, 1, 255]]])
    predicted = torch.tensor([[[0, 1, 1], [1, 0, 1]]])
    confusion = metrics.confusion_counts(predicted, reference, 2)
    assert confusion.tolist() == [[[1, 1], [1, 2]]]
    assert metrics.image_dice(confusion).item() == pytest.approx(4 / 6)
    assert metrics.class_iou(confusion)[0].tolist() == pytest.approx([1 / 3, 2 / 4])
    assert metrics.class_recall(confusion)[0].tolist() == pytest.approx([1 / 2, 2 / 3])
    assert metrics.class_precision(confusion)[0].tolist() == pytest.approx([1 / 2, 2 / 3])


@pytest.mark.parametrize("reference_pixels, predicted_pixels, dice", [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0)])
def test_empty_masks(reference_pixels, predicted_pixels, dice):
    reference, predicted = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    reference[0, 0, :reference_pixels] = 1
    predicted[0, 0, :predicted_pixels] = 1
    confusion = metrics.confusion_counts(predicted, reference, 2)
    assert metrics.image_dice(confusion).item() == dice
    assert metrics.class_iou(confusion)[0, 1].item() == dice
    assert metrics.has_lesion(confusion).item() is bool(reference_pixels)
    assert all(distance.isnan().all() for distance in metrics.surface_distances(predicted[0], reference[0], 2))


def test_false_positives_on_an_empty_image_cost_its_dice():
    reference, predicted = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    reference[0, 1, 1] = predicted[0, 1, 1] = predicted[1, 2, 2] = 1
    scores = metrics.overlap_scores(metrics.confusion_counts(predicted, reference, 2))
    assert (scores["mean_dice"], scores["mean_dice_lesion"]) == (0.5, 1.0)


def test_ignored_pixels_change_nothing():
    predicted, reference = random_masks(3, seed=1)
    other = torch.where(reference == 255, (predicted + 1) % 3, predicted)
    assert not torch.equal(other, predicted)
    tables = [metrics.confusion_counts(p, reference, 3) for p in (predicted, other)]
    assert torch.equal(*tables)
    for p, o, r in zip(predicted, other, reference):
        for before, after in zip(metrics.surface_distances(p, r, 3), metrics.surface_distances(o, r, 3)):
            assert torch.equal(before.nan_to_num(-1), after.nan_to_num(-1))


def test_an_image_ignored_altogether_counts_as_empty():
    confusion = metrics.confusion_counts(torch.ones(1, 3, 3), torch.full((1, 3, 3), 255), 2)
    assert confusion.sum() == 0 and metrics.image_dice(confusion).item() == 1 and not metrics.has_lesion(confusion)


def test_worst_mean_takes_a_tenth_rounded_up():
    values = torch.arange(30.0).flip(0)
    assert metrics.worst_mean(values) == 1.0  # 0, 1, 2
    assert metrics.worst_mean(torch.arange(31.0)) == 1.5  # 0, 1, 2, 3
    assert metrics.worst_mean(torch.tensor([0.7])) == pytest.approx(0.7)


def slow_distances(predicted, reference):
    """Directed distances between the outlines (pixels with a 4-neighbour outside the mask), pixel by pixel."""

    def outline(mask):
        inside = {(x, y) for x, y in mask.nonzero().tolist()}
        steps = ((1, 0), (-1, 0), (0, 1), (0, -1))
        return [(x, y) for x, y in inside if any((x + i, y + j) not in inside for i, j in steps)]

    def directed(points, others):
        return [min(math.dist(point, other) for other in others) for point in points]

    a, b = outline(predicted), outline(reference)
    return directed(a, b), directed(b, a)


@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_the_slow_version(seed):
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.rand((2, 1, 20, 14), generator=generator)
    predicted, reference = (torch.nn.functional.avg_pool2d(blobs, 5, 1, 2)[:, 0] > 0.52).long()
    there, back = (torch.tensor(d, dtype=torch.float64) for d in slow_distances(predicted, reference))
    hd95, assd = metrics.surface_distances(predicted, reference, 2)
    assert hd95.item() == pytest.approx(max(there.quantile(0.95).item(), back.quantile(0.95).item()), abs=1e-5)
    assert assd.item() == pytest.approx(torch.cat([there, back]).mean().item(), abs=1e-5)


def test_distances_by_hand_and_in_millimetres():
    predicted, reference = torch.zeros(2, 12, 12).long()
    reference[2, 5], predicted[5, 5] = 1, 1
    assert metrics.surface_distances(predicted, reference, 2) == (torch.tensor([3.0]), torch.tensor([3.0]))
    in_mm = metrics.surface_distances(predicted, reference, 2, spacing=(0.5, 9.0))
    assert in_mm == (torch.tensor([1.5]), torch.tensor([1.5]))


def test_distances_of_several_classes_stay_apart():
    reference, predicted = torch.zeros(2, 12, 12).long()
    reference[1, 1], predicted[1, 3] = 2, 2
    reference[8, 8] = 1
    hd95, assd = metrics.surface_distances(predicted, reference, 4)
    assert hd95[1] == assd[1] == 2 and hd95[[0, 2]].isnan().all() and assd[[0, 2]].isnan().all()
    assert metrics.distance_scores(hd95[None], assd[None]) == {"hd95": 2.0, "assd": 2.0, "distance_left_out": 2}


def test_predicted_labels_of_one_and_of_many_channels():
    logits = torch.tensor([[[[-1.0, 0.0, 2.0]]]])
    assert metrics.predicted_labels(logits).tolist() == [[[0, 0, 1]]]
    assert torch.equal(metrics.predicted_labels(torch.cat([-logits, logits], 1)), metrics.predicted_labels(logits))
    torch.manual_seed(0)
    for channels in (2, 3, 7):
        logits = torch.randint(-2, 3, (2, channels, 9, 8, 5)).float()  # with ties: the first of the largest wins
        assert torch.equal(metrics.predicted_labels(logits), logits.max(dim=1).indices)


def test_every_score_is_defined():
    predicted, reference = random_masks(2)
    scores = metrics.overlap_scores(metrics.confusion_counts(predicted, reference, 2))
    distances = metrics.distance_scores(torch.ones(3, 1), torch.ones(3, 1))
    assert {*scores, *distances} <= set(metrics.DEFINITIONS)


def test_absent_classes_by_hand():
    """Class 2 is in no reference, and predicted in the second case: Dice of class 1 is 1 and 2 * 2 / (2 + 4)."""
    tables = torch.tensor([[[4, 0, 0], [0, 2, 0], [0, 0, 0]], [[2, 0, 1], [2, 2, 0], [0, 0, 0]]])
    assert metrics.absent_classes(tables) == [2]
    assert metrics.mean_dice_without_absent(tables) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.overlap_scores(tables)["mean_dice"] == pytest.approx((1 + 1 / 3) / 2)
    empty = torch.tensor([[[9, 0], [0, 0]]])
    assert metrics.absent_classes(empty) == [1] and math.isnan(metrics.mean_dice_without_absent(empty))
