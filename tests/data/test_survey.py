# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The survey of a data set: every kind of problem is found, named and told apart; the numbers are right."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import nibabel
import numpy as np
import pytest
from PIL import Image

from scripts.data.survey import survey
from scripts.data.survey_report import report
from scripts.data.tallies import lesion_sizes, quantiles, shares
from scripts.errors import InputError
from tests.folders import pairs

KEYS = [f"k{index:02d}" for index in range(12)]
SPLIT = {"train": KEYS[:8], "val": KEYS[8:10], "test": KEYS[10:]}


@pytest.fixture
def root(folder_set):
    """Twelve pairs with a pinned split, nothing wrong."""
    root = folder_set(KEYS)
    for index, key in enumerate(KEYS):
        save(noise(seed=index), root / f"images/{key}.png")
    (root / "splits.json").write_text(json.dumps(SPLIT))
    return root


def save(values, path):
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)


def noise(size=(8, 12), seed=99):
    return np.random.default_rng(seed).integers(0, 200, (*size, 3), dtype=np.uint8)


def kinds(found):
    return sorted({problem.kind for problem in found.problems})


def test_a_good_set_has_no_problem_and_right_numbers(root):
    numbers = report(survey(root))
    assert numbers["clean"] and numbers["problems"] == [] == numbers["notes"]
    assert numbers["counts"] == {"training": 8, "unlabeled": 0, "validation": 2, "test": 2, "unused": 0}
    assert numbers["images"] == {
        "sizes": {"12 x 8": 12},
        "channels": {"3": 12},
        "dtypes": {"uint8": 12},
        "formats": {"png": 12},
        "spacings": {"unknown": 12},
    }
    assert (numbers["num_classes"], numbers["num_classes_inferred"]) == (2, True)
    training = numbers["lists"]["training"]
    assert training["class_pixels"] == [8 * 86, 8 * 10] and training["class_shares"][1] == round(10 / 96, 6)
    assert numbers["lesions"]["1"]["count"] == 12 and numbers["lesions"]["1"]["pixels"]["median"] == 10
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers


def a_float_image(path, value):
    image = np.random.default_rng(0).random((12, 8, 1)).astype(np.float32)
    image[3, 3] = value
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path)


def replace_by_nan(root):
    (root / "images/k00.png").unlink()
    a_float_image(root / "images/k00.nii.gz", np.nan)


def truncate(path):
    path.write_bytes(path.read_bytes()[:60])


def jpeg_mask(root):
    (root / "masks/k00.png").unlink()
    values = np.zeros((8, 12), np.uint8)
    values[2:5, 3:6] = 255
    Image.fromarray(values).save(root / "masks/k00.jpg", quality=50)


def empty_masks(root, keys):
    for key in keys:
        save(np.zeros((8, 12)), root / f"masks/{key}.png")


def extra_image(root, name):
    save(noise(seed=98), root / "images" / name)


def missing_column_file(root):
    lines = ["key,image,mask"] + [f"{key},images/{key}.png,masks/{key}.png" for key in KEYS]
    (root / "pairs.csv").write_text("\n".join(lines))
    (root / "masks/k03.png").unlink()


def grouped(root):
    lines = ["key,image,mask,group"] + [f"{key},images/{key}.png,masks/{key}.png,g" for key in (KEYS[0], KEYS[9])]
    lines += [f"{key},images/{key}.png,masks/{key}.png,{key}" for key in KEYS if key not in (KEYS[0], KEYS[9])]
    (root / "pairs.csv").write_text("\n".join(lines))


