# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Statistics and tables of the benchmark against plain versions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from bundle.benchmark.plots import COLOURS, label_axis, leave_below, mean_curve, read_latencies
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
from bundle.benchmark.suite import Comparison, Run, Suite
from bundle.benchmark.summary import write_summary
from bundle.benchmark.tables import markdown
from scripts.errors import InputError


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


def whole(method, dice, validation, network="n", ratio=0.05, seed=0):
    """A result whose cases all have the same Dice."""
    names = ("mean_dice", "mean_dice_lesion", "worst_decile_dice", "miou", "mean_recall")
    return {
        **{"data": "set", "label_ratio": ratio, "network": network, "method": method, "seed": seed},
        "scores": {**{name: dice for name in names}, "hd95": None},
        "train_minutes": 2.0,
        "network_parameters": {"n": 1_364_142}.get(network, 31_042_434),
        **{"commit": "abc", "device": "cpu", "versions": {"torch": "2", "monai": "1"}},
        "commands": {"train": "python <train>"},
        "validation": {"minutes": [0.5, 1.0, 2.0], "iteration": [1, 2, 3], "val_mean_dice": [0.1, validation, 0.2]},
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


def test_tables_have_a_line_a_method_and_a_dash_where_there_is_no_score():
    rows = summaries(
        grouped([whole("ours", 0.7, 0.1), whole("plain", 0.6, 0.1), whole("cps", 0.65, 0.1)]), "plain", ["cps"]
    )
    text = markdown(rows, [], Suite("s", (), "plain", ("cps",)))
    assert "**set, 5 % of the labels**" in text and "| Dice - plain | Dice - best peer |" in text
    assert (
        "| ours | n | 1.36 M | 1 | 70.0 | 70.0 | 70.0 | 70.0 | - | 70.0 | 2.0 | +10.0 (+10.0 to +10.0) | +5.0 (" in text
    )
    assert text.index("| ours |") < text.index("| cps |") < text.index("| plain |")
    assert "Scored on" not in text and "the test images changed" in text


@pytest.mark.parametrize(
    ("part", "words"), [("unlabeled", "training images without a mask"), ("validation", "validation images")]
)
def test_scores_of_other_images_than_the_test_images_say_so(part, words, tmp_path):
    results = [whole(name, 0.7, 0.1, ratio=ratio) for name in ("ours", "plain") for ratio in (0.5, 1.0)]
    runs = tuple(Run("set", "n", r["method"], r["label_ratio"], 0, part=part) for r in results)
    text = write_summary(Suite("s", runs, "plain"), results, tmp_path)
    assert f"Scored on the {words}. " in text and "test images" not in text
    page = (tmp_path / "index.html").read_text()
    assert f"Dice on the {words} by labels" in page and "test images" not in page


def test_pooled_differences_have_a_table_of_their_own_and_columns_among_the_comparisons():
    """mIoU of ours (8/10 + 2/4) / 2 = 65, of the others (7/11 + 1/5) / 2 = 41.8; mean recall 77.8 and 55.6."""
    good, bad = {"confusion": {"a": [[8, 1], [1, 2]]}}, {"confusion": {"a": [[7, 2], [2, 1]]}}
    results = [
        *(whole("ours", 0.7, 0.1, seed=seed) | good for seed in (0, 1)),
        *(whole("plain", 0.6, 0.1, seed=seed) | (bad if seed else {}) for seed in (0, 1)),
        *(whole("cps", 0.65, 0.1, seed=seed) | bad for seed in (0, 1)),
    ]
    comparison = Comparison({"method": ("ours",)}, {"method": ("plain",)})
    groups = grouped(results)
    rows, pairs = summaries(groups, "plain", ["cps"]), compared(groups, [comparison])
    text = markdown(rows, pairs, Suite("s", (), "plain", ("cps",)))
    title, rest = text.split("**Differences in pooled scores**")[1].split("**Comparisons**")
    miou, recall = "+23.2 (+23.2 to +23.2)", "+22.2 (+22.2 to +22.2)"
    assert "| mIoU - plain | mean recall - plain | mIoU - best peer | mean recall - best peer |" in title
    assert f"| ours | n | {miou}, 1 seed | {recall}, 1 seed | {miou}, 2 seeds, cps | {recall}, 2 seeds, cps |" in title
    assert "| cps | n | +0.0 (+0.0 to +0.0), 1 seed |" in title and "| plain |" not in title
    assert "mIoU, ours - theirs" in rest and f"| +10.0 (+10.0 to +10.0) | {miou}, 1 seed | {recall}, 1 seed |" in rest


@pytest.mark.parametrize("changed", [{"definitions": "b"}, {"lists": {"test": {"count": 3, "fingerprint": "b"}}}])
def test_seeds_of_different_configs_or_test_images_are_marked(changed):
    results = [whole("ours", 0.7, 0.1, seed=seed) | (changed if seed else {}) for seed in (0, 1)]
    assert "| 2* |" in markdown(summaries(grouped(results)), [], Suite("s", ()))
    assert "| 1 |" in markdown(summaries(grouped(results[:1])), [], Suite("s", ()))


def test_curves_are_averaged_as_far_as_all_go():
    short = {"minutes": [1.0, 2.0], "val_mean_dice": [0.2, 0.4]}
    minutes, dice = mean_curve([short, {"minutes": [3.0, 4.0, 5.0], "val_mean_dice": [0.4, 0.8, 0.9]}])
    assert minutes.tolist() == [2, 3] and dice.tolist() == pytest.approx([30, 60])


def test_latencies_are_those_of_pytorch_one_image_smallest_size_most_threads(tmp_path):
    def timed(name, size=64, batch=1, threads=2, ms=1.0):
        return {"name": name, "size": size, "batch": batch, "threads": threads, "ms": [0.1, ms, 99.0]}

    networks = [{"name": "a", "backend": "PyTorch", "parameters": 7}, {"name": "b", "backend": "ONNX", "parameters": 7}]
    rows = [timed("a", ms=5.0), timed("a", size=128), timed("a", batch=8), timed("a", threads=1), timed("b", ms=2.0)]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"networks": networks, "inference": rows}))
    assert read_latencies(str(path)) == {7: 5.0}
    path.write_text("{}")
    with pytest.raises(InputError, match="no bench.json"):
        read_latencies(str(path))


