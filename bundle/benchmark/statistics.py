# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Mean and standard deviation over seeds, and paired bootstrap intervals against the baseline and the best peer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from bundle.benchmark.suite import Comparison
from scripts.metrics import mean_iou, mean_recall

#: score -> (heading, factor); the last two are of clusterings
SCORES = {
    "mean_dice": ("Dice", 100),
    "mean_dice_lesion": ("Dice with lesion", 100),
    "miou": ("mIoU", 100),
    "mean_recall": ("mean recall", 100),
    "hd95": ("HD95", 1),
    "worst_decile_dice": ("Dice worst 10 %", 100),
    "oracle_cluster_dice": ("Dice, cluster chosen by the reference", 100),
    "oracle_cropped_dice": ("Dice, cut out by the reference too", 100),
}
#: scores of pixels pooled over the cases, as functions of the pooled tables (..., K, K); a case has no value of its own
POOLED = {"miou": mean_iou, "mean_recall": mean_recall}
RESAMPLES = 10_000

Result = Mapping[str, Any]


class Group(NamedTuple):
    """What the seeds of one row of a table share."""

    data: str
    label_ratio: float
    network: str
    method: str


Groups = Mapping[Group, Sequence[Result]]


class Difference(NamedTuple):
    """Of two groups' scores in points, ours - theirs, its 95 % bootstrap interval, and of how many seeds it is."""

    difference: float
    low: float
    high: float
    paired_seeds: int


def grouped(results: Iterable[Result]) -> dict[Group, list[Result]]:
    """The results of each group, in the order in which the groups come."""
    groups: dict[Group, list[Result]] = defaultdict(list)
    for result in results:
        groups[Group(*(result[key] for key in Group._fields))].append(result)
    return dict(groups)


