# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m bundle check`: exit codes, the text for people, the object for machines, the pictures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.__main__ import main
from scripts import data_pictures
from tests.folders import pairs, save

ROOT = Path(__file__).parents[1]
KEYS = {
    *("dataset", "clean", "num_classes", "num_classes_inferred", "problems", "notes", "counts", "images", "lists"),
    *("lesions", "duplicates", "groups", "volumes", "scribbles", "pictures"),
}


@pytest.fixture
def dataset(synthetic_set, tmp_path):
    return Path(shutil.copytree(synthetic_set, tmp_path / "set"))


def test_a_clean_set_is_0_and_says_what_it_holds(dataset, capsys):
    assert main(["check", str(dataset)]) == 0
    out = capsys.readouterr().out
    for text in ("No problem found.", "32 x 32", "2 classes", "--output DIR", "as the values tell", "lesions: median"):
        assert text in out
    assert sorted(path.name for path in dataset.iterdir()) == ["images", "masks", "pairs.csv", "splits.json"]


def test_problems_are_1_and_listed_by_kind_up_to_twenty(dataset, capsys):
    for mask in sorted((dataset / "masks").iterdir()):
        Image.new("L", (5, 5)).save(mask)
    for number in range(3):
        shutil.copy(dataset / "masks/patient001_frame1.png", dataset / f"images/x{number}.png")
    assert main(["check", str(dataset), "--num-classes", "2"]) == 1
    out = capsys.readouterr().out
    assert "masks of another size than their image (20)" in out and "images/patient001_frame1.jpg has 32 x 32" in out
    assert str(dataset / "images") not in out.split("Problems")[1]


def test_json_is_one_object_and_nothing_else(dataset, capsys):
    (dataset / "images/patient001_frame1.jpg").write_bytes(b"x")
    assert main(["check", str(dataset), "--json"]) == 1
    numbers = json.loads(capsys.readouterr().out)
    assert set(numbers) == KEYS and not numbers["clean"]
    assert [set(problem) for problem in numbers["problems"]] == [{"kind", "file", "message"}]
    assert numbers["problems"][0]["kind"] == "unreadable"


def test_long_lists_are_cut_in_the_text_only(dataset, capsys):
    for index in range(25):
        Image.new("L", (9, 9)).save(dataset / f"masks/orphan{index:02d}.png")
    shutil.rmtree(dataset / "masks")
    (dataset / "pairs.csv").unlink()
    (dataset / "splits.json").unlink()
    shutil.copytree(dataset / "images", dataset / "masks")
    for index in range(25):
        Image.new("L", (9, 9)).save(dataset / f"masks/orphan{index:02d}.png")
    assert main(["check", str(dataset)]) == 1
    out = capsys.readouterr().out
    assert "masks or scribbles without image (25)" in out and "and 5 more" in out and out.count("orphan") == 20
    assert main(["check", str(dataset), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["problems"]
    assert sum(problem["kind"] == "no_image" for problem in found) == 25


def test_wrong_usage_is_2(dataset, tmp_path, capsys):
    for arguments in ([str(tmp_path / "none")], [str(tmp_path)], [str(dataset), "--num-classes", "1"]):
        assert main(["check", *arguments]) == 2
        out, err = capsys.readouterr()
        assert err.startswith("error: ") and err.count("\n") == 1 and not out
    with pytest.raises(SystemExit) as stop:
        main(["check"])
    assert stop.value.code == 2
    assert main(["check", str(dataset), "--output", str(dataset / "pictures")]) == 2
    assert not (dataset / "pictures").exists()
    (tmp_path / "file").touch()
    capsys.readouterr()
    assert main(["check", str(dataset), "--output", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"error: output {tmp_path / 'file'} cannot be written")


@pytest.mark.parametrize("classes", [2, 4])
def test_pictures_show_samples_sizes_and_shares(dataset, tmp_path, classes, capsys):
    if classes == 4:
        for path in (dataset / "masks").iterdir():
            Image.fromarray(np.resize(np.arange(4, dtype=np.uint8), (32, 32))).save(path)
    assert main(["check", str(dataset), "--output", str(tmp_path / "pictures"), "--json"]) == 0
    written = [Path(path) for path in json.loads(capsys.readouterr().out)["pictures"]]
    assert [path.name for path in written] == ["samples.png", "lesion_sizes.png", "class_shares.png"]
    for path in written:
        picture = np.asarray(Image.open(path))
        assert picture.shape[0] > 150 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_a_set_without_readable_files_has_no_pictures_but_an_answer(dataset, tmp_path, capsys):
    for path in [*(dataset / "masks").iterdir(), *(dataset / "images").iterdir()]:
        path.write_bytes(b"x")
    assert main(["check", str(dataset), "--output", str(tmp_path / "pictures")]) == 1
    assert "unreadable files (40)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_module_prints_json_alone_and_exits_with_its_code(dataset):
    (dataset / "images/patient001_frame1.jpg").write_bytes(b"x")
    command = [sys.executable, "-m", "bundle", "check", str(dataset), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == 1 and not json.loads(done.stdout)["clean"]


def test_what_prepare_wrote_is_checked_as_prepare_noted_it(tmp_path, capsys):
    for index, (image, mask) in enumerate(pairs(8)):
        mask[:4] = 255
        save(tmp_path / f"src/images/{index}.png", image)
        save(tmp_path / f"src/masks/{index}.png", mask)
    prepared = tmp_path / "prepared"
    assert main(["prepare", str(tmp_path / "src"), "--output", str(prepared), "--values", "1=1,255=255"]) == 0
    capsys.readouterr()
    assert main(["check", str(prepared)]) == 0
    out = capsys.readouterr().out
    assert "Masks: 2 classes with background\n" in out and "pixels of 255" in out and "class 2" not in out
    assert main(["check", str(prepared), "--ignore-value", "255"]) == 1
    assert "holds the value 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("noted", "names"),
    [
        ({"0": "background", "1": "vessel"}, ["background", "vessel"]),
        ({"1": 3, "x": "y"}, ["background", "lesion"]),
        (["tumour"], ["background", "lesion"]),
    ],
)
def test_pictures_have_the_names_of_the_data_list(dataset, tmp_path, monkeypatch, noted, names):
    assert main(["prepare", str(dataset), "--output", str(tmp_path / "prepared")]) == 0
    path = tmp_path / "prepared/datalist.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": noted}))
    drawn = {}
    for name in ("sample_sheet", "size_histogram", "share_bars"):
        monkeypatch.setattr(data_pictures, name, lambda *given, name=name: drawn.setdefault(name, given[-1]) and None)
    assert main(["check", str(tmp_path / "prepared"), "--output", str(tmp_path / "pictures")]) == 0
    assert drawn == {"sample_sheet": names, "size_histogram": names, "share_bars": names}
