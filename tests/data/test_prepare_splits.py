# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How `prepare` splits: patients, groups, equal images, pinned sides."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from bundle.prepare import command
from scripts.data import load_datalist
from scripts.data.prepare import Options, prepare
from tests.folders import mixed_folder, pairs, save
from tests.preparing import NAMES, everything, left_out, refused, run


def test_every_class_reaches_every_side_and_groups_stay_whole(tmp_path):
    for index, (image, mask) in enumerate(pairs(40, size=16)):
        mask = mask + 1 * (mask > 0) * (index // 2 in (3, 7, 11))
        save(tmp_path / f"src/images/p{index // 2:02d}_{index % 2}.png", image)
        save(tmp_path / f"src/masks/p{index // 2:02d}_{index % 2}.png", mask.astype(np.uint8))
    for seed in range(5):
        shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
        report, datalist = run(tmp_path / "src", group_by=r"pattern:(p\d+)_", seed=seed)
        assert all(report.classes[2][name] == 2 for name in ("training", "validation", "test"))
        groups = [{item["group"] for item in datalist[name]} for name in NAMES]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_equal_images_become_one_group_whatever_their_format(tmp_path):
    made = pairs(12, colour=False)
    for index, (image, mask) in enumerate(made):
        save(tmp_path / f"src/images/{index:02d}.png", image)
        save(tmp_path / f"src/masks/{index:02d}.png", mask)
    save(tmp_path / "src/images/12.tif", made[3][0])
    save(tmp_path / "src/masks/12.png", made[3][1])
    save(tmp_path / "src/images/13.bmp", np.stack([made[3][0]] * 3, -1))
    _, datalist = run(tmp_path / "src")
    groups = {item["key"]: item["group"] for item in everything(datalist)}
    assert groups["12"] == groups["13"] == groups["03"] and len(set(groups.values())) == 12


def test_a_copy_on_a_less_protected_side_is_left_out(tmp_path):
    made = pairs(9)
    for side, numbers in {"train": (0, 1, 2, 3, 4, 5), "val": (6, 7, 4), "test": (8, 7, 5)}.items():
        for index in numbers:
            save(tmp_path / f"src/{side}/images/{side}{index}.png", made[index][0])
            save(tmp_path / f"src/{side}/masks/{side}{index}.png", made[index][1])
    report, _ = run(tmp_path / "src")
    assert report.images == {"training": 4, "unlabeled": 0, "validation": 2, "test": 3}
    assert set(left_out(tmp_path / "prepared")) == {"train4.png", "train5.png", "val7.png"}
    assert "test7.png on the side 'test'" in left_out(tmp_path / "prepared")["val7.png"]


def test_patients_of_a_column_or_a_folder(tmp_path):
    rows = ["photo;truth;person"]
    for index, (image, mask) in enumerate(pairs(12)):
        save(tmp_path / f"src/p{index // 2}/img{index}.jpg", image)
        save(tmp_path / f"src/p{index // 2}/truth{index}.png", mask)
        rows.append(f"p{index // 2}/img{index}.jpg;p{index // 2}/truth{index}.png;person {index // 2}")
    (tmp_path / "src/table.csv").write_text("\n".join(rows))
    columns = "image=photo,mask=truth"
    for option, expected in (("column:person", "person 0"), ("folder", "p0")):
        shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
        _, datalist = run(tmp_path / "src", columns=columns, group_by=option)
        groups = {item["key"]: item["group"] for item in everything(datalist)}
        assert groups["img0"] == groups["img1"] == expected and len(set(groups.values())) == 6
    refused(tmp_path / "src", "img0.jpg has nothing in the column 'age'", columns=columns, group_by="column:age")
    refused(tmp_path / "src", "--group-by is 'patient'", columns=columns, group_by="patient")


def test_a_pattern_that_finds_no_patient_is_refused_and_one_that_misses_some_is_told(tmp_path, caplog):
    for index, (image, mask) in enumerate(pairs(12)):
        save(tmp_path / f"src/images/p{index // 2}_{index}.png", image)
        save(tmp_path / f"src/masks/p{index // 2}_{index}.png", mask)
    message = refused(tmp_path / "src", "the pattern of --group-by .* finds nothing", group_by=r"pattern:^(P\d+)_")
    assert "in any of the 12 names, such as p0_0" in message
    _, datalist = run(tmp_path / "src", group_by="pattern:^(p[0-4])_")
    assert "finds nothing in 2 of the 12 names, such as p5_10" in caplog.text
    assert {item["group"] for item in everything(datalist)} == {*(f"p{n}" for n in range(5)), "p5_10", "p5_11"}


def pinned(root, groups):
    """Images on the sides that ``groups`` names, each with a group."""
    rows = ["key,image,mask,group,split"]
    made = iter(pairs(sum(len(names) for names in groups.values()), 16))
    for side, names in groups.items():
        for number, group in enumerate(names):
            image, mask = next(made)
            paths = f"images/{side}{number}.png", f"masks/{side}{number}.png"
            save(root / paths[0], image)
            save(root / paths[1], mask)
            rows.append(f"{side}{number},{paths[0]},{paths[1]},{group},{side}")
    (root / "pairs.csv").write_text("\n".join(rows))
    return root


def test_a_patient_on_two_pinned_sides_is_refused_and_a_kind_of_image_is_not(tmp_path):
    refused(pinned(tmp_path / "a", {"train": "ppqq", "val": "r", "test": "ps"}), "group 'p' is in both train and test")
    kinds = {"train": "x" * 30 + "y" * 30, "val": "x" * 10 + "y" * 10, "test": "xy" * 10}
    _, datalist = run(pinned(tmp_path / "b", kinds))
    assert len({item["group"] for item in everything(datalist)}) == 100


def test_the_split_does_not_depend_on_what_it_need_not(tmp_path):
    source = mixed_folder(tmp_path / "src", pairs(30, 16))
    lists = [run(source, tmp_path / f"o{n}", seed=seed)[1] for n, seed in enumerate((0, 0, 1))]
    tests = [{item["key"] for item in datalist["test"]} for datalist in lists]
    assert tests[0] == tests[1] != tests[2]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("P{}/{}", "6 folders (P0, P1, P2, ...)"),
        ("P{}_{}", "begin in 6 ways (P0, P1, P2, ...)"),
        ("{1}", ""),
        ("IMG_{}{}", ""),
    ],
)
def test_what_looks_like_patients_is_told(tmp_path, caplog, name, told):
    for index, (image, mask) in enumerate(pairs(12)):
        save(tmp_path / f"src/images/{name.format(index // 2, index)}.png", image)
        save(tmp_path / f"src/masks/{name.format(index // 2, index)}.png", mask)
    run(tmp_path / "src")
    assert ("--group-by" in caplog.text) == bool(told) and told in caplog.text
    if told:
        option = re.search("add --group-by '?(folder|pattern:[^']+)", caplog.text).group(1)
        caplog.clear()
        report, datalist = run(tmp_path / "src", tmp_path / "again", group_by=option)
        assert "--group-by" not in caplog.text and report.images["test"] == 2
        assert len({item["group"] for item in everything(datalist)}) == 6


