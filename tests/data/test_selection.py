# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Splits and labelled images: nested, stable for a seed, whole groups, refused when out of range."""

from __future__ import annotations

import json

import pytest

from scripts.data import load_datalist
from scripts.data.selection import _Holders, are_strata, hash_order, labelled_count, shared_starts
from scripts.errors import InputError

KEYS = [f"k{index:02d}" for index in range(40)]
SPLIT = {"train": KEYS[:28][::-1], "val": KEYS[28:32], "test": KEYS[32:]}


def keys_of(datalist, name):
    return [item["key"] for item in datalist[name]]


@pytest.fixture
def own(tmp_path):
    """40 images each of its own group; listing opens no file, so the files are empty."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for key in KEYS:
            (tmp_path / folder / f"{key}.png").touch()
    return tmp_path


@pytest.mark.parametrize("seed", [0, 1])
def test_labelled_lists_are_nested_across_ratios_and_counts(own, seed):
    lists = [keys_of(load_datalist(own, ratio, seed), "training") for ratio in (0.05, 3, 0.2, 10, 0.5, 1.0)]
    assert [len(labelled) for labelled in lists] == [2, 3, 6, 10, 14, 28]
    for smaller, larger in zip(lists, lists[1:]):
        assert larger[: len(smaller)] == smaller


def test_labelled_and_unlabelled_are_disjoint_and_complete(own):
    datalist = load_datalist(own, 0.2)
    labelled, unlabelled = set(keys_of(datalist, "training")), set(keys_of(datalist, "unlabeled"))
    assert not labelled & unlabelled and len(labelled | unlabelled) == 28
    assert not any("label" in item for item in datalist["unlabeled"])


def test_the_seed_chooses_labelled_images_but_never_the_split(own):
    first, again, other = (load_datalist(own, 0.2, seed) for seed in (0, 0, 1))
    assert first == again
    assert keys_of(first, "test") == keys_of(other, "test")
    assert keys_of(first, "validation") == keys_of(other, "validation")
    assert keys_of(first, "training") != keys_of(other, "training")


def test_shares_of_the_split(own):
    datalist = load_datalist(own, val_share=0.2, test_share=0.3)
    assert [len(datalist[name]) for name in ("training", "validation", "test")] == [20, 8, 12]
    for shares in ({"val_share": 0.0}, {"test_share": -0.1}, {"val_share": 0.5, "test_share": 0.5}):
        with pytest.raises(InputError, match="must be positive and sum to less than 1"):
            load_datalist(own, **shares)


def test_pinned_order_is_kept_whatever_the_seed(own):
    (own / "splits.json").write_text(json.dumps(SPLIT))
    for seed in (0, 5):
        assert keys_of(load_datalist(own, 0.1, seed), "training") == SPLIT["train"][:3]


def test_a_label_seed_chooses_other_masks_pinned_or_not_and_never_the_split(own):
    unpinned = load_datalist(own, 0.2, label_seed=1)
    assert unpinned == load_datalist(own, 0.2, seed=1)
    (own / "splits.json").write_text(json.dumps(SPLIT))
    pinned, one, again, two = (load_datalist(own, 0.2, seed, label_seed=n) for seed, n in enumerate((None, 1, 1, 2)))
    assert one == again and [item["label"] for item in one["training"]] != [item["label"] for item in two["training"]]
    assert len({tuple(keys_of(datalist, "training")) for datalist in (pinned, one, two)}) == 3
    for datalist in (one, two):
        assert len(datalist["training"]) == 6 and datalist["test"] == pinned["test"]
        assert sorted(keys_of(datalist, "training") + keys_of(datalist, "unlabeled")) == sorted(SPLIT["train"])
        larger = keys_of(load_datalist(own, 0.5, label_seed=1 if datalist is one else 2), "training")
        assert larger[:6] == keys_of(datalist, "training")


@pytest.mark.parametrize("label_seed", ["1", 1.0, True])
def test_a_label_seed_is_a_whole_number(own, label_seed):
    with pytest.raises(InputError, match="label_seed"):
        load_datalist(own, 0.2, label_seed=label_seed)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5, 29, 2.5, float("nan"), True, "half", None])
def test_label_ratio_out_of_range(own, ratio):
    with pytest.raises(InputError, match="label_ratio"):
        load_datalist(own, ratio)


def test_a_ratio_that_leaves_one_image_is_refused(own):
    with pytest.raises(InputError, match="fewer than 2 labelled images"):
        load_datalist(own, 0.01)
    assert len(load_datalist(own, 2)["training"]) == 2


@pytest.mark.parametrize(
    ("groups", "ratio", "expected"),
    [
        ([f"g{index}" for index in range(100)], 0.07, 7),  # 0.07 * 100 is above 7 in floating point
        ([f"g{index}" for index in range(710)], 0.05, 36),
        ([f"p{index // 10}" for index in range(70)], 0.3, 30),  # slices: 3 of 7 patients
        (["a", "a", *"bcdefghij"], 0.3, 4),  # a pair of duplicates does not make patients
        (["a", "b"] * 10, 0.3, 6),  # kinds of images, not in one piece
        ([f"p{index // 10}" for index in range(70)], 25, 25),
        ([f"p{index // 10}" for index in range(70)], 1.0, 70),
    ],
)
def test_labelled_count(groups, ratio, expected):
    assert labelled_count(groups, ratio) == expected


def test_one_training_mask_is_too_few():
    with pytest.raises(InputError, match="1 training images have a mask"):
        labelled_count(["a"], 1.0)


def test_hash_order_does_not_move_when_names_are_added():
    few, many = hash_order(KEYS[:10], "salt"), hash_order(KEYS, "salt")
    assert [key for key in many if key in few] == few
    assert few != hash_order(KEYS[:10], "pepper")


def test_images_without_mask_of_a_held_out_group_are_left_out(pairs_set, caplog):
    groups = {f"{group}{index}": group for group in "abcdef" for index in range(2)}
    bare = [f"{group}1" for group in "abcdef"]
    with caplog.at_level("INFO", logger="less_net"):
        datalist = load_datalist(pairs_set(groups, bare=bare))
    held_out = {item["group"] for name in ("validation", "test") for item in datalist[name]}
    assert len(held_out) == 2 and len(datalist["unlabeled"]) == 4
    assert not held_out & {item["group"] for item in datalist["unlabeled"]}
    assert "2 images are not used" in caplog.text


def test_a_group_of_a_rare_class_stands_for_its_common_classes_too():
    items = [{"key": group, "group": group, "image": group, "label": group} for group in "ABCD"]
    holders = _Holders(items, {"A": {1}, "B": {1, 2}, "C": {1, 2}, "D": {1}}, 1)
    assert holders.one_of_each(list("ABCD"), dict.fromkeys("ABCD", 1), 1) == {"B"}


def test_a_set_of_two_patients_cannot_be_split(pairs_set):
    with pytest.raises(InputError, match="in 1 groups, are too few to take validation images from"):
        load_datalist(pairs_set({f"k{index}": f"p{index // 6}" for index in range(12)}))


def sides_of(sizes):
    return {
        side: [
            {"group": group, "key": f"{side}{group}{index}"} for group, size in groups.items() for index in range(size)
        ]
        for side, groups in sizes.items()
    }


def test_few_large_groups_on_all_sides_are_kinds_of_images():
    kinds = {"train": {"x": 70, "y": 70}, "val": {"x": 10, "y": 10}, "test": {"x": 20, "y": 20}}
    assert are_strata(sides_of(kinds))


@pytest.mark.parametrize(
    "sizes",
    [
        {"train": {"x": 70, "y": 70}, "val": {"x": 10}, "test": {"y": 20}},
        {"train": {"x": 7, "y": 7}, "val": {"x": 1, "y": 1}, "test": {"x": 2, "y": 2}},
        {side: {f"p{index}": 30 for index in range(25)} for side in ("train", "val", "test")},
    ],
)
def test_patients_on_several_sides_are_no_kinds_of_images(sizes):
    assert not are_strata(sides_of(sizes))


def test_names_that_look_like_patients_are_told(folder_set, caplog):
    keys = [f"patient{number:03d}_frame{frame}" for number in range(4) for frame in range(3)]
    root = folder_set(keys)
    with caplog.at_level("WARNING", logger="less_net"):
        load_datalist(root)
    assert "begin in 4 ways (patient000, patient001, patient002" in caplog.text
    pattern = caplog.text.split("--group_pattern '")[1].split("'")[0]
    caplog.clear()
    with caplog.at_level("WARNING", logger="less_net"):
        lists = load_datalist(root, group_pattern=pattern)
    assert not caplog.text
    sides = [{item["group"] for item in lists[name]} for name in ("training", "validation", "test")]
    assert all(a.isdisjoint(b) for a in sides for b in sides if a is not b)


@pytest.mark.parametrize("names", [["a1", "b2", "c3"], ["img_1", "img_2"], ["p1_a", "p1_b"], ["p1_a", "p2_a"]])
def test_names_that_tell_nothing(names):
    assert shared_starts(names) == []
