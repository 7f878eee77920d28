# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the survey makes of the values in masks and scribbles: classes, ignored pixels, and what is neither."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from scripts.data.survey import survey
from scripts.data.survey_report import report
from tests.surveyed import KEYS, a_good_set, kinds, save


@pytest.fixture
def root(folder_set):
    return a_good_set(folder_set(KEYS))


@pytest.mark.parametrize("values, classes", [((0, 1), 2), ((0, 1, 2, 3), 4), (range(7), 7), ((0, 1, 255), 2)])
def test_the_number_of_classes_is_told_by_the_values(root, values, classes):
    for index, key in enumerate(KEYS):
        save(np.resize(np.roll(values, index), (8, 12)), root / f"masks/{key}.png")
    found = survey(root)
    assert found.num_classes == classes and found.inferred and not found.problems
    assert survey(root, num_classes=classes).tallies["training"].counts.tolist() == (
        found.tallies["training"].counts.tolist()
    )
    if classes == 7:
        assert kinds(survey(root, num_classes=5)) == ["mask_values"]
        assert kinds(survey(root, num_classes=8)) == ["absent_class"]


def test_given_and_inferred_two_classes_agree_on_masks_of_0_and_255(root):
    given, inferred = survey(root, num_classes=2), survey(root)
    assert report(given) | {"num_classes_inferred": True} == report(inferred)


def test_a_set_of_many_classes_reads_255_as_ignored(root):
    save(np.resize([0, 1, 2], (8, 12)), root / "masks/k00.png")
    numbers = report(survey(root))
    assert numbers["num_classes"] == 3 and set(numbers["lists"]["test"]["other_values"]) == {"255"}
    assert numbers["lists"]["test"]["class_pixels"] == [172, 0, 0] and list(numbers["lesions"]) == ["1", "2"]


def test_masks_of_0_and_ignored_pixels_are_empty_whether_the_classes_are_given_or_not(root):
    for key in KEYS:
        save(np.resize([0, 255], (8, 12)), root / f"masks/{key}.png")
    save(np.resize([0, 1, 2], (8, 12)), root / "masks/k00.png")
    given, inferred = report(survey(root, num_classes=3)), report(survey(root))
    assert given["lists"] == inferred["lists"]
    assert sum(one["empty_masks"] for one in inferred["lists"].values()) == len(KEYS) - 1


def test_a_border_of_255_beside_masks_of_0_and_255_is_found(root):
    values = np.zeros((8, 12))
    values[0], values[2:4] = 255, 1
    save(values, root / "masks/k00.png")
    assert kinds(survey(root)) == kinds(survey(root, num_classes=2)) == ["mixed_255"]
    assert "mixed_255" not in kinds(survey(root, num_classes=3))


def test_another_ignore_value_is_no_class(root):
    save(np.resize([0, 1, 9], (8, 12)), root / "masks/k00.png")
    assert kinds(survey(root, num_classes=2)) == ["mask_values"]
    for classes in (2, None):
        found = survey(root, num_classes=classes, ignore_value=9)
        assert not found.problems and found.num_classes == 2 and found.tallies["training"].counts[255] == 32


def test_scribbles_are_measured_against_their_masks(root):
    (root / "scribbles").mkdir()
    lines = ["key,image,mask,scribble"]
    lines += [f"{key},images/{key}.png,masks/{key}.png,scribbles/{key}.png" for key in KEYS]
    (root / "pairs.csv").write_text("\n".join(lines))
    strokes = np.full((8, 12), 2)
    strokes[2, 1:6], strokes[6, 1:4] = 1, 0
    strokes[0, 0] = 1  # the background of the mask
    for key in KEYS:
        save(strokes, root / f"scribbles/{key}.png")
    for found in (survey(root), survey(root, num_classes=2)):
        numbers = report(found)["scribbles"]
        assert not found.problems
        assert numbers["coverage"] == round(9 / 96, 6) and numbers["stroke_shares"] == [
            round(3 / 9, 6),
            round(6 / 9, 6),
        ]
        assert numbers["class_coverage"] == [round(3 / 86, 6), 0.6] and numbers["off_class"] == [0, round(1 / 6, 6)]
    for key in KEYS:
        save(np.where(strokes == 0, 2, strokes), root / f"scribbles/{key}.png")
    assert report(survey(root))["scribbles"]["off_class"] == [0, round(1 / 6, 6)]  # no stroke, none off its class
    save(strokes + 3, root / "scribbles/k00.png")
    assert kinds(survey(root)) == kinds(survey(root, num_classes=2)) == ["scribble_values"]


