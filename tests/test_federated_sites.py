# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The sites of a federation: which images each has, and what is refused."""

import argparse
import json
import re
import shutil
from collections import Counter

import pytest

import bundle.federate as command
from bundle.federate.sites import write_sites
from scripts.data import load_datalist
from scripts.errors import InputError
from tests.test_federated import SETTINGS


def test_training_images_are_dealt_out_and_masks_stay_behind(tmp_path, synthetic_set):
    sites, everything = write_sites(["7:0.5", "3:0"], str(synthetic_set), tmp_path, SETTINGS)
    whole = load_datalist(str(synthetic_set))
    lists = [json.loads(site.datalist.read_text()) for site in (*sites, everything)]
    assert [len(one["training"]) for one in lists] == [5, 0, 5]
    assert [len(one["unlabeled"]) for one in lists] == [2, 3, 5]
    assert not any("label" in item for one in lists for item in one["unlabeled"])
    used = [item["image"] for one in lists[:2] for part in ("training", "unlabeled") for item in one[part]]
    assert len(set(used)) == 10 and set(used) <= {item["image"] for item in whole["training"]}
    assert lists[1]["validation"] == lists[1]["test"] == [] and len(lists[0]["test"]) == len(whole["test"])
    assert sites[0].weight(0.5) == 6.0 and sites[1].weight(0.5) == 1.5
    read = load_datalist(str(sites[1].datalist), without_masks=True)
    assert read["training"] == [] and len(read["unlabeled"]) == 3
    with pytest.raises(InputError, match="holds no mask at all"):
        load_datalist(str(sites[1].datalist))


def test_images_of_a_patient_go_to_one_site_unless_the_numbers_part_them(patients, tmp_path, caplog):
    settings = {"num_classes": 4, "group_pattern": r"^(p\d+)_"}
    train = load_datalist(str(patients), **settings)["training"]
    counts = Counter(item["group"] for item in train)
    first = train[0]["group"]
    whole, _ = write_sites([str(counts[first]), "4:0"], str(patients), tmp_path / "whole", settings)
    assert {item["group"] for item in json.loads(whole[0].datalist.read_text())["training"]} == {first}
    write_sites([str(counts[first] - 1)], str(patients), tmp_path / "rest", settings)
    assert not caplog.text  # what the last site leaves is at no other one
    write_sites([str(counts[first] - 1), "1:0"], str(patients), tmp_path / "parted", settings)
    assert f"within the images of '{first}', which are at two sites" in caplog.text


def test_folders_may_be_sites_and_one_needs_images_only(tmp_path, synthetic_set, caplog):
    bare = tmp_path / "bare"
    shutil.copytree(synthetic_set / "images", bare)
    sites, everything = write_sites([str(synthetic_set), f"{bare}:0"], "", tmp_path / "sites", SETTINGS)
    count = len(list(bare.iterdir()))
    assert sites[1].counts == {"training": 0, "unlabeled": count, "validation": 0, "test": 0}
    assert everything.counts["unlabeled"] == sites[0].counts["unlabeled"] + count
    keys = [item["key"] for item in json.loads(everything.datalist.read_text())["unlabeled"]]
    assert len(set(keys)) == len(keys) and all(key.startswith("site") for key in keys)
    image = min(bare.iterdir())
    shutil.copy(image, bare / f"{image.stem}_mask.png")
    sites, _ = write_sites([str(synthetic_set), f"{bare}:0"], "", tmp_path / "again", SETTINGS)
    assert sites[1].counts["unlabeled"] == count and "1 file in" in caplog.text


def test_a_list_without_masks_may_be_a_site_that_uses_none(tmp_path, synthetic_set):
    copies = shutil.copytree(synthetic_set / "images", tmp_path / "copies")
    images = [str(path) for path in sorted(copies.iterdir())]
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "datalist.json").write_text(json.dumps({"unlabeled": images}))
    for site in (tmp_path / "bare", tmp_path / "bare" / "datalist.json"):
        sites, _ = write_sites([str(synthetic_set), f"{site}:0"], "", tmp_path / "sites", SETTINGS)
        assert sites[1].counts == {"training": 0, "unlabeled": len(images), "validation": 0, "test": 0}
    with pytest.raises(InputError, match="holds no mask at all"):
        write_sites([str(synthetic_set), f"{tmp_path / 'bare'}:0.5"], "", tmp_path / "sites", SETTINGS)


def test_a_folder_with_masks_may_be_a_site_that_uses_none(tmp_path, synthetic_set):
    sites, everything = write_sites([str(synthetic_set), f"{synthetic_set}:0"], "", tmp_path, SETTINGS)
    assert sites[1].counts == sites[0].counts | {"training": 0, "unlabeled": 10, "validation": 0, "test": 0}
    assert everything.counts["test"] == sites[0].counts["test"] > 0
    assert len(load_datalist(str(sites[1].datalist), without_masks=True)["unlabeled"]) == 10
    whole = load_datalist(str(everything.datalist))  # what the trained networks are judged on
    assert (len(whole["training"]), len(whole["unlabeled"])) == (10, 0)


