# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of clusterings against masks: what each measures, of one image and over a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scripts.clustering.assignment import ASSIGNMENTS, oracle_cluster, oracle_cropped, overlap
from scripts.data.reader import IGNORE_INDEX

MEASURES = ("dice", "hm", "xor")
SCORE_COLUMNS = tuple(f"{assignment}_{measure}" for assignment in ASSIGNMENTS for measure in MEASURES)
DEFINITIONS = {
    "oracle_cropped": "The cluster most frequent in the reference, cut to the reference dilated by about 4 pixels: "
    "sees the reference twice, as the scoring of the S3-Net line of work does; comparable to no blind method.",
    "oracle_cluster": "The cluster most frequent in the reference, whole: sees the reference once.",
    "blind": "The cluster with the largest area in components that do not touch the border: sees no reference.",
    "reference": "Every class but the background; pixels without a label are left out of all counts.",
    "dice": "2 |A and G| / (|A| + |G|).",
    "hm": "(|A or G| - |A and G|) / |A or G|.",
    "xor": "(|A or G| - |A and G|) / |G|.",
    "images": "Means are over the images whose reference is not empty.",
}


def scores_of(labels: np.ndarray, mask: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """The scores of the three masks of an image, none where the reference is empty, and the share marked.

    Pixels without a label count as marked in no mask.

    Args:
        labels: cluster indices (X, Y).
        mask: the blind choice (X, Y), boolean.
        classes: of the reference (X, Y), :data:`scripts.data.reader.IGNORE_INDEX` where there is no label.
    """
    known = classes != IGNORE_INDEX
    reference = known & (classes > 0)
    marked = {"marked": share(mask & known)}
    if not reference.any():
        return marked
    masks = {"oracle_cropped": oracle_cropped(labels, reference), "blind": mask}
    masks["oracle_cluster"] = oracle_cluster(labels, reference)
    found = {name: overlap(masks[name] & known, reference) for name in ASSIGNMENTS}
    return marked | {
        f"{name}_{measure}": round(found[name][measure], 6) for name in ASSIGNMENTS for measure in MEASURES
    }


def mean_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``scored``, the number of rows with a reference that is not empty, and ``scores``, their means by assignment and
    measure; nothing where there is none."""
    scored = [row for row in rows if str(row.get("blind_dice", "")) not in ("", "nan")]
    if not scored:
        return {}
    means = {
        name: {m: math.fsum(float(row[f"{name}_{m}"]) for row in scored) / len(scored) for m in MEASURES}
        for name in ASSIGNMENTS
    }
    return {"scored": len(scored), "scores": means}


def share(mask: np.ndarray) -> float:
    """The share of pixels that a mask marks, rounded as in the table."""
    return round(float(mask.mean()), 6)