def test_scribbles_that_training_would_read_as_masks_are_found(root):
    (root / "scribbles").mkdir()
    rows = ["key,image,mask,scribble"]
    for n, key in enumerate(KEYS):
        scribble = np.full((8, 12), 255)
        scribble[0], scribble[1] = 0, min(n, 1)  # no lesion is drawn on the first
        save(scribble, root / f"scribbles/{key}.png")
        rows.append(f"{key},images/{key}.png,masks/{key}.png,scribbles/{key}.png")
    (root / "pairs.csv").write_text("\n".join(rows))
    for classes, problems in ((None, ["k00.png"]), (2, ["k00.png"]), (3, [])):
        found = [problem for problem in survey(root, num_classes=classes).problems if problem.kind == "scribble_values"]
        assert [problem.file[-7:] for problem in found] == problems, classes


def noting(root, **notes):
    """A datalist of the set beside it, with notes as ``prepare`` writes them."""
    lists = {"training": KEYS[:8], "validation": KEYS[8:10], "test": KEYS[10:]}
    listed = {
        name: [{"image": f"images/{key}.png", "label": f"masks/{key}.png"} for key in keys]
        for name, keys in lists.items()
    }
    (root / "datalist.json").write_text(json.dumps(notes | listed))
    return root / "datalist.json"


def test_what_the_datalist_notes_of_classes_and_ignored_pixels_is_the_default(root):
    for key in KEYS:
        save(np.resize([0, 1, 2], (8, 12)), root / f"masks/{key}.png")
    save(np.resize([0, 2], (8, 12)), root / "masks/k00.png")  # no lesion, but ignored pixels
    listing = noting(root, num_classes=2, ignore_value=2)
    found = survey(listing)
    assert not found.problems and (found.num_classes, found.inferred, found.ignore_value) == (2, False, 2)
    assert found.tallies["training"].counts[[1, 2, 255]].tolist() == [7 * 32, 0, 7 * 32 + 48]
    assert survey(listing, num_classes=3).num_classes == 3
    assert not survey(listing, num_classes=3).problems, "the user makes a class of the noted value"
    assert kinds(survey(listing, ignore_value=255)) == ["mask_values"]
    assert survey(noting(root)).num_classes == 3


@pytest.mark.parametrize(
    "notes", [{"num_classes": 1}, {"num_classes": "2"}, {"ignore_value": "2"}, {"ignore_value": True}]
)
def test_a_wrong_note_is_a_problem_of_the_listing(root, notes):
    found = survey(noting(root, **notes))
    name, value = next(iter(notes.items()))
    assert kinds(found) == ["layout"] and f"datalist.json notes {name} {value!r}" in found.problems[0].message


def test_ignored_pixels_are_no_lesion_while_the_classes_are_counted(root):
    for key in KEYS:
        save(np.resize([0, 1], (8, 12)), root / f"masks/{key}.png")
    save(np.resize([0, 9], (8, 12)), root / "masks/k00.png")
    found = survey(root, ignore_value=9)
    assert not found.problems and found.num_classes == 2
    assert found.tallies["training"].counts[[1, 255]].tolist() == [7 * 48, 48]


def test_scribbles_hold_the_ignored_value_where_nobody_drew(root):
    (root / "scribbles").mkdir()
    rows = ["key,image,mask,scribble"]
    for n, key in enumerate(KEYS):
        scribble = np.full((8, 12), 9)
        scribble[0], scribble[1] = 0, min(n, 1)  # 0 and 9 alone are not 0 and 255
        save(scribble, root / f"scribbles/{key}.png")
        rows.append(f"{key},images/{key}.png,masks/{key}.png,scribbles/{key}.png")
    (root / "pairs.csv").write_text("\n".join(rows))
    for classes in (2, None):
        found = survey(root, classes, 3, 9)
        assert not found.problems, classes
        assert report(found)["scribbles"]["coverage"] == 0.25
        assert kinds(survey(root, classes)) == ["scribble_values"]
    save(np.resize([0, 1, 7], (8, 12)), root / "scribbles/k00.png")
    assert kinds(survey(root, 2, 3, 9)) == kinds(survey(root, None, 3, 9)) == ["scribble_values"]
    for key in KEYS:  # a value of more than 8 bits
        scribble = np.resize([0, 1, 300], (8, 12)).astype(np.uint16)
        Image.fromarray(scribble).save(root / f"scribbles/{key}.png")
    for classes in (2, None):
        assert not survey(root, classes, 3, 300).problems


def test_values_of_16_bits_are_told_without_a_range_of_classes_that_nobody_gave(root):
    Image.fromarray(np.resize([0, 65535], (8, 12)).astype(np.uint16)).save(root / "masks/k00.png")
    (problem,) = survey(root).problems
    assert problem.kind == "mask_values" and "the value 65535" in problem.message
    assert "prepare --values 65535=1'" in problem.message and "classes are" not in problem.message
    assert "the classes are 0 to 1" in survey(root, num_classes=2).problems[0].message
