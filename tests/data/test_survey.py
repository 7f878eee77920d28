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
from tests.surveyed import KEYS, SPLIT, a_good_set, kinds, noise, save


@pytest.fixture
def root(folder_set):
    return a_good_set(folder_set(KEYS))


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
