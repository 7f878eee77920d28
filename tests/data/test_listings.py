# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""pairs.csv, splits.json and MONAI datalist JSON."""

from __future__ import annotations

import json

import pytest

from scripts.data import check_datalist, load_datalist
from scripts.data.listings import read_pairs_csv
from scripts.errors import InputError

GROUPS = {f"k{index}": f"g{index // 2}" for index in range(10)}
SPLIT = {"train": ["k5", "k4", "k1", "k0"], "val": ["k2", "k3"], "test": ["k6", "k7"]}


def keys_of(datalist, name):
    return [item["key"] for item in datalist[name]]


def write_datalist(root, name="datalist.json", **lists):
    (root / name).write_text(json.dumps(lists))
    return root / name


def pair(key):
    return {"image": f"images/{key}.png", "label": f"masks/{key}.png"}


def test_splits_json_pins_split_and_order(pairs_set):
    datalist = load_datalist(pairs_set(GROUPS, SPLIT))
    assert keys_of(datalist, "training") == SPLIT["train"]
    assert keys_of(datalist, "validation") == SPLIT["val"] and keys_of(datalist, "test") == SPLIT["test"]
    assert datalist["training"][0]["group"] == "g2"
    check_datalist(datalist)


def test_a_row_without_mask_is_unlabelled_and_scribbles_are_kept(pairs_set):
    root = pairs_set(GROUPS, SPLIT, bare=["k4"])
    rows = (root / "pairs.csv").read_text().splitlines()
    (root / "pairs.csv").write_text("\n".join([rows[0] + ",scribble", *(row + ",masks/k5.png" for row in rows[1:])]))
    datalist = load_datalist(root)
    assert keys_of(datalist, "unlabeled") == ["k4"] and set(datalist["unlabeled"][0]) == {"key", "image", "group"}
    assert datalist["training"][0]["scribble"].endswith("k5.png")


@pytest.mark.parametrize("key", ["../k0", "a/../../k0", "/tmp/k0", "..\\k0"])
def test_a_key_that_leads_out_of_the_results_is_refused(pairs_set, key):
    root = pairs_set(GROUPS)
    table = root / "pairs.csv"
    table.write_text(table.read_text().replace("k0,", f"{key},", 1))
    with pytest.raises(InputError, match=r"pairs.csv has the key '.*k0', which leads out .* without '\.\.'"):
        load_datalist(root)
    datalist = write_datalist(root, training=[pair("k0") | {"key": key}, pair("k1")])
    with pytest.raises(InputError, match="datalist.json has the key"):
        load_datalist(datalist)


