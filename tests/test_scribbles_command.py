# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m bundle scribbles`: its output is a data set, the same for a seed, and bad input is refused."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.__main__ import main
from scripts.data import check_datalist, load_datalist
from scripts.data.survey import survey
from scripts.errors import InputError
from tests.folders import pairs, save


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "scribbles").iterdir()}


def test_the_output_is_a_dataset_of_its_own(synthetic_set, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["scribbles", str(synthetic_set), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "20 scribbles of 2 classes" in printed and "made" in printed and "expert" not in printed
    found = survey(output)
    assert not found.problems and sum(map(len, found.lists.values())) == 20
    assert (found.scribbles["agreeing"][:2] == found.scribbles["strokes"][:2]).all()
    source, made = load_datalist(synthetic_set), load_datalist(output, annotation="scribble")
    for name, items in source.items():
        assert [item["key"] for item in items] == [item["key"] for item in made[name]]
    assert all(Path(item["label"]).parent == output / "scribbles" for item in made["training"])
    assert [item["label"] for item in made["test"]] == [item["label"] for item in source["test"]]
    picture = Image.open(made["training"][0]["label"])
    mask = np.asarray(Image.open(source["training"][0]["label"])) // 255
    strokes = np.asarray(picture)
    assert picture.mode == "L" and set(np.unique(strokes)) <= {0, 1, 2}
    assert (strokes[strokes < 2] == mask[strokes < 2]).all()
    told = training_of(printed)
    count, ignored = int(told["num_classes"]), int(told["ignore_value"])
    check_datalist(
        load_datalist(told["dataset_dir"], num_classes=count, annotation=told["annotation"]), count, 3, ignored
    )
    with pytest.raises(InputError, match="holds the value 2"):
        check_datalist(made, count, 3)


def test_the_seed_gives_the_bytes(synthetic_set, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert main(["scribbles", str(synthetic_set), "--output", str(tmp_path / name), "--seed", str(seed)]) == 0
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again and first.keys() == other.keys() and first != other


def test_settings_reach_the_strokes(synthetic_set, tmp_path):
    main(["scribbles", str(synthetic_set), "--output", str(tmp_path / "a"), "--background", "false"])
    main(["scribbles", str(synthetic_set), "--output", str(tmp_path / "b"), "--num-classes", "5", "--width", "4"])
    values = [set(np.unique(np.asarray(Image.open(path)))) for path in (tmp_path / "a/scribbles").iterdir()]
    assert set().union(*values) == {1, 2}
    # with five classes a mask of 0 and 255 holds nothing but background and ignored pixels
    values = [set(np.unique(np.asarray(Image.open(path)))) for path in (tmp_path / "b/scribbles").iterdir()]
    assert set().union(*values) == {0, 5}


def test_comparison_with_scribbles_there_are(synthetic_set, tmp_path, capsys):
    assert main(["scribbles", str(synthetic_set), "--output", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    assert main(["scribbles", str(tmp_path / "a"), "--output", str(tmp_path / "b"), "--seed", "1", "--compare"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if " expert " in line or " made " in line]
    assert [row[:2] for row in rows] == [["0", "expert"], ["0", "made"], ["1", "expert"], ["1", "made"]]
    for expert, made in zip(rows[::2], rows[1::2]):
        assert abs(float(expert[2][:-1]) - float(made[2][:-1])) < 0.5 * float(expert[2][:-1])
    picture = np.asarray(Image.open(tmp_path / "b/comparison.png"))
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--length", "0"], "--length is 0"),
        (["--width", "-1"], "must not be negative"),
        (["--background", "maybe"], "give true or false"),
        (["--compare"], "no scribbles of its own"),
        (["--num-classes", "999"], "num_classes is 999"),
    ],
)
def test_bad_arguments(synthetic_set, tmp_path, capsys, arguments, message):
    assert main(["scribbles", str(synthetic_set), "--output", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_bad_folders(synthetic_set, tmp_path, capsys):
    source = Path(shutil.copytree(synthetic_set, tmp_path / "set"))
    for dataset, output, message in (
        (tmp_path / "none", tmp_path / "out", "does not exist"),
        (source, source / "new", "lies in the data set"),
        (source, tmp_path, "not empty"),
    ):
        assert main(["scribbles", str(dataset), "--output", str(output)]) == 2
        assert message in capsys.readouterr().err
    (source / "masks/patient001_frame1.png").write_bytes(b"x")
    assert main(["scribbles", str(source), "--output", str(tmp_path / "out")]) == 2
    assert "patient001_frame1.png cannot be read" in capsys.readouterr().err


def test_keys_never_lead_to_another_folder(synthetic_set, tmp_path):
    source = Path(shutil.copytree(synthetic_set, tmp_path / "set"))
    with (source / "pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    rows[0]["key"] = "deep/er"  # one that climbs is refused where lists are read
    with (source / "pairs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (source / "splits.json").unlink()
    assert main(["scribbles", str(source), "--output", str(tmp_path / "out")]) == 0
    listed = json.loads((tmp_path / "out/datalist.json").read_text())
    paths = [Path(item["scribble"]) for name in ("training", "validation", "test") for item in listed[name]]
    assert len(paths) == 20 and all(path.parent == tmp_path / "out/scribbles" and path.is_file() for path in paths)


def training_of(printed):
    """The settings that the printed command trains with."""
    words = shlex.split(printed.split("train with\n")[1].splitlines()[0])
    assert "configs/methods/scribsd_plus.yaml" in words[words.index("--config_file") + 1]
    return {name.removeprefix("--"): value for name, value in zip(words, words[1:]) if name.startswith("--")}


def masks_of(folder, value, count=8):
    """Images whose masks hold a lesion, and ``value`` where pixels are ignored."""
    for index, (image, mask) in enumerate(pairs(count)):
        mask[:4] = value
        save(folder / f"images/{index}.png", image)
        save(folder / f"masks/{index}.png", mask)
    return folder


def strokes_in(folder):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "scribbles").iterdir())]


@pytest.mark.parametrize("arguments", [[], ["--num-classes", "2"]])
def test_pixels_that_prepare_noted_as_ignored_get_no_stroke(tmp_path, capsys, arguments):
    source, prepared, output = (tmp_path / name for name in ("src", "prepared", "out"))
    masks_of(source, 255)
    assert main(["prepare", str(source), "--output", str(prepared), "--values", "1=1,255=255"]) == 0
    assert main(["scribbles", str(prepared), "--output", str(output), *arguments]) == 0
    told = training_of(capsys.readouterr().out)
    assert (told["num_classes"], told["ignore_value"]) == ("2", "2")
    assert all((scribble[:4] == 2).all() and (scribble == 1).any() for scribble in strokes_in(output))
    check_datalist(load_datalist(told["dataset_dir"], annotation=told["annotation"]), 2, 3, 2)


def test_the_ignored_value_of_the_masks_is_that_of_the_scribbles(tmp_path, capsys):
    """A training knows one such value, for masks and scribbles alike."""
    source, output = masks_of(tmp_path / "src", 9), tmp_path / "out"
    command = ["scribbles", str(source), "--output", str(output), "--ignore-value"]
    assert main([*command, "9", "--num-classes", "10"]) == 2
    assert "ignored value 9 of" in capsys.readouterr().err and not output.exists()
    assert main([*command, "9"]) == 0
    told = training_of(capsys.readouterr().out)
    assert told["ignore_value"] == "9"
    assert all((scribble[:4] == 9).all() for scribble in strokes_in(output))
    check_datalist(load_datalist(told["dataset_dir"], annotation=told["annotation"]), 2, 3, 9)
    assert main(["check", str(output)]) == 0
    assert main(["scribbles", str(output), "--output", str(tmp_path / "again"), "--compare"]) == 0
    assert " expert " in capsys.readouterr().out and (tmp_path / "again/comparison.png").is_file()


@pytest.mark.parametrize(("colours", "channels"), [([False] * 8, 1), ([True] * 8, 3), ([False, True] * 4, 3)])
def test_channels_and_names_go_with_the_scribbles(tmp_path, capsys, colours, channels):
    for index, (colour, (image, mask)) in enumerate(zip(colours, pairs(8))):
        save(tmp_path / f"src/images/{index}.png", image if colour else image.max(-1))
        save(tmp_path / f"src/masks/{index}.png", mask)
    assert main(["prepare", str(tmp_path / "src"), "--output", str(tmp_path / "prepared")]) == 0
    path = tmp_path / "prepared/datalist.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": {"0": "background", "1": "wound"}}))
    for source in ("src", "prepared"):
        capsys.readouterr()
        assert main(["scribbles", str(tmp_path / source), "--output", str(tmp_path / f"of_{source}")]) == 0
        told = training_of(capsys.readouterr().out)
        noted = json.loads((tmp_path / f"of_{source}/datalist.json").read_text())
        assert told["in_channels"] == str(channels) and noted["in_channels"] == channels
    assert told["class_names"] == '["background", "wound"]' and noted["class_names"]["1"] == "wound"


def test_the_split_that_is_written_keeps_patients_together(tmp_path, capsys, caplog):
    """No pattern given to a training on the scribbles can mend a split that the list pins."""
    source = tmp_path / "src"
    for index, (image, mask) in enumerate(pairs(24)):
        save(source / f"images/P{index % 8}_frame_{index}.png", image)
        save(source / f"masks/P{index % 8}_frame_{index}.png", mask)
    command = ["scribbles", str(source), "--output"]
    assert main([*command, str(tmp_path / "alone")]) == 0
    assert "each image is split on its own" in caplog.text and "--group_pattern" in caplog.text
    caplog.clear()
    patterns = ["--group_pattern", r"^(P\d)_", "--volume-pattern", r"^(P\d)_"]
    assert main([*command, str(tmp_path / "out"), *patterns]) == 0 and not caplog.text
    made = load_datalist(tmp_path / "out", annotation="scribble")
    for name, items in load_datalist(source, group_pattern=patterns[1]).items():
        assert {item["key"] for item in items} == {item["key"] for item in made[name]}
    assert made["test"][0]["volume"] == made["test"][0]["group"] == made["test"][0]["key"][:2]
    assert main([*command, str(tmp_path / "none"), "--group-pattern", "patient"]) == 2
    assert "finds nothing" in capsys.readouterr().err and not (tmp_path / "none").exists()
