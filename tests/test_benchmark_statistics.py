# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Statistics of the benchmark against plain versions."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.benchmark.statistics import (
    Group,
    best_peer,
    case_means,
    compared,
    draws,
    grouped,
    mean_sd,
    paired,
    paired_pooled,
    summaries,
)
from bundle.benchmark.suite import Comparison, Suite
from bundle.benchmark.tables import markdown
from tests.small_suite import whole


def test_mean_and_spread():
    mean, spread = mean_sd([1.0, 2.0, 6.0])
    assert mean == 3 and spread == pytest.approx((((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2) ** 0.5)
    assert mean_sd([4.0]) == (4, None) and mean_sd([]) == (None, None)


def test_cases_are_averaged_over_seeds():
    assert case_means([{"a": 0.2, "b": 1.0}, {"a": 0.4, "b": 0.0}]) == pytest.approx({"a": 0.3, "b": 0.5})


def results(offset: float, noise: float, seeds=(0, 1)) -> list[dict]:
    base = np.random.default_rng(0).random(60)
    rng = np.random.default_rng(round(1000 * offset))
    return [
        {"seed": seed, "cases": {f"c{n}": float(base[n] + offset + noise * rng.standard_normal()) for n in range(60)}}
        for seed in seeds
    ]


def test_seeds_are_compared_on_the_cases_that_all_have():
    assert case_means([{"a": 1.0, "b": 0.0}, {"b": 1.0, "c": 1.0}]) == {"b": 0.5}


def test_paired_interval_against_a_plain_version():
    ours, theirs = results(0.05, 0.1), results(0.0, 0.1)
    difference, low, high, seeds = paired(ours, theirs)
    values = []
    for n in range(60):
        mine = sum(r["cases"][f"c{n}"] for r in ours) / 2
        other = sum(r["cases"][f"c{n}"] for r in theirs) / 2
        values.append(100 * (mine - other))
    assert difference == pytest.approx(sum(values) / 60) and seeds == len(ours) == 2
    error = np.std(values, ddof=1) / 60**0.5
    assert low == pytest.approx(difference - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(difference + 1.96 * error, abs=0.1 * error)


def test_pairing_takes_what_all_cases_share_out_of_the_interval():
    difference, low, high, _ = paired(results(0.05, 0.0), results(0.0, 0.0))
    assert difference == pytest.approx(5) and high - low < 1e-6


def test_only_seeds_that_both_have_are_paired():
    ours, theirs = results(0.05, 0.0, seeds=(0, 1)), results(0.0, 0.0, seeds=(1, 2))
    ours[0]["cases"] = {key: 9.0 for key in ours[0]["cases"]}
    found = paired(ours, theirs)
    assert found.difference == pytest.approx(5) and found.paired_seeds == 1
    assert paired(results(0, 0, seeds=(0,)), results(0, 0, seeds=(1,))) is None


def plain_pooled(tables, score):
    """mIoU or mean recall in percent of tables (K x K lists) whose pixels are pooled, class by class."""
    classes = range(len(tables[0]))
    pooled = [[sum(table[r][p] for table in tables) for p in classes] for r in classes]
    values = []
    for k in classes:
        found = sum(pooled[k])
        union = found + sum(row[k] for row in pooled) - pooled[k][k]
        whole = union if score == "miou" else found
        if whole:
            values.append(pooled[k][k] / whole)
    return 100 * sum(values) / len(values)


@pytest.mark.parametrize("score", ["miou", "mean_recall"])
@pytest.mark.parametrize("classes", [2, 4])
def test_pooled_interval_against_a_plain_version(score, classes):
    rng, names = np.random.default_rng(0), [f"c{n}" for n in range(9)]

    def side(seeds, more):
        tables = rng.integers(0, 40, (len(seeds), len(names), classes, classes))
        tables[..., -1, :] = 0  # the last class is in no reference
        tables[:, :, 0, 0] += more
        return [
            {"seed": seed, "confusion": {name: table.tolist() for name, table in zip(names, one)}}
            for seed, one in zip(seeds, tables)
        ]

    ours, theirs = side((0, 1, 2), 50), side((1, 2, 3), 0)
    del theirs[2]["confusion"]["c3"]  # of a seed that ours lack: nothing to do with the others
    ours[2]["confusion"]["other"] = ours[2]["confusion"]["c0"]  # a case that not all have
    found = paired_pooled(ours, theirs, score, resamples=40)

    def difference(chosen):
        return np.mean(
            [
                plain_pooled([mine["confusion"][name] for name in chosen], score)
                - plain_pooled([other["confusion"][name] for name in chosen], score)
                for mine, other in zip(ours[1:], theirs[:2])
            ]
        )

    spread = [difference([names[n] for n in drawn]) for drawn in draws(len(names), 40)]
    assert found.paired_seeds == 2 and found.difference == pytest.approx(difference(names))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(spread, (2.5, 97.5))))
    assert found.low < found.difference < found.high


def test_seeds_without_pixels_have_no_pooled_difference():
    with_pixels = [{"seed": seed, "confusion": {"a": [[8, 1], [1, 2]]}} for seed in (0, 1)]
    assert paired_pooled([{"seed": 0}, {"seed": 1}], with_pixels, "miou") is None
    assert paired_pooled([{"seed": 0}, with_pixels[1]], with_pixels, "miou").paired_seeds == 1


def test_the_best_peer_is_chosen_on_validation_and_on_the_same_labels():
    groups = grouped(
        [
            *(whole("cps", 0.9, 0.5, seed=seed) for seed in (0, 1)),
            *(whole("bcp", 0.6, 0.7, seed=seed) for seed in (0, 1)),
            whole("bcp", 0.65, 0.8, network="other"),
            whole("cps", 0.99, 0.99, ratio=1.0),
            *(whole("ours", dice, 0.1, seed=seed) for seed, dice in enumerate((0.7, 0.8))),
            whole("plain", 0.5, 0.9),
        ]
    )
    ours = Group("set", 0.05, "n", "ours")
    assert best_peer(ours, groups, ["cps", "bcp"], ["n"]) == Group("set", 0.05, "n", "bcp")
    assert best_peer(ours, groups, ["cps", "bcp"], ["n", "other"]) == Group("set", 0.05, "other", "bcp")
    assert best_peer(ours, groups, [], ["n"]) is None
    rows = {Group(*(row[key] for key in Group._fields)): row for row in summaries(groups, "plain", ["cps", "bcp"])}
    row = rows[ours]
    assert row["mean_dice"] == pytest.approx(75) and row["mean_dice_sd"] == pytest.approx(50**0.5)
    assert row["difference"] == pytest.approx(20)  # the one seed of the baseline
    assert row["peer_name"] == "bcp on n" and row["peer_difference"] == pytest.approx(15)
    assert row["any_name"] == "bcp on other" and row["any_difference"] == pytest.approx(5)
    peer = rows[ours._replace(method="cps")]
    assert "peer_difference" not in peer and peer["difference"] == pytest.approx(40)
    assert rows[Group("set", 0.05, "other", "bcp")]["difference"] is None  # no baseline on that network


def test_a_peer_is_not_the_best_by_one_lucky_seed():
    groups = grouped(
        [
            *(whole("cps", 0.6, validation, seed=seed) for seed, validation in enumerate((0.8, 0.6, 0.7))),
            whole("bcp", 0.5, 0.75),
            *(whole("ours", 0.7, 0.1, seed=seed) for seed in (0, 1, 2)),
        ]
    )
    ours = Group("set", 0.05, "n", "ours")
    assert best_peer(ours, groups, ["bcp", "cps"], ["n"]) == ours._replace(method="cps")
    apart = {**groups, ours._replace(method="bcp"): [whole("bcp", 0.5, 0.75, seed=9)]}  # no seed that both have
    assert best_peer(ours, apart, ["bcp", "cps"], ["n"]) == ours._replace(method="bcp")


def test_comparisons_pair_what_they_name_and_agree_in_the_rest():
    groups = grouped(
        [
            *(whole("ours", 0.7, 0.1, ratio=ratio, network=net) for ratio in (0.5, 1.0) for net in ("n", "other")),
            *(whole("cps", 0.6, 0.1, ratio=ratio, network=net) for ratio in (0.5, 1.0) for net in ("n", "other")),
        ]
    )
    half = Comparison({"method": ("ours",), "network": ("n",), "label_ratio": (0.5,)}, {"label_ratio": (1.0,)})
    rows = compared(groups, [half])
    assert {tuple(row["theirs"]) for row in rows} == {
        ("set", 1.0, net, method) for net in ("n", "other") for method in ("ours", "cps")
    }
    assert {row["ours"] for row in rows} == {Group("set", 0.5, "n", "ours")}
    networks = compared(groups, [Comparison({"network": ("n",)}, {"network": ("other",)})])
    assert len(networks) == 4 and all(row["ours"][1::2] == row["theirs"][1::2] for row in networks)
    assert all(row["difference"] == pytest.approx(0) for row in networks)
    text = markdown([], rows, Suite("s", ()))
    assert (
        "| set | ours on n, 50 % of the labels | cps on other, 100 % of the labels | +10.0 (+10.0 to +10.0) |" in text
    )
