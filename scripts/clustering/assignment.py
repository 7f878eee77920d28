# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""From clusters to a mask, in three ways that must not be confused, and what each is worth.

A clustering has no idea which cluster is the object. ``blind`` guesses it from the clusters alone; the two others look
at the reference, so their scores say what the clusters would be worth to someone who knows the answer:

* ``oracle_cropped``: the cluster that is most frequent in the reference, and of that only what lies within about four
  pixels of the reference. This is what the authors' scoring helper does (S3-Net, MS-Former). It is not comparable to
  any method that does not see the reference.
* ``oracle_cluster``: the same cluster, whole.
* ``blind``: no reference.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage

from scripts.metrics import class_dice, class_iou, confusion_counts

ASSIGNMENTS = ("oracle_cropped", "oracle_cluster", "blind")


def blind_mask(labels: np.ndarray, components: int = 0) -> np.ndarray:
    """The cluster with the largest area off the image's border.

    Of every cluster the connected components (8 neighbours) that touch the border are dropped: dark corners, the air
    around a body, the ground that an object lies on. The cluster with the most pixels left is the object.

    Args:
        labels: clusters (X, Y).
        components: keep the largest components only, so many; 0 keeps all. 1 suits one lesion, 2 the lungs.

    Returns:
        bool (X, Y); empty where every component touches the border.
    """
    best = np.zeros(labels.shape, bool)
    for cluster in np.unique(labels):
        inner = without_border(labels == cluster)
        if inner.sum() > best.sum():
            best = inner
    return largest(best, components) if components else best


def without_border(mask: np.ndarray) -> np.ndarray:
    """The mask without its components that touch the border."""
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return mask & ~np.isin(parts, edge)


def largest(mask: np.ndarray, components: int) -> np.ndarray:
    """The largest components of a mask."""
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    keep = np.argsort(-sizes, kind="stable")[:components]
    return mask & np.isin(parts, keep)


def oracle_cluster(labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The cluster that is most frequent inside the reference; empty where the reference is."""
    if not reference.any():
        return np.zeros(labels.shape, bool)
    return labels == np.bincount(labels[reference]).argmax()


def oracle_cropped(labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """:func:`oracle_cluster`, cut to the reference dilated twice by 5x5.

    (The authors' helper can besides never choose the cluster of index 0; that is left out here.)
    """
    near = ndimage.binary_dilation(reference, structure=np.ones((5, 5)), iterations=2)
    return oracle_cluster(labels, reference) & near


def overlap(mask: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Dice, and two errors of this line of work: HM = (union - overlap) / union, XOR = (union - overlap) / reference.

    Both empty: Dice 1, HM 0. XOR of an empty reference has no value (NaN).
    """
    counts = confusion_counts(*(torch.as_tensor(m[None].astype(np.int64)) for m in (mask, reference)), num_classes=2)
    wrong = int((mask ^ reference).sum())
    return {
        "dice": class_dice(counts)[0, 1].item(),
        "hm": 1 - class_iou(counts)[0, 1].item(),
        "xor": wrong / int(reference.sum()) if reference.any() else math.nan,
    }
