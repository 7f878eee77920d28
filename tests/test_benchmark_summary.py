# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the benchmark shows of its results: tables, plots and the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from bundle.benchmark.plots import COLOURS, label_axis, leave_below, mean_curve, read_latencies
from bundle.benchmark.statistics import compared, grouped, summaries
from bundle.benchmark.suite import Comparison, Run, Suite
from bundle.benchmark.summary import write_summary
from bundle.benchmark.tables import markdown
from scripts.errors import InputError
from tests.small_suite import whole


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
