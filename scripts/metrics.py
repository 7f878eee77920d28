# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The scores of a segmentation, each defined once: pure functions of tensors, everything counted from confusion tables.

One confusion table per image, rows the reference class and columns the predicted class, holds all that the overlap
scores need, so that nothing but a (K, K) table per image has to be kept or sent between devices. Class 0 is the
background. Pixels whose reference is the ignore index (255) take part in no score.

Conventions for empty masks, stated because papers differ silently: reference and prediction both empty score 1, one
of the two empty scores 0. Recall of an empty reference, precision of an empty prediction and distances where either
is empty have no value: NaN per image, left out of means.
"""

import math
from collections.abc import Sequence

import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from torch import Tensor

IGNORE_INDEX = 255
WORST_SHARE = 0.1

DEFINITIONS = {
    "case": "An image, or all slices of a volume together: their pixels are counted as those of one image.",
    "mean_dice": "Dice per case, mean over the foreground classes, then mean over all cases; reference and "
    "prediction both empty = 1, one of them empty = 0.",
    "absent_classes": "Foreground classes without a pixel in the references of all cases together: each counts 1 in "
    "mean_dice for every case in which it is not predicted. mean_dice_without_absent is the same mean without them.",
    "mean_dice_lesion": "The same mean over the cases whose reference holds at least one foreground pixel.",
    "worst_decile_dice": "Mean Dice of the worst 10 % of the cases (the lowest ceil(n / 10) values).",
    "miou": "Intersection over union from pixels pooled over all images, mean over the classes with background; a "
    "class found in neither reference nor prediction is left out.",
    "mean_recall": "Recall from pixels pooled over all images, mean over the classes with background; a class the "
    "references never hold is left out.",
    "hd95": "95th percentile Hausdorff distance: the larger of the two directed 95th percentiles between the "
    "outlines. In millimetres, three-dimensional for volumes, where the spacing of every case is known; else in pixels "
    "at the size of scoring, image by image and slice by slice. Mean over case (or image) and foreground class pairs "
    "where both are non-empty.",
    "assd": "Average symmetric surface distance: mean over the outline points of both masks of the distance to the "
    "other outline, in the unit of hd95; mean over the same pairs as hd95.",
    "distance_left_out": "Case (in pixels: image) and foreground class pairs without hd95 and assd, because reference "
    "or prediction is empty.",
    "ignored": "Pixels whose reference value is 255 take part in no score.",
}


def predicted_labels(logits: Tensor, dtype: torch.dtype = torch.long) -> Tensor:
    """Class indices (B, ...), of ``dtype``, from logits (B, C, ...): the largest channel; C is 1: above 0 (sigmoid).

    Of equal channels the first one wins.
    """
    # on the CPU a comparison takes a tenth of the time of max, and max a fraction of that of argmax
    if logits.shape[1] <= 2:
        return (logits[:, -1] > (logits[:, 0] if logits.shape[1] == 2 else 0)).to(dtype)
    return logits.max(dim=1).indices.to(dtype)


def confusion_counts(predicted: Tensor, reference: Tensor, num_classes: int) -> Tensor:
    """Counts pixels per (reference, predicted) class pair, image by image, without a device synchronisation.

    Args:
        predicted: class indices (B, X, Y) in [0, num_classes).
        reference: class indices (B, X, Y) in [0, num_classes), or 255 where the pixel is to be ignored.
        num_classes: number of classes K, background included.

    Returns:
        int64 tensor (B, K, K), rows reference, columns prediction.
    """
    cells = num_classes * num_classes
    predicted, reference = predicted.flatten(1).long(), reference.flatten(1).long()
    cell = torch.where(reference == IGNORE_INDEX, cells, reference * num_classes + predicted)
    counts = torch.zeros(len(cell), cells + 1, dtype=torch.long, device=cell.device)
    counts.scatter_add_(1, cell, torch.ones_like(cell))
    return counts[:, :cells].view(-1, num_classes, num_classes)


def _overlap(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Agreeing, reference and predicted pixels per class, each (..., K) in float64."""
    confusion = confusion.double()
    return confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-1), confusion.sum(-2)


def _ratio(numerator: Tensor, denominator: Tensor, empty: float) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1), empty)


def class_dice(confusion: Tensor) -> Tensor:
    """Dice per class, (..., K, K) -> (..., K): 2 |A and B| / (|A| + |B|); both empty = 1."""
    agree, reference, predicted = _overlap(confusion)
    return _ratio(2 * agree, reference + predicted, empty=1.0)


def class_iou(confusion: Tensor, empty: float = 1.0) -> Tensor:
    """Intersection over union per class, (..., K, K) -> (..., K); ``empty`` where a class is in neither mask."""
    agree, reference, predicted = _overlap(confusion)
    return _ratio(agree, reference + predicted - agree, empty)


