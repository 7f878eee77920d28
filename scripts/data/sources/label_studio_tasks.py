# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What Label Studio exports as JSON or JSON-MIN: tasks with the names of their images and the regions drawn on them.

Source: the export formats and control tags in Label Studio's documentation, labelstud.io.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from scripts.data.files import is_image
from scripts.errors import InputError

LABELS = (
    "brushlabels",
    "bitmasklabels",
    "polygonlabels",
    "rectanglelabels",
    "ellipselabels",
    "keypointlabels",
    "vectorlabels",
    "labels",
)

Region = dict[str, Any]


class Task(NamedTuple):
    """An image with what was drawn on it.

    Attributes:
        names: what it may be called, the likeliest first.
        regions: its shapes, None where nobody has annotated it.
        annotations: how many people's work it holds.
    """

    names: list[str]
    regions: list[Region] | None
    annotations: int


def tasks_of(path: str) -> Iterator[Task]:
    """The tasks in a file; the records of JSON-MIN with one image are one task.

    Raises:
        InputError: it is none of Label Studio's.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        minimal: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for task in content if isinstance(content, list) else [content]:
            if "data" in task:
                made = task["annotations"] if "annotations" in task else task.get("completions", [])
                own = [str(task["file_upload"])] if task.get("file_upload") else []
                kept = [one for one in made if not (one.get("was_cancelled") or one.get("skipped"))]
                yield _task([*own, *_pictures(task["data"])], kept, lambda one: one.get("result") or [])
            else:
                minimal[tuple(_pictures(task))].append(task)
        for names, records in minimal.items():
            made = [record for record in records if record.get("annotation_id") is not None]
            yield _task(list(names), made, _drawn_in)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): export it anew or remove it.") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no export of Label Studio of the kind JSON or JSON-MIN ({error!r}): export it anew, or "
            "remove it."
        ) from None


def _task(
    names: list[str], annotations: list[dict[str, Any]], drawn: Callable[[dict[str, Any]], list[dict[str, Any]]]
) -> Task:
    """The task with the regions of the annotation that counts."""
    if not annotations:
        return Task(names, None, 0)

    def rank(one: dict[str, Any]) -> tuple[bool, str]:
        return bool(one.get("ground_truth")), str(one.get("updated_at") or one.get("created_at") or "")

    return Task(names, [*_regions(drawn(max(annotations, key=rank)))], len(annotations))


def _pictures(data: Mapping[str, Any]) -> list[str]:
    """The names in a task that an image can have: the key ``image`` first."""
    values = [value for _, value in sorted(data.items(), key=lambda item: item[0] != "image") if isinstance(value, str)]
    names = []
    for value in values:
        address = urlsplit(value)
        path = unquote(parse_qs(address.query).get("d", [address.path])[0])
        if is_image(path):
            names.append(path)
    return names


def _drawn_in(record: Mapping[str, Any]) -> list[Region]:
    """The regions of a record of JSON-MIN, which lie under the names of the controls."""
    lists = [value for value in record.values() if isinstance(value, list)]
    return [
        {"value": one, **one} for values in lists for one in values if isinstance(one, dict) and "original_width" in one
    ]


def _regions(results: list[dict[str, Any]]) -> Iterator[Region]:
    """The results that are shapes: ``kind``, ``labels``, the first one, ``value``, ``size`` and ``turn`` of the image.

    A shape that is drawn first and labelled then stands there twice, under one id: it counts with its label.
    """
    labelled = {one.get("id") for one in results if _labels_of(one.get("value") or {})} - {None}
    for one in results:
        value = one.get("value") or {}
        kind, labels = _kind(value), _labels_of(value)
        if kind and (labels or one.get("id") not in labelled):
            size = one.get("original_width"), one.get("original_height")
            named = {"label": labels[0] if labels else "", "labels": labels}
            yield {"kind": kind, **named, "value": value, "size": size, "turn": one.get("image_rotation") or 0}


def _labels_of(value: Mapping[str, Any]) -> list[str]:
    found = next((value[key] for key in LABELS if value.get(key)), [])
    return [str(label).strip() for label in ([found] if isinstance(found, str) else found)]


def _kind(value: Mapping[str, Any]) -> str:
    """What shape a value is, by what it holds; empty if none."""
    if "rle" in value:
        return "brush"
    if "imageDataURL" in value:
        return "bitmask"
    if "points" in value:
        return "polygon"
    if "vertices" in value:
        return "polygon" if value.get("closed") else "line"
    if "radiusX" in value:
        return "ellipse"
    if "x" in value and "y" in value:
        return "rectangle" if "height" in value else "point"
    return ""