def summaries(groups: Groups, baseline: str = "", peers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a group; see :func:`summary`."""
    return [summary(group, groups, baseline, peers) for group in groups]


def summary(group: Group, groups: Groups, baseline: str = "", peers: Sequence[str] = ()) -> dict[str, Any]:
    """One row: mean and sd over the seeds of every score there is, minutes, parameters, and the paired differences.

    ``difference`` is to the baseline on the same network, ``peer_difference`` to the best peer on the same network,
    ``any_difference`` to the best peer on any network; always on the same data and labels. Which peer is best,
    validation says, not the test. Beside each of them the differences of the :data:`POOLED` scores, as
    ``miou_difference`` and ``peer_miou_difference``. ``mixed``: the configs or the test images changed between the
    seeds.
    """
    found = groups[group]
    row: dict[str, Any] = {**group._asdict(), "seeds": len(found)}
    tested = {str(result.get("lists", {}).get("test")) for result in found}
    row["mixed"] = len({result.get("definitions") for result in found}) > 1 or len(tested) > 1
    for name, (_, factor) in SCORES.items():
        if all(name not in r["scores"] for r in found):
            continue
        values = [factor * r["scores"][name] for r in found if r["scores"].get(name) is not None]
        row[name], row[f"{name}_sd"] = mean_sd(values)
    row["hd95_unit"] = found[0].get("distance_unit", "px")
    row["validation_dice"] = validation_dice(found)
    row["minutes"], row["minutes_sd"] = mean_sd(r["train_minutes"] for r in found)
    row["parameters"] = found[0]["network_parameters"]
    row |= against(found, groups.get(group._replace(method=baseline)) if group.method != baseline else None)
    if group.method not in (baseline, *peers):
        for prefix, networks in (("peer_", {group.network}), ("any_", {other.network for other in groups})):
            best = best_peer(group, groups, peers, networks)
            row[f"{prefix}name"] = f"{best.method} on {best.network}" if best else ""
            row |= against(found, groups[best] if best else None, prefix)
    return row


def against(found: Sequence[Result], other: Sequence[Result] | None, prefix: str = "") -> dict[str, Any]:
    """``difference``, ``low`` and ``high`` of :func:`paired`, and the whole of :func:`paired_pooled`, with a prefix."""
    row = dict.fromkeys(f"{prefix}{key}" for key in ("difference", "low", "high"))
    if other:
        row |= zip(row, paired(found, other) or ())
        for score in POOLED:
            pooled = paired_pooled(found, other, score)
            row |= {f"{prefix}{score}_{key}": value for key, value in (pooled._asdict() if pooled else {}).items()}
    return row


def compared(groups: Groups, comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """One row for each pair of groups a comparison names: ``ours``, ``theirs`` and what :func:`paired` says."""
    rows = {}
    for ours, theirs in comparisons:
        same = [key for key in Group._fields if key not in (*ours, *theirs)]
        for one in (group for group in groups if chosen(group, ours)):
            for other in (group for group in groups if chosen(group, theirs) and group != one):
                if all(getattr(one, key) == getattr(other, key) for key in same):
                    rows[one, other] = {"ours": one, "theirs": other, **against(groups[one], groups[other])}
    return list(rows.values())


def chosen(group: Group, values: Mapping[str, Sequence]) -> bool:
    """Whether the group has one of the values of every key."""
    return all(getattr(group, key) in allowed for key, allowed in values.items())


def best_peer(group: Group, groups: Groups, peers: Sequence[str], networks: Iterable[str]) -> Group | None:
    """The peer on these networks, same data and labels, of the highest Dice on the validation images.

    The peers are compared on the seeds that all of them have: one with a single lucky seed is not the best by it.
    """
    named = (group._replace(network=network, method=peer) for network in networks for peer in peers)
    rivals = {rival: groups[rival] for rival in named if rival in groups}
    shared = set.intersection(*({r["seed"] for r in found} for found in rivals.values())) if rivals else set()
    scored = {
        rival: validation_dice([r for r in found if r["seed"] in shared or not shared]) or 0.0
        for rival, found in rivals.items()
    }
    return max(scored, key=scored.__getitem__, default=None)


def validation_dice(found: Sequence[Result]) -> float | None:
    """Mean over the seeds of the Dice of the chosen weights on the validation images, in percent."""
    return mean_sd(100 * max(r["validation"]["val_mean_dice"]) for r in found if r["validation"]["val_mean_dice"])[0]


def mean_sd(values: Iterable[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation of the sample; None where there are too few values."""
    values = list(values)
    mean = math.fsum(values) / len(values) if values else None
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return mean, spread


def paired(found: Sequence[Result], other: Sequence[Result], resamples: int = RESAMPLES) -> Difference | None:
    """Mean difference of the Dice over the cases that both scored; None where there are none.

    Each case is first averaged over the seeds that both have; the cases are then drawn with replacement (percentile
    interval, Efron and Tibshirani 1993, chapter 13). It says how sure the difference is on other images, for these
    trained networks; the spread over seeds stands beside it.
    """
    seeds = {r["seed"] for r in found} & {r["seed"] for r in other}
    ours, theirs = (case_means([r["cases"] for r in side if r["seed"] in seeds]) for side in (found, other))
    differences = np.array([100 * (ours[key] - theirs[key]) for key in sorted(ours.keys() & theirs.keys())])
    if not len(differences):
        return None
    resampled = differences[draws(len(differences), resamples)].mean(axis=1)
    return Difference(float(differences.mean()), *interval(resampled), len(seeds))


def paired_pooled(
    found: Sequence[Result], other: Sequence[Result], score: str, resamples: int = RESAMPLES
) -> Difference | None:
    """Difference of a :data:`POOLED` score; None where there are no seeds and cases whose tables both sides have.

    As :func:`paired`: the cases are drawn, the same ones for both sides and all seeds, and the pixels of those drawn
    pooled for each seed.
    """
    sides = [{r["seed"]: r["confusion"] for r in side if r.get("confusion")} for side in (found, other)]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    tables = [side[seed] for side in sides for seed in seeds]
    names = [name for name in tables[0] if all(name in table for table in tables)] if tables else []
    if not names:
        return None
    # (sides x seeds, cases, K, K)
    counts = torch.tensor([[table[name] for name in names] for table in tables], dtype=torch.float64)
    everything = torch.ones(1, len(names), dtype=torch.float64)
    weights = torch.cat([everything, torch.from_numpy(multiplicities(len(names), resamples))])
    values = 100 * POOLED[score](torch.einsum("rn,snij->srij", weights, counts))
    differences = (values[: len(seeds)] - values[len(seeds) :]).mean(dim=0).numpy()
    return Difference(float(differences[0]), *interval(differences[1:]), len(seeds))


def draws(count: int, resamples: int) -> np.ndarray:
    """The cases of every resample, (resamples, count) indices; always the same ones."""
    return np.random.default_rng(0).integers(0, count, (resamples, count))


@lru_cache(maxsize=4)
def multiplicities(count: int, resamples: int) -> np.ndarray:
    """How often each case comes in each of the :func:`draws`, (resamples, count)."""
    cells = draws(count, resamples) + count * np.arange(resamples)[:, None]
    return np.bincount(cells.ravel(), minlength=count * resamples).reshape(resamples, count).astype(float)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the values."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def case_means(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean by key over tables, of the keys that all of them have."""
    keys = [key for key in tables[0] if all(key in table for table in tables)] if tables else []
    return {key: math.fsum(table[key] for table in tables) / len(tables) for key in keys}