def class_recall(confusion: Tensor) -> Tensor:
    """Recall per class, (..., K, K) -> (..., K): share of the reference pixels found; NaN without reference pixels."""
    agree, reference, _ = _overlap(confusion)
    return _ratio(agree, reference, empty=math.nan)


def class_precision(confusion: Tensor) -> Tensor:
    """Precision per class, (..., K, K) -> (..., K): share of the predicted pixels that are right; NaN without any."""
    agree, _, predicted = _overlap(confusion)
    return _ratio(agree, predicted, empty=math.nan)


def image_dice(confusion: Tensor) -> Tensor:
    """Dice per image, (B, K, K) -> (B,): mean over the foreground classes."""
    return class_dice(confusion)[:, 1:].mean(dim=1)


def has_lesion(confusion: Tensor) -> Tensor:
    """Which images hold a foreground pixel in the reference, (B, K, K) -> bool (B,)."""
    return confusion.sum(-1)[:, 1:].sum(dim=1) > 0


def mean_iou(pooled: Tensor) -> Tensor:
    """``miou`` of pooled tables, (..., K, K) -> (...,)."""
    return class_iou(pooled, empty=math.nan).nanmean(dim=-1)


def mean_recall(pooled: Tensor) -> Tensor:
    """``mean_recall`` of pooled tables, (..., K, K) -> (...,)."""
    return class_recall(pooled).nanmean(dim=-1)


def absent_classes(confusion: Tensor) -> list[int]:
    """The foreground classes that the reference of no case holds, from confusion tables (B, K, K)."""
    return [k for k, pixels in enumerate(confusion.sum((0, -1)).tolist()) if k and not pixels]


def mean_dice_without_absent(confusion: Tensor) -> float:
    """``mean_dice`` over the classes that are not :func:`absent_classes`, (B, K, K) -> scalar; NaN if all are."""
    absent = absent_classes(confusion)
    present = [k for k in range(1, confusion.shape[-1]) if k not in absent]
    return class_dice(confusion)[:, present].mean().item()


def worst_mean(values: Tensor, share: float = WORST_SHARE) -> Tensor:
    """Mean of the lowest ``ceil(share * n)`` of n values, at least one."""
    if len(values) == 0:
        return values.new_tensor(math.nan)
    count = max(1, math.ceil(round(share * len(values), 9)))
    return values.sort().values[:count].mean()


def overlap_scores(confusion: Tensor) -> dict[str, float]:
    """The overlap scores of a set of cases, from its confusion tables (B, K, K); see :data:`DEFINITIONS`."""
    dice, lesion, pooled = image_dice(confusion), has_lesion(confusion), confusion.sum(dim=0)
    scores = {
        "mean_dice": dice.mean(),
        "mean_dice_lesion": dice[lesion].mean(),
        "worst_decile_dice": worst_mean(dice),
        "miou": mean_iou(pooled),
        "mean_recall": mean_recall(pooled),
    }
    return dict(zip(scores, torch.stack(list(scores.values())).tolist()))


def surface_distances(
    predicted: Tensor, reference: Tensor, num_classes: int, spacing: Sequence[float] | None = None
) -> tuple[Tensor, Tensor]:
    """95th percentile Hausdorff and average symmetric surface distance of one image or volume, per foreground class.

    Args:
        predicted: class indices (X, Y) or (X, Y, Z).
        reference: class indices of the same shape; ignored pixels (255) count as background in both masks.
        num_classes: number of classes K, background included.
        spacing: pixel size along each axis; None measures in pixels.

    Returns:
        two float tensors (K - 1,) on the CPU, NaN where the class is empty in either mask.
    """
    predicted, reference = predicted.cpu(), reference.cpu()
    judged = reference != IGNORE_INDEX
    spacing = None if spacing is None else [float(size) for size in spacing]
    hd95, assd = torch.full((2, num_classes - 1), math.nan)
    for k in range(1, num_classes):
        pair = [((mask == k) & judged)[None, None] for mask in (predicted, reference)]
        if all(mask.any() for mask in pair):
            # the single channel is a foreground class: nothing to drop
            hd95[k - 1] = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
            assd[k - 1] = compute_average_surface_distance(
                *pair, include_background=True, symmetric=True, spacing=spacing
            )
    return hd95, assd


def distance_scores(hd95: Tensor, assd: Tensor) -> dict[str, float | int]:
    """Means of the surface distances (B, K - 1) over the pairs that have one, and the count of those left out."""
    return {
        "hd95": hd95.nanmean().item(),
        "assd": assd.nanmean().item(),
        "distance_left_out": int(hd95.isnan().sum()),
    }