def test_an_image_that_a_site_holds_out_is_not_trained_on_at_another(tmp_path, synthetic_set):
    with pytest.raises(InputError, match="is a training image at one site and a (validation|test) image at another"):
        write_sites([str(synthetic_set), f"{synthetic_set / 'images'}:0"], "", tmp_path, SETTINGS)


@pytest.mark.parametrize(
    "specs, sentence",
    [
        (["5:0", "5:0"], "no site has a mask to learn from"),
        (["6:1.5"], "the ratio 1.5 is beyond 0 to 1"),
        (["500"], "want 500 training images, but .* give smaller numbers"),
        (["somewhere"], "with --data give a number of training images"),
    ],
)
def test_bad_sites_are_refused(tmp_path, synthetic_set, specs, sentence):
    with pytest.raises(InputError, match=sentence):
        write_sites(specs, str(synthetic_set), tmp_path, SETTINGS)


@pytest.fixture
def patients(tmp_path):
    """A prepared set of 4 classes: ten patients with four slices each, in no given groups, volumes or parts."""
    names = [f"p{patient}_{frame}_slice_{n}" for patient in range(10) for frame in "ab" for n in (1, 2)]
    for name in names:
        for part in ("images", "masks"):  # listing opens no image
            path = tmp_path / "patients" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    items = [{"image": f"images/{name}.png", "label": f"masks/{name}.png"} for name in names]
    path = tmp_path / "patients" / "datalist.json"
    path.write_text(json.dumps({"num_classes": 4, "training": items}))
    return path.parent


@pytest.fixture
def site_lists(tmp_path, monkeypatch):
    """What ``federate`` with these arguments writes for its first site; nothing is trained."""
    monkeypatch.setattr(command, "compare", lambda *arguments, **options: "")

    def written(*arguments):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        output = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        command.run(parser.parse_args([*map(str, arguments), "--output", str(output)]))
        lists = json.loads((output / "sites" / "site1.json").read_text())
        return {part: items for part, items in lists.items() if isinstance(items, list)}

    return written


def on_two_sides(lists):
    """Patients with images in more than one part."""
    sides = {part: {re.search(r"p\d+", item["key"])[0] for item in items} for part, items in lists.items()}
    return [patient for patient in set().union(*sides.values()) if sum(patient in side for side in sides.values()) > 1]


@pytest.mark.parametrize("sites", ["folder", "numbers"])
def test_a_group_pattern_keeps_patients_together(patients, site_lists, sites):
    given = ["--sites", patients] if sites == "folder" else ["--data", patients, "--sites", "20"]
    assert on_two_sides(site_lists(*given, "--settings", "num_classes=4"))
    lists = site_lists(*given, "--settings", "num_classes=4", r"group_pattern=^(p\d+)_")
    assert all(lists[part] for part in ("training", "validation", "test")) and not on_two_sides(lists)


def test_an_overlay_says_how_the_sites_are_read_and_settings_overrule_it(patients, site_lists, tmp_path):
    with pytest.raises(InputError, match="has 4 classes, but num_classes is 2: pass --settings num_classes=4"):
        site_lists("--sites", patients)
    overlay = tmp_path / "data.yaml"
    overlay.write_text(json.dumps({"num_classes": 4, "volume_pattern": r"(.*)_slice_\d+"}))
    for config in (overlay, "configs/data/acdc.yaml"):
        lists = site_lists("--sites", patients, "--configs", config)
        assert {item["volume"] for items in lists.values() for item in items} == {
            f"site1_p{patient}_{frame}" for patient in range(10) for frame in "ab"
        }
    with pytest.raises(InputError, match="num_classes is 3"):
        site_lists("--sites", patients, "--configs", overlay, "--settings", "num_classes=3")
    with pytest.raises(InputError, match="--configs nowhere.yaml: there is no file"):
        site_lists("--sites", patients, "--configs", "nowhere.yaml")


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("lerning_rate=0.1", "unknown key lerning_rate: did you mean learning_rate"),
        ("method#treshold=0.9", "unknown key method#treshold: did you mean method#threshold"),
        ("batch_size=0", "batch_size is 0: give a whole number of at least 1"),
        ("group_pattern=3", "group_pattern '3' is not a regular expression"),
        ("patience=3", "patience: a federation runs all of its rounds: drop it"),
    ],
)
def test_settings_are_looked_at_before_the_first_round(patients, site_lists, setting, sentence):
    with pytest.raises(InputError, match=sentence):
        site_lists("--sites", patients, "--settings", "num_classes=4", setting)
    assert not (patients.parent / "run0" / command.PLAN).exists()


def test_with_scribbles_a_site_counts_the_images_that_have_one(patients, site_lists):
    path = patients / "datalist.json"
    content = json.loads(path.read_text())
    for item in content["training"][::2]:
        item["scribble"] = item["label"].replace("masks", "scribbles")
    path.write_text(json.dumps(content))
    settings = ["--settings", "num_classes=4", "annotation=scribble"]
    lists = site_lists("--sites", patients, *settings)
    assert lists["training"] and lists["unlabeled"]
    assert all(item["label"] == item["scribble"] for item in lists["training"])
    read = load_datalist(patients.parent / "run0" / "sites" / "site1.json", num_classes=4, annotation="scribble")
    assert {part: len(items) for part, items in read.items()} == {part: len(items) for part, items in lists.items()}
