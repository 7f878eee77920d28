# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Statistics and tables of the benchmark against plain versions."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.benchmark.statistics import Group, best_peer, case_means, grouped, mean_sd, paired, summaries
from bundle.benchmark.suite import Suite
from bundle.benchmark.tables import markdown


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


def test_paired_interval_against_a_plain_version():
    ours, theirs = results(0.05, 0.1), results(0.0, 0.1)
    difference, low, high = paired(ours, theirs)
    values = []
    for n in range(60):
        mine = sum(r["cases"][f"c{n}"] for r in ours) / 2
        other = sum(r["cases"][f"c{n}"] for r in theirs) / 2
        values.append(100 * (mine - other))
    assert difference == pytest.approx(sum(values) / 60)
    error = np.std(values, ddof=1) / 60**0.5
    assert low == pytest.approx(difference - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(difference + 1.96 * error, abs=0.1 * error)


def test_pairing_takes_what_all_cases_share_out_of_the_interval():
    difference, low, high = paired(results(0.05, 0.0), results(0.0, 0.0))
    assert difference == pytest.approx(5) and high - low < 1e-6


def test_only_seeds_that_both_have_are_paired():
    ours, theirs = results(0.05, 0.0, seeds=(0, 1)), results(0.0, 0.0, seeds=(1, 2))
    ours[0]["cases"] = {key: 9.0 for key in ours[0]["cases"]}
    assert paired(ours, theirs)[0] == pytest.approx(5)
    assert paired(results(0, 0, seeds=(0,)), results(0, 0, seeds=(1,))) == (None, None, None)


def whole(method, dice, validation, network="n", ratio=0.05, seed=0):
    """A result whose cases all have the same Dice."""
    names = ("mean_dice", "mean_dice_lesion", "worst_decile_dice", "miou", "mean_recall")
    return {
        **{"data": "set", "label_ratio": ratio, "network": network, "method": method, "seed": seed},
        "scores": {**{name: dice for name in names}, "hd95": None},
        "train_minutes": 2.0,
        "network_parameters": 1_364_142,
        "validation": {"val_mean_dice": [0.1, validation, 0.2]},
        "cases": {"a": dice, "b": dice},
    }


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


def test_tables_have_a_line_a_method_and_a_dash_where_there_is_no_score():
    rows = summaries(
        grouped([whole("ours", 0.7, 0.1), whole("plain", 0.6, 0.1), whole("cps", 0.65, 0.1)]), "plain", ["cps"]
    )
    text = markdown(rows, Suite("s", (), "plain", ("cps",)))
    assert "**set, 5 % of the labels**" in text and "| Dice - plain | Dice - best peer |" in text
    assert (
        "| ours | n | 1.36 M | 1 | 70.0 | 70.0 | 70.0 | 70.0 | - | 70.0 | 2.0 | +10.0 (+10.0 to +10.0) | +5.0 (" in text
    )
    assert text.index("| ours |") < text.index("| cps |") < text.index("| plain |")
