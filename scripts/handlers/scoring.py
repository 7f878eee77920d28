# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Counts and distances of one image after the other, and of the volumes that slices belong to; memory stays flat."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts import metrics
from scripts.data import MaskReader
from scripts.errors import InputError
from scripts.transforms.resize import resize_plane

SCORE_SIZES = ("source", "network")


class CaseScores:
    """Scores images at the size of their masks or of the network, and adds slices up to volumes.

    Items that share ``volume`` are one case. Distances are in millimetres where every case has a ``spacing`` (three
    numbers for the slices of a volume), three-dimensional for volumes; else in pixels, image by image. The slices of a
    volume are kept, compressed, only until its last one is there.

    Args:
        items: the images by the item contract: ``key``, ``label``, and ``volume``, ``slice``, ``spacing`` if known.
        num_classes: number of classes K, background included.
        score_size: ``source`` resizes the logits to the mask as stored, ``network`` takes mask and logits as they come.
        ignore_value: value in the mask files that is no class, beside 255.

    Attributes:
        tables: confusion table (K, K) of every image, in the order they came.
        distances: (2, K - 1) of every image: HD95 and ASSD within its plane.
        volumes: the indices of the images of each volume.
        unit: ``mm`` or ``px``.
        sizes: the sizes (X, Y) of scoring.

    Raises:
        InputError: no such score_size, a spacing that is none, or a slice without a number where that counts.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, str]],
        num_classes: int,
        score_size: str = "source",
        ignore_value: int = metrics.IGNORE_INDEX,
    ) -> None:
        if score_size not in SCORE_SIZES:
            raise InputError(f"score_size is '{score_size}': give one of {', '.join(SCORE_SIZES)}")
        self.items = {item["key"]: item for item in items}
        self.num_classes, self.score_size = num_classes, score_size
        self.reader = MaskReader(num_classes, ignore_value)
        known = [spacing_of(item) for item in items]
        self.unit = "mm" if items and all(known) else "px"
        for item in items if self.unit == "mm" else ():
            slice_of(item)
        self.expected = defaultdict(int)
        for item in items:
            self.expected[item.get("volume", "")] += 1
        self.tables: list[Tensor] = []
        self.distances: list[Tensor] = []
        self.volumes: dict[str, list[int]] = {}
        self.volume_distances: dict[str, Tensor] = {}
        self.slices: dict[str, list[tuple[int, tuple[int, int], bytes]]] = {}
        self.sizes: set[tuple[int, int]] = set()

    def add(self, key: str, logits: Tensor, label: Tensor) -> Tensor:
        """Scores one image.

        Args:
            key: of its item.
            logits: (K, X, Y) at the size of the network.
            label: class indices (1, X, Y) at the size of the network, 255 where ignored.

        Returns:
            What was scored: class indices (X, Y) at the size of scoring, on the CPU.
        """
        item = self.items[key]
        stored = self.stored_mask(item)
        if self.score_size == "source":
            label, logits = stored, resize_plane(logits, stored.shape[1:])
        predicted, reference = metrics.predicted_labels(logits[None])[0].cpu(), label[0].cpu()
        spacing = self.spacing(item, stored, reference)
        self.tables += metrics.confusion_counts(predicted[None], reference[None], self.num_classes)
        plane = None if spacing is None else spacing[:2]
        self.distances.append(torch.stack(metrics.surface_distances(predicted, reference, self.num_classes, plane)))
        self.sizes.add(tuple(reference.shape))
        if item.get("volume"):
            self.add_slice(item, predicted, reference, spacing)
        return predicted

    def share(self, keys: Sequence[str]) -> dict[str, Any]:
        """What this process has scored, of the images ``keys`` in the order they came, for :meth:`join`."""
        scored = {key: (table.cpu(), distances) for key, table, distances in zip(keys, self.tables, self.distances)}
        return {"scored": scored, "volumes": self.volume_distances, "sizes": self.sizes}

    def join(self, shares: Sequence[Mapping[str, Any]]) -> None:
        """Holds the shares of all processes, as if they had been scored here in the order of the items.

        The slices of a volume are all of one share (:func:`scripts.distributed.share_of`).
        """
        scored = {key: pair for share in shares for key, pair in share["scored"].items()}
        keys = [key for key in self.items if key in scored]
        self.tables = [scored[key][0] for key in keys]
        self.distances = [scored[key][1] for key in keys]
        self.sizes = {size for share in shares for size in share["sizes"]}
        self.volume_distances = {name: value for share in shares for name, value in share["volumes"].items()}
        self.volumes = {}
        for index, key in enumerate(keys):
            if self.items[key].get("volume"):
                self.volumes.setdefault(self.items[key]["volume"], []).append(index)

    def stored_mask(self, item: Mapping[str, str]) -> Tensor | None:
        """The mask file (1, X, Y), where its values or its size are needed."""
        if self.score_size == "network" and self.unit == "px":
            return None
        return torch.from_numpy(self.reader.get_data(item["label"])[0])

    def spacing(self, item: Mapping[str, str], stored: Tensor | None, scored: Tensor) -> tuple[float, ...] | None:
        """Millimetres along X, Y (and between slices) at the size of scoring; None where pixels are the unit."""
        if self.unit == "px":
            return None
        x, y, *z = spacing_of(item)
        return (x * stored.shape[1] / scored.shape[0], y * stored.shape[2] / scored.shape[1], *z)

    def add_slice(self, item: Mapping[str, str], predicted: Tensor, reference: Tensor, spacing: tuple | None) -> None:
        """Keeps a slice for its volume, and measures the volume when it is complete."""
        volume = item["volume"]
        self.volumes.setdefault(volume, []).append(len(self.tables) - 1)
        if self.unit == "px":
            return
        kept = self.slices.setdefault(volume, [])
        pair = torch.stack([predicted, reference]).numpy().astype(np.uint8)
        kept.append((slice_of(item, len(kept)), tuple(predicted.shape), zlib.compress(pair.tobytes(), 1)))
        if len(kept) == self.expected[volume]:
            predicted, reference = stack(volume, self.slices.pop(volume))
            distances = metrics.surface_distances(predicted, reference, self.num_classes, spacing)
            self.volume_distances[volume] = torch.stack(distances)

    def cases(self) -> list[list[int]]:
        """The indices of the images of each case: of a volume those of its slices, of an image its own."""
        sliced = {index for indices in self.volumes.values() for index in indices}
        single = [[index] for index in range(len(self.tables)) if index not in sliced]
        return [*self.volumes.values(), *single]

    def case_names(self, keys: Sequence[str]) -> list[str]:
        """Volume or key of each of :meth:`cases`; ``keys`` of the images in the order they came."""
        singles = self.cases()[len(self.volumes) :]
        return [*self.volumes, *(keys[index] for [index] in singles)]

    def case_tables(self) -> Tensor:
        """The confusion tables of the cases, (cases, K, K)."""
        return torch.stack([torch.stack([self.tables[index] for index in case]).sum(0) for case in self.cases()])

    def case_distances(self) -> Tensor:
        """(n, 2, K - 1): of the cases in millimetres, or of the images in pixels."""
        if self.unit == "px":
            return torch.stack(self.distances)
        volumes = [self.volume_distances[volume] for volume in self.volumes]
        return torch.stack([*volumes, *(self.distances[case[0]] for case in self.cases()[len(volumes) :])])

    def volume_rows_distances(self) -> Tensor:
        """(volumes, 2, K - 1): three-dimensional in millimetres, or the mean over the slices in pixels."""
        if self.unit == "mm":
            return torch.stack([self.volume_distances[volume] for volume in self.volumes])
        return torch.stack(
            [torch.stack([self.distances[i] for i in indices]).nanmean(0) for indices in self.volumes.values()]
        )


def spacing_of(item: Mapping[str, str]) -> tuple[float, ...] | None:
    """The spacing of an item in millimetres, (X, Y), for a slice of a volume (X, Y, Z); None where it is not known.

    Raises:
        InputError: the text holds no positive numbers.
    """
    text, needed = item.get("spacing") or "", 3 if item.get("volume") else 2
    try:
        values = tuple(float(word) for word in text.split())
    except ValueError:
        values = (0.0,)
    if any(not 0 < value < float("inf") for value in values):
        raise InputError(
            f"{item.get('image')} has the spacing '{text}': give millimetres along X, Y and between slices"
        )
    return values[:needed] if len(values) >= needed else None


def slice_of(item: Mapping[str, str], default: int = 0) -> int:
    """The index of an item in its volume; ``default`` where it does not say.

    Raises:
        InputError: the text is no whole number.
    """
    text = item.get("slice") or default
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{item.get('image')} has the slice '{text}': give its number in the volume") from None


def stack(volume: str, slices: list[tuple[int, tuple[int, int], bytes]]) -> Tensor:
    """Prediction and reference (2, X, Y, Z) from (index, size, compressed pair); Z is empty where slices are missing.

    Raises:
        InputError: slices share an index or differ in size.
    """
    indices = [index for index, _, _ in slices]
    if len(set(indices)) < len(indices):
        raise InputError(f"The volume {volume} has two slices of one index: correct 'slice' in the data list.")
    sizes = {size for _, size, _ in slices}
    if len(sizes) > 1:
        raise InputError(f"The slices of the volume {volume} differ in size ({sorted(sizes)}): replace the odd ones.")
    pairs = np.zeros((2, *sizes.pop(), max(indices) - min(indices) + 1), dtype=np.uint8)
    for index, _, data in slices:
        pairs[..., index - min(indices)] = np.frombuffer(zlib.decompress(data), np.uint8).reshape(pairs.shape[:3])
    return torch.from_numpy(pairs)
