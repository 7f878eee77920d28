# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A survey of a data set as one JSON object with stable keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from scripts.data.checks import entries_of
from scripts.data.survey import Survey
from scripts.data.tallies import MaskTally, most_common, quantiles, shares


def report(found: Survey) -> dict[str, Any]:
    """The survey as JSON: plain numbers, texts, lists and objects.

    Keys: ``dataset``; ``clean`` (no problem); ``num_classes``, ``num_classes_inferred``; ``problems`` and ``notes``
    (objects of ``kind``, ``file``, ``message``); ``counts`` (images by list); ``images`` (how often each width x
    height, number of channels, data type, format and spacing in mm occurs); ``lists`` (see :func:`_list_report`);
    ``lesions`` (by class, connected pieces: ``count``, ``pixels`` and, where the spacing is known, ``square_mm``);
    ``duplicates`` (sets of images with the same pixels); ``groups``, ``volumes`` (their ``count`` and how many images
    each has); ``scribbles`` (None, or see :func:`_scribble_report`).
    """
    items = [item for _, item in entries_of(found.lists)]
    sizes = Counter({f"{x} x {y}": count for (x, y), count in found.images["sizes"].items()})
    names = ("channels", "dtypes", "formats", "spacings")
    return {
        "dataset": found.dataset,
        "clean": not found.problems,
        "num_classes": found.num_classes,
        "num_classes_inferred": found.inferred,
        "problems": [vars(problem) for problem in found.problems],
        "notes": [vars(note) for note in found.notes],
        "counts": {name: len(members) for name, members in found.lists.items()},
        "images": {"sizes": most_common(sizes), **{name: most_common(found.images[name]) for name in names}},
        "lists": {name: _list_report(tally, found.num_classes) for name, tally in found.tallies.items()},
        "lesions": _lesion_report(found),
        "duplicates": found.duplicates,
        "groups": _members(item["group"] for item in items),
        "volumes": _members(item["volume"] for item in items if item.get("volume")),
        "scribbles": _scribble_report(found),
    }


def _list_report(tally: MaskTally, num_classes: int) -> dict[str, Any]:
    """Masks of one list: ``masks``, ``empty_masks``, ``values`` (pixels of each value that is no class, 255 being
    ignored), ``class_pixels`` and ``class_shares`` (by class, of the pixels that are of a class)."""
    counts = tally.counts[:num_classes].tolist()
    strange = {str(v): int(tally.counts[v]) for v in np.flatnonzero(tally.counts).tolist() if v >= num_classes}
    numbers = {"masks": tally.masks, "empty_masks": tally.empty, "other_values": strange}
    return numbers | {"class_pixels": counts, "class_shares": shares(counts)}


def _lesion_report(found: Survey) -> dict[str, Any]:
    square_mm = found.all_sizes("square_mm")
    return {
        str(k): {"count": len(sizes), "pixels": quantiles(sizes), "square_mm": quantiles(square_mm.get(k, []))}
        for k, sizes in found.all_sizes().items()
    }


def _members(names: Iterable[str]) -> dict[str, Any]:
    counts = Counter(names)
    return {"count": len(counts), "images": quantiles(list(counts.values()))}


def _scribble_report(found: Survey) -> dict[str, Any] | None:
    """``coverage`` (share of the pixels with a stroke), by class ``stroke_shares`` (of all strokes), ``class_coverage``
    (strokes over the class's pixels in the masks) and ``off_class`` (share of the strokes off their class)."""
    if not found.scribbles:
        return None
    strokes, agreeing, masks = (found.scribbles[name][: found.num_classes] for name in ("strokes", "agreeing", "masks"))
    paired = found.scribbles["paired"][: found.num_classes]
    return {
        "coverage": round(int(strokes.sum()) / found.scribbles["pixels"], 6),
        "stroke_shares": shares(strokes),
        "class_coverage": np.round(paired / np.maximum(masks, 1), 6).tolist() if masks.any() else None,
        "off_class": np.round((paired - agreeing) / np.maximum(paired, 1), 6).tolist() if masks.any() else None,
    }