DAMAGES = {
    "unreadable": (lambda root: truncate(root / "images/k00.png"), "k00.png"),
    "missing": (missing_column_file, "k03.png"),
    "nan": (replace_by_nan, "k00.nii.gz"),
    "size": (lambda root: save(np.zeros((12, 8)), root / "masks/k00.png"), "k00.png"),
    "mask_values": (lambda root: save(np.eye(8, 12) * 7, root / "masks/k00.png"), "k00.png"),
    "no_image": (lambda root: (root / "images/k03.png").unlink(), "k03.png"),
    "no_mask": (lambda root: (root / "masks/k10.png").unlink(), "k10.png"),
    "duplicate_key": (lambda root: extra_image(root, "k05.bmp"), "k05.png"),
    "group_on_two_sides": (grouped, "k09.png"),
    "mask_is_image": (lambda root: shutil.copy(root / "masks/k00.png", root / "images/k00.png"), "k00.png"),
    "all_masks_empty": (lambda root: empty_masks(root, KEYS), "set"),
    "absent_class": (lambda root: empty_masks(root, KEYS[:8]), "set"),
    "duplicate_on_two_sides": (lambda root: shutil.copy(root / "images/k00.png", root / "images/k10.png"), "k00.png"),
    "layout": (lambda root: (root / "splits.json").write_text("{cut"), "set"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_is_found_and_named(root, kind):
    damage, name = DAMAGES[kind]
    damage(root)
    found = survey(root)
    problems = [problem for problem in found.problems if problem.kind == kind]
    assert problems and problems[0].file.endswith(name), found.problems
    assert name in problems[0].message
    allowed = {"no_image": {"split"}, "duplicate_key": {"split"}}.get(kind, set())
    assert set(kinds(found)) <= {kind} | allowed, found.problems
    assert sum(map(len, found.lists.values())) >= 11, "the rest is read all the same"


def test_a_jpeg_mask_is_a_problem_where_it_is_blurred_and_a_note_anyhow(root):
    jpeg_mask(root)
    found = survey(root, num_classes=2)
    assert kinds(found) == ["mask_values"] and "is a JPEG" in found.problems[0].message
    found = survey(root)
    assert kinds(found) == ["mask_values"] and found.num_classes == 2
    (root / "masks/k00.jpg").unlink()
    Image.new("L", (12, 8)).save(root / "masks/k00.jpg")
    found = survey(root)
    assert not found.problems and [note.kind for note in found.notes] == ["lossy_mask"]


def test_copies_on_one_side_are_a_note_and_a_problem_where_masks_differ(root):
    shutil.copy(root / "images/k00.png", root / "images/k01.png")
    found = survey(root)
    assert not found.problems and [note.kind for note in found.notes] == ["duplicate"] and found.duplicates == 1
    save(np.eye(8, 12) * 255, root / "masks/k01.png")
    found = survey(root)
    assert kinds(found) == ["duplicate_with_other_mask"] and "masks/k00.png" in found.problems[0].message


def test_mixed_kinds_are_notes(root):
    save(noise()[..., 0], root / "images/k00.png")
    save(noise((12, 8)), root / "images/k01.png")
    save(np.eye(12, 8) * 255, root / "masks/k01.png")
    found = survey(root)
    assert not found.problems
    assert {note.kind for note in found.notes} == {"mixed_channels", "mixed_orientations"}
    assert kinds(survey(root, in_channels=4)) == ["channels"]
    assert not survey(root, in_channels=3).problems, "grey is repeated to three channels"


def test_every_problem_is_told_in_one_go(root):
    for kind in ("unreadable", "mask_values", "duplicate_on_two_sides"):
        DAMAGES[kind][0](root)
        root_image = root / "images/k00.png"
        if kind == "unreadable":
            shutil.move(root_image, root / "keep.png")
            shutil.copy(root / "images/k01.png", root_image)
    shutil.move(root / "keep.png", root / "images/k02.png")
    assert {"unreadable", "mask_values", "duplicate_on_two_sides"} <= set(kinds(survey(root)))


def test_an_image_listed_twice_under_two_keys(root):
    lines = ["key,image,mask"] + [f"{key},images/{key}.png,masks/{key}.png" for key in KEYS]
    (root / "pairs.csv").write_text("\n".join([*lines, "again,images/k00.png,masks/k00.png"]))
    (root / "splits.json").write_text(json.dumps(SPLIT | {"train": [*KEYS[:8], "again"]}))
    assert kinds(survey(root)) == ["duplicate_image"]


def test_masks_of_unlabelled_images_are_opened(root):
    (root / "splits.json").write_text(json.dumps(SPLIT | {"train": KEYS[:7]}))
    truncate(root / "masks/k07.png")
    found = survey(root)
    assert len(found.lists["unused"]) == 1 and kinds(found) == ["unreadable"]


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
    save(strokes + 3, root / "scribbles/k00.png")
    assert kinds(survey(root)) == kinds(survey(root, num_classes=2)) == ["scribble_values"]


def test_spacing_gives_square_millimetres(root):
    lines = ["key,image,mask,spacing,volume"]
    lines += [f"{key},images/{key}.png,masks/{key}.png,0.5 2 8,v{index // 6}" for index, key in enumerate(KEYS)]
    (root / "pairs.csv").write_text("\n".join(lines))
    numbers = report(survey(root))
    assert numbers["lesions"]["1"]["square_mm"]["median"] == 10 and numbers["images"]["spacings"] == {"0.5 2 8": 12}
    assert numbers["volumes"]["count"] == 2 and numbers["volumes"]["images"]["max"] == 6


def test_paths_that_are_no_data_set_are_refused(tmp_path, root):
    for path, message in ((tmp_path / "none", "does not exist"), (tmp_path, "not a dataset folder")):
        with pytest.raises(InputError, match=message):
            survey(path)
    with pytest.raises(InputError, match="num_classes is 1"):
        survey(root, num_classes=1)
    with pytest.raises(InputError, match="group_pattern"):
        survey(root, group_pattern="(")


def test_a_damaged_listing_is_a_problem_of_a_data_set(tmp_path):
    (tmp_path / "list.json").write_text("{cut")
    found = survey(tmp_path / "list.json")
    assert [problem.kind for problem in found.problems][0] == "layout" and "list.json" in found.problems[0].message


def test_lesion_sizes_and_quantiles_by_hand():
    region = np.zeros((6, 6), bool)
    region[0, 0] = region[1, 1] = region[4, 3:6] = True
    assert sorted(lesion_sizes(region)) == [2, 3]
    assert quantiles([]) is None and quantiles([3, 1, 2])["median"] == 2
    assert shares([1, 3]) == [0.25, 0.75] and shares([0, 0]) == [0, 0]


@pytest.mark.slow
def test_two_thousand_images_need_little_memory(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index in range(2000):
        save(noise((24, 24), index), tmp_path / f"images/i{index:04d}.png")
        save(np.eye(24) * 255, tmp_path / f"masks/i{index:04d}.png")
    survey(tmp_path)  # imports and caches
    tracemalloc.start()
    found = survey(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.problems and report(found)["lesions"]["1"]["count"] == 2000
    assert peak / 2000 < 6000, f"{peak / 2000:.0f} bytes an item"


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


def test_names_that_look_like_several_images_a_patient_are_a_note(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for index, (image, mask) in enumerate(pairs(12)):
        name = f"P{index // 3}_frame{index % 3}.png"
        save(image, tmp_path / "images" / name)
        save(mask, tmp_path / "masks" / name)
    found = survey(tmp_path)
    (note,) = [vars(note) for note in found.notes]
    assert not found.problems and note["kind"] == "names_alike"
    assert "begin in 4 ways (P0, P1, P2, ...)" in note["message"] and "--group_pattern" in note["message"]
    assert survey(tmp_path, group_pattern=r"^(P\d+)_").notes == []