def test_a_set_that_cannot_be_trained_on_is_taken_away_again(tmp_path):
    message = refused(
        pinned(tmp_path / "src", {"train": "p", "val": "q", "test": "r"}), "1 training images have a mask"
    )
    assert ".part" not in message


def test_a_set_for_evaluation_alone_is_prepared_as_it_is(tmp_path):
    report = prepare(pinned(tmp_path / "src", {"test": "pq"}), tmp_path / "out", Options())
    assert report.images == {"training": 0, "unlabeled": 0, "validation": 0, "test": 2}
    assert report.annotation == "mask" and "run evaluating" in command(report) and "--part all" in command(report)
    assert len(load_datalist(tmp_path / "out", part="all")["test"]) == 2


@pytest.mark.parametrize("layout", ["", "csv"])
def test_a_word_that_is_no_side_is_refused(tmp_path, layout):
    source = pinned(tmp_path / "src", {"train": "pqrs", "val": "t", "holdout": "u"})
    refused(source, "The column 'split' of .*pairs.csv has 'holdout' in row 7", layout=layout)


def test_other_words_for_sides_pin_the_split(tmp_path):
    _, datalist = run(pinned(tmp_path / "src", {"training": "pqrs", "valid": "t", "testing": "u"}), layout="csv")
    assert [len(datalist[name]) for name in NAMES] == [4, 0, 1, 1]