def test_numbers_of_labels_are_not_drawn_as_percent_beside_shares():
    assert label_axis({0.5, 0.05}) == ("log", "labels, %", {0.05: (5, "5"), 0.5: (50, "50")})
    assert label_axis({36, 15}) == ("log", "labels", {15: (15, "15"), 36: (36, "36")})
    scale, title, places = label_axis({0.05, 20, 1.0})
    assert scale == "linear" and places == {0.05: (0, "5 %"), 1.0: (1, "100 %"), 20: (2, "20")}


def test_a_training_that_fell_is_named_at_the_foot_and_does_not_press_the_others_into_a_line():
    axes = Figure().subplots()
    points = [(5, 74.0, "red"), (5, 71.0, "green"), (50, 78.0, "red"), (100, 36.04, "blue"), (100, 0.0, "black")]
    for x, dice, colour in points:
        axes.plot(x, dice, marker="o", color=colour)
    leave_below(axes, points)
    low, high = axes.get_ylim()
    assert 60 < low < 71 and 78 < high < 90
    assert [(text.get_text(), text.get_color()) for text in axes.texts] == [("0.0", "black"), ("36.0", "blue")]
    assert len({text.xyann for text in axes.texts}) == 2  # at one place, above each other
    limits = axes.get_ylim()
    leave_below(axes, points[:3])
    leave_below(axes, [])
    assert axes.get_ylim() == limits and len(axes.texts) == 2


def suite_of(results, **more):
    runs = [Run(r["data"], r["network"], r["method"], r["label_ratio"], r["seed"]) for r in results]
    return Suite("some", tuple(runs), "plain", ("cps",), **more)


def test_the_summary_is_tables_plots_and_one_page(tmp_path):
    results = [
        whole(method, 0.6 + 0.1 * ratio + 0.01 * seed, 0.5, network, ratio, seed)
        for method in ("ours", "plain", "cps")
        for network in ("n", "other")
        for ratio in (0.05, 0.5)
        for seed in (0, 1)
    ]
    text = write_summary(suite_of(results), results, tmp_path)
    assert (tmp_path / "tables.md").read_text() == text and text.count("| ours | n |") == 2
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"dice_by_labels.png", "dice_by_minutes.png", "dice_by_parameters.png"}
    for name in drawn:
        picture = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert min(picture.shape[:2]) > 300
        assert (picture == ImageColor.getrgb(COLOURS[0])).all(axis=2).sum() > 50  # the line of `ours`
    html = (tmp_path / "index.html").read_text()
    assert html.count("data:image/") == 3 and 'src="http' not in html
    assert "24 of 24 runs are done" in html and "python &lt;train&gt;" in html and html.count("<table>") == 2
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 12


def test_plots_show_the_methods_that_the_suite_names(tmp_path):
    results = [
        whole(name, 0.6 + 0.1 * ratio, 0.5, "n", ratio) for name in ("ours", "plain", "cps") for ratio in (0.05, 0.5)
    ]
    text = write_summary(suite_of(results, plotted=("plain", "cps")), results, tmp_path)
    assert text.count("| ours | n |") == 2
    for path in tmp_path.glob("*.png"):
        picture = np.asarray(Image.open(path).convert("RGB"))
        found = [(picture == ImageColor.getrgb(colour)).all(axis=2).sum() for colour in COLOURS[:2]]
        assert found[0] > 50 and found[1] == 0  # `cps`, and `ours`, which is not plotted
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_one_network_has_no_plot_against_its_size(tmp_path):
    several = [whole("ours", 0.6, 0.5, network) for network in ("n", "other")]
    write_summary(suite_of(several), several, tmp_path)
    assert (tmp_path / "dice_by_parameters.png").is_file()
    one = [whole(method, 0.6, 0.5) for method in ("ours", "plain")]
    write_summary(suite_of(one), one, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"dice_by_minutes.png"}  # the one of before is gone


def test_a_summary_of_nothing_yet(tmp_path):
    suite = suite_of([whole("ours", 0.6, 0.5)])
    write_summary(suite, [whole("ours", 0.6, 0.5)], tmp_path)
    write_summary(suite, [], tmp_path)
    assert not list(tmp_path.glob("*.png"))  # those of other results are gone
    assert "0 of 1 runs are done" in (tmp_path / "index.html").read_text()
