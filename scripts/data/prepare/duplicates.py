# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images that are there more than once: on one side they become one group, on two sides of a pinned split one goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from scripts.data.sources.base import Entry, Problem

PROTECTED = ("test", "val", "train", None)  # what is evaluated keeps its images


def drop_across_sides(entries: Sequence[Entry], twins: Sequence[list[Entry]]) -> tuple[list[Entry], list[Problem]]:
    """Removes an image from the less protected of two pinned sides: test before validation before training."""
    dropped: dict[str, Problem] = {}
    for equal in twins:
        first = min(equal, key=lambda entry: PROTECTED.index(entry.side))
        for entry in equal:
            if entry.side != first.side:
                dropped[entry.key] = (entry.name, f"the same pixels as {first.name} on the side '{first.side}'")
    return [entry for entry in entries if entry.key not in dropped], list(dropped.values())


def twins_of(entries: Sequence[Entry], fingerprints: Mapping[str, bytes | None]) -> list[list[Entry]]:
    """The sets of two and more entries with equal pixels."""
    equal: dict[bytes, list[Entry]] = defaultdict(list)
    for entry in entries:
        mark = fingerprints.get(entry.key)
        if mark is not None:
            equal[mark].append(entry)
    return [found for found in equal.values() if len(found) > 1]


def merge_groups(groups: dict[str, str], twins: Sequence[list[Entry]]) -> int:
    """Makes the groups (by key) of equal images one, named as the first of them; returns how many were merged."""
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.get(group, group) != group:
            group = parent[group]
        return group

    for equal in twins:
        first, *others = sorted({root(groups[entry.key]) for entry in equal})
        for other in others:
            parent[other] = first
    for key, group in groups.items():
        groups[key] = root(group)
    return len(parent)