def test_excel_csv_without_keys_is_read(pairs_set):
    root = pairs_set(GROUPS)
    lines = [line.split(",", 1)[1] for line in (root / "pairs.csv").read_text().splitlines()]
    (root / "pairs.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert sorted(key for name in load_datalist(root) for key in keys_of(load_datalist(root), name)) == sorted(GROUPS)


def test_without_splits_json_the_groups_stay_together(pairs_set):
    datalist = load_datalist(pairs_set(GROUPS))
    sides = [{item["group"] for item in datalist[name]} for name in ("training", "validation", "test")]
    assert all(sides) and sum(map(len, sides)) == 5


SIDES = [("train", "validation", "test"), ("Training", "valid", "TESTING"), ("train", "val", "test-set")]


@pytest.mark.parametrize(("names", "pinned"), [*((names, True) for names in SIDES), (("a", "b", "c"), False)])
def test_a_split_column_counts_if_it_holds_splits(pairs_set, names, pinned, caplog):
    root = pairs_set(GROUPS)
    side = {"g0": names[1], "g1": names[2]}
    rows = (root / "pairs.csv").read_text().splitlines()
    rows = [rows[0] + ",split", *(f"{row},{side.get(row.rsplit(',', 1)[1], names[0])}" for row in rows[1:])]
    (root / "pairs.csv").write_text("\n".join(rows))
    datalist = load_datalist(root)
    assert (keys_of(datalist, "validation") == ["k0", "k1"] and keys_of(datalist, "test") == ["k2", "k3"]) == pinned
    assert pinned or f"column 'split' of {root / 'pairs.csv'} names none of train, val and test" in caplog.text


def with_sides(root, side_of):
    """Adds the column ``split`` to pairs.csv."""
    header, *rows = (root / "pairs.csv").read_text().splitlines()
    rows = [f"{row},{side_of.get(row.split(',')[0], 'train')}" for row in rows]
    (root / "pairs.csv").write_text("\n".join([f"{header},split", *rows]))
    return root


def test_an_unlabelled_image_needs_no_side(pairs_set):
    root = with_sides(pairs_set(GROUPS, bare=["k9"]), {"k9": "", "k0": "test", "k1": "test", "k2": "val", "k3": "val"})
    datalist = load_datalist(root)
    assert keys_of(datalist, "unlabeled") == ["k9"] and keys_of(datalist, "test") == ["k0", "k1"]
    assert keys_of(datalist, "validation") == ["k2", "k3"]


@pytest.mark.parametrize("side", ["holdout", ""])
def test_half_a_column_of_sides_is_refused_since_another_split_would_train_on_test_images(pairs_set, side):
    root = with_sides(pairs_set(GROUPS), {"k0": "test", "k1": "test", "k6": side})
    with pytest.raises(InputError, match=f"The column 'split' of .*pairs.csv has '{side}' in row 8"):
        load_datalist(root)


@pytest.mark.parametrize("pinned", ["test", "val"])
def test_data_of_another_hospital_are_not_split(pairs_set, folder_set, pinned):
    """However the folder says that all its images are of one side; no part of them is to be trained on."""
    root = with_sides(pairs_set(GROUPS), dict.fromkeys(GROUPS, pinned))
    splits, lists = folder_set(["a", "b"], name="splits"), folder_set(["a", "b"], name="lists")
    (splits / "splits.json").write_text(json.dumps({pinned: ["a", "b"]}))
    write_datalist(lists, **{{"val": "validation"}.get(pinned, pinned): [pair("a"), pair("b")]})
    name = "validation" if pinned == "val" else "test"
    for folder, keys in ((root, list(GROUPS)), (splits, ["a", "b"]), (lists, ["a", "b"])):
        with pytest.raises(InputError, match="names no image to train on: .* --part all"):
            load_datalist(folder)
        for part, held in ((name, name), ("all", "test")):
            datalist = load_datalist(folder, part=part)
            assert keys_of(datalist, held) == keys and sum(map(len, datalist.values())) == len(keys)


def test_all_of_an_unsplit_folder_may_be_two_images_of_a_patient(folder_set, caplog):
    datalist = load_datalist(folder_set(["p1_a", "p1_b"], ["p1_c"]), group_pattern="(p[0-9])", part="all")
    assert keys_of(datalist, "test") == ["p1_a", "p1_b"] and sum(map(len, datalist.values())) == 2
    with pytest.raises(InputError, match="holds no mask at all"):
        load_datalist(write_datalist(folder_set(["a"], name="bare"), test=["images/a.png"]), part="all")


def test_other_words_for_the_lists_are_understood(folder_set):
    root = folder_set([f"k{index}" for index in range(8)])
    sides = {"train": "0123", "val": "45", "testing": "6"}
    lists = {side: [pair(f"k{index}") for index in indices] for side, indices in sides.items()}
    datalist = load_datalist(write_datalist(root, **lists, unlabelled=["images/k7.png"]))
    assert {name: sorted(keys_of(datalist, name)) for name in datalist} == {
        "training": ["k0", "k1", "k2", "k3"],
        "unlabeled": ["k7"],
        "validation": ["k4", "k5"],
        "test": ["k6"],
    }


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["k0", "k1", "nowhere"]}, "names the key 'nowhere'"),
        ({"train": ["k0", "k1"], "test": ["k1"]}, "'k1' 2 times"),
        ({"train": ["k0", "k2"], "val": ["k4"], "test": ["k1"]}, "group 'g0' is in both train and test .*one side in"),
        ({"fold": ["k0"]}, "must hold the lists train, val and test; it holds: fold"),
        ({"train": "k0"}, "must hold the lists"),
        ({"train": [{"image": "k0"}]}, "must hold the lists"),
        ({"train": ["k0"], "val": ["k1"], "validation": ["k2"]}, "each may stand once"),
    ],
)
def test_bad_splits(pairs_set, split, message):
    with pytest.raises(InputError, match=message):
        load_datalist(pairs_set(GROUPS, split))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("key,picture,mask\na,b,c\n", "no column 'image'"),
        ("", "no column 'image'"),
        ("key,image,mask\na,images/a.png,masks/a.png\na,images/b.png,masks/b.png\n", "lists the key 'a' twice"),
        ("key,image,mask\na,../secret.png,masks/a.png\n", "lies outside"),
        ("key,image,mask\na,/etc/a.png,masks/a.png\n", "lies outside"),
        ("key,image,mask\na,,masks/a.png\n", "row without an image"),
        ("key,image,mask\na,images/a.png,\n", "no mask at all"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        load_datalist(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_as_excel_saves_them(folder_set, encoding, separator):
    root = folder_set([f"k{index}" for index in range(6)])
    rows = [("image", "mask", "Patient ID", "Prüfer")]
    rows += [(rf"images\k{index}.png", rf"masks\k{index}.png", f"p{index // 2}", "Ä") for index in range(6)]
    (root / "pairs.csv").write_bytes("\r\n".join(map(separator.join, rows)).encode(encoding))
    items = read_pairs_csv(root).items
    assert {key: item["group"] for key, item in items.items()} == {f"k{index}": f"p{index // 2}" for index in range(6)}
    assert all(item["label"] == str(root / f"masks/{key}.png") for key, item in items.items())


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;;"])
def test_a_first_line_for_excel_is_no_header(folder_set, first):
    root = folder_set([f"k{index}" for index in range(6)])
    rows = [f"images/k{index}.png;masks/k{index}.png;p{index // 2}, left" for index in range(6)]
    (root / "pairs.csv").write_text("\n".join((first, "image;mask;patient", *rows)))
    assert [item["group"] for item in read_pairs_csv(root).items.values()][::2] == ["p0, left", "p1, left", "p2, left"]


def test_tables_in_another_encoding_are_refused(tmp_path):
    (tmp_path / "pairs.csv").write_bytes("key,image,mask\nä,b,c\n".encode("utf-16"))
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        load_datalist(tmp_path)


def test_a_monai_datalist_is_taken_over(folder_set):
    root = folder_set([f"k{index}" for index in range(6)], bare=["u0", "u1"])
    path = write_datalist(
        root,
        name="lists.json",
        training=[pair("k0"), pair("k1") | {"group": "p"}, {"image": "images/k2.png"}],
        unlabeled=["images/u0.png", {"image": str(root / "images/u1.png")}],
        validation=[pair("k3")],
        test=[pair("k4")],
    )
    datalist = load_datalist(path)
    assert sorted(keys_of(datalist, "training")) == ["k0", "k1"]
    assert sorted(keys_of(datalist, "unlabeled")) == ["k2", "u0", "u1"]
    assert {item["key"]: item["group"] for item in datalist["training"]} == {"k0": "k0", "k1": "p"}
    assert keys_of(datalist, "validation") == ["k3"] and keys_of(datalist, "test") == ["k4"]
    check_datalist(datalist)


@pytest.mark.parametrize("name", ["datalist.json", "dataset.json"])
def test_missing_lists_are_carved_out_by_group(folder_set, name):
    keys = [f"k{index}" for index in range(20)]
    root = folder_set(keys)
    write_datalist(root, name, training=[pair(key) | {"group": f"g{int(key[1:]) // 2}"} for key in keys])
    datalist = load_datalist(root)
    assert [len(datalist[side]) for side in ("training", "validation", "test")] == [14, 2, 4]


def test_the_masks_of_unlabelled_items_are_dropped(folder_set):
    root = folder_set([f"k{index}" for index in range(6)])
    write_datalist(root, training=[pair(f"k{index}") for index in range(5)], unlabeled=[pair("k5")])
    assert [set(item) for item in load_datalist(root)["unlabeled"]] == [{"key", "image", "group"}]


def test_repeated_stems_are_told_apart_by_their_folder(folder_set, tmp_path):
    for patient in "abcd":
        folder_set(["image"], name=f"set/{patient}")
    items = [{"image": f"{p}/images/image.png", "label": f"{p}/masks/image.png"} for p in "abcd"]
    datalist = load_datalist(write_datalist(tmp_path / "set", training=items))
    assert {key for name in datalist for key in keys_of(datalist, name)} == {f"{p}_images_image" for p in "abcd"}


def test_absolute_paths_may_lead_anywhere_and_relative_ones_may_not(folder_set, tmp_path):
    root = folder_set(["a", "b", "c", "d"])
    (tmp_path / "lists").mkdir()
    absolute = [{part: str(root / name) for part, name in pair(key).items()} for key in "abcd"]
    check_datalist(load_datalist(write_datalist(tmp_path / "lists", training=absolute)))
    with pytest.raises(InputError, match="lies outside"):
        load_datalist(write_datalist(tmp_path / "lists", training=[{"image": "../set/images/a.png"}]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1", "not valid JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"images": []}', "no list 'training'"),
        ('{"training": ["a.png"], "holdout": ["b.png"]}', "images under 'holdout', which is none of training"),
        ('{"training": ["a.png"], "val": [], "validation": ["b.png"]}', "validation images in two lists"),
        ('{"training": [{"label": "a.png"}]}', "item in 'training' without an image"),
        ('{"training": [{"image": "a.png"}, {"image": "a.png"}]}', "a.png twice"),
        ('{"training": []}', "holds no image"),
        ('{"training": ["a.png"], "validation": 5}', "no list but 5 under 'validation'"),
    ],
)
def test_bad_datalists(tmp_path, content, message):
    (tmp_path / "datalist.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_datalist(tmp_path)


def test_slices_keep_their_volume_and_spacing(pairs_set, folder_set):
    root = pairs_set({key: "" for key in GROUPS}, bare=["k9"])
    rows = (root / "pairs.csv").read_text().splitlines()
    extra = [",volume,slice,spacing", *(f",v{index // 2},{index % 2},0.5 0.5 5" for index in range(10))]
    (root / "pairs.csv").write_text("\n".join(map("".join, zip(rows, extra))))
    items = {item["key"]: item for items in load_datalist(root).values() for item in items}
    assert {key: items["k4"][key] for key in ("volume", "slice", "spacing", "group")} == {
        "volume": "v2",
        "slice": "0",
        "spacing": "0.5 0.5 5",
        "group": "v2",
    }
    facts = {"volume": "v", "slice": 0, "spacing": [0.5, 0.5, 5]}
    path = write_datalist(root, training=[pair(f"k{index}") for index in range(8)], unlabeled=[pair("k9") | facts])
    assert load_datalist(path)["unlabeled"] == [
        {"key": "k9", "image": str(root / "images/k9.png"), "group": "v"}
        | {"volume": "v", "slice": "0", "spacing": "0.5 0.5 5"}
    ]


def test_an_ordered_datalist_pins_the_labelled_images(folder_set):
    keys = [f"k{index}" for index in range(12)]
    lists = {"training": [pair(key) for key in keys[8::-1]], "validation": [pair("k9")], "test": [pair("k10")]}
    path = write_datalist(folder_set(keys), **lists, ordered=True)
    for seed in (0, 1):
        assert keys_of(load_datalist(path, 3, seed), "training") == ["k8", "k7", "k6"]
    orders = {
        tuple(keys_of(load_datalist(write_datalist(path.parent, **lists), 3, seed), "training")) for seed in (0, 1)
    }
    assert len(orders) == 2


def test_a_list_that_tells_its_classes_is_not_read_with_fewer(folder_set):
    keys = [f"k{index}" for index in range(12)]
    path = write_datalist(folder_set(keys), training=[pair(key) for key in keys], num_classes=4)
    with pytest.raises(InputError, match=r"datalist.json has 4 classes, but num_classes is 2: pass --num_classes 4"):
        load_datalist(path)
    assert len(load_datalist(path, num_classes=4)["training"]) > 2


def scribble_set(pairs_set):
    """Twelve images with masks, all but k11 with a scribble."""
    keys = [f"k{index}" for index in range(12)]
    root = pairs_set(dict.fromkeys(keys, ""), {"train": keys[:1] + keys[4:], "val": ["k2"], "test": ["k3"]})
    rows = (root / "pairs.csv").read_text().splitlines()
    extra = [",scribble", *(f",scribbles/{key}.png" for key in keys[:11]), ","]
    (root / "pairs.csv").write_text("\n".join(map("".join, zip(rows, extra))))
    return root


def test_scribbles_label_the_training_images_only(pairs_set):
    datalist = load_datalist(scribble_set(pairs_set), annotation="scribble")
    assert keys_of(datalist, "unlabeled") == ["k11"] and len(datalist["training"]) == 8
    assert all(item["label"].endswith(f"scribbles/{item['key']}.png") for item in datalist["training"])
    assert [item["label"][-12:] for item in datalist["validation"] + datalist["test"]] == [
        "masks/k2.png",
        "masks/k3.png",
    ]


@pytest.mark.parametrize(("part", "keys"), [("training", ["k0", "k4"]), ("unlabeled", ["k5", "k6"])])
def test_an_evaluation_judges_by_masks_also_what_learned_from_scribbles(pairs_set, part, keys):
    root = scribble_set(pairs_set)
    text = (root / "pairs.csv").read_text()
    (root / "pairs.csv").write_text(text.replace("masks/k1.png", "").replace("masks/k7.png", ""))
    datalist = load_datalist(root, label_ratio=2, annotation="scribble", part=part)
    assert keys_of(datalist, part)[:2] == keys and "k7" not in keys_of(datalist, part)
    assert all(item["label"].endswith(f"masks/{item['key']}.png") for item in datalist[part])


def test_scribbles_that_are_not_used_are_told_of(pairs_set, caplog):
    load_datalist(scribble_set(pairs_set))
    assert "its 11 scribbles are not used: --annotation scribble learns from them" in caplog.text
    caplog.clear()
    load_datalist(scribble_set(pairs_set), annotation="scribble")
    load_datalist(pairs_set(GROUPS, SPLIT))
    assert "scribbles are not used" not in caplog.text  # the folder's name has the word in it


def test_annotations_that_are_not_there(pairs_set):
    with pytest.raises(InputError, match="annotation is 'points': give mask or scribble"):
        load_datalist(scribble_set(pairs_set), annotation="points")
    with pytest.raises(InputError, match="holds no scribble at all"):
        load_datalist(pairs_set(GROUPS, SPLIT), annotation="scribble")
