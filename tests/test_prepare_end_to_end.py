# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""prepare, check and 20 iterations of training, by the commands as printed, for each way data is handed over.

The images are a small cut of the real sets where there are any (the folder in LESSNET_DATA, or ``shared/data`` beside
the repository), else generated ones in the same files.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.__main__ import main
from bundle.training_command import training_command
from scripts.data import MaskReader, load_datalist
from scripts.handlers.checkpoint import load_checkpoint
from tests.data.test_sources_labelme import annotate, square
from tests.folders import OBLIQUE, pairs, save, save_series, save_volume
from tests.tiny import ROOT, SMALL_UNET

REAL = Path(os.environ.get("LESSNET_DATA") or ROOT.parent / "shared" / "data")
QUICK = {"image_size": 32, "max_epochs": 2, "epoch_length": 10, "batch_size": 2, "unlabelled_batch_size": 2}


def real_rows(name: str, count: int) -> list[dict[str, str]]:
    """The first rows of a real set, with absolute paths; none where the set is not there."""
    table = REAL / name / "pairs.csv"
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:count]
    for row in rows:
        row.update({part: str(REAL / name / row[part]) for part in ("image", "mask", "scribble") if part in row})
    return rows


def cut(name: str, count: int, classes: int = 2, colour: bool = True) -> list[dict]:
    """Key, group, image (Y, X[, 3]), mask (Y, X) of class indices, and for some sets a scribble."""
    rows = real_rows(name, count)
    if not rows:
        made = pairs(count, 48, colour, classes)
        strokes = [np.where(np.arange(48)[:, None] % 4, classes, mask).astype(np.uint8) for _, mask in made]
        return [
            {"key": f"patient{n // 4:03d}_frame01_slice_{n % 4}", "group": f"patient{n // 4:03d}"}
            | {"image": image, "mask": mask, "scribble": stroke}
            for n, ((image, mask), stroke) in enumerate(zip(made, strokes))
        ]
    found = []
    for row in rows:
        parts = {p: np.asarray(Image.open(row[p])) for p in ("image", "mask", "scribble") if row.get(p)}
        parts["mask"] = parts["mask"] // 255 if classes == 2 else parts["mask"]
        found.append({"key": row["key"], "group": row["group"]} | parts)
    return found


def write_set(root: Path, made: list[dict], binary: bool = True) -> Path:
    """The layout of the real sets: images/, masks/, pairs.csv, splits.json; scribbles/ for more than two classes."""
    columns = ["key", "image", "mask", "group"] + ([] if binary else ["scribble"])
    rows = []
    for one in made:
        paths = {"image": f"images/{one['key']}.jpg", "mask": f"masks/{one['key']}.png"}
        save(root / paths["image"], one["image"])
        save(root / paths["mask"], one["mask"] * (255 if binary else 1))
        if not binary:
            paths["scribble"] = f"scribbles/{one['key']}.png"
            save(root / paths["scribble"], one["scribble"])
        rows.append({"key": one["key"], "group": one["group"] if not binary else one["key"]} | paths)
    with (root / "pairs.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    held_out = {groups[-1]: "test", groups[-2]: "val"} if not binary else dict.fromkeys(groups[-3:], "test")
    held_out |= dict.fromkeys(groups[-6:-3], "val") if binary else {}
    split = {
        side: [row["key"] for row in rows if held_out.get(row["group"], "train") == side]
        for side in ("train", "val", "test")
    }
    (root / "splits.json").write_text(json.dumps(split))
    return root


def prepared(source: Path, capsys, *arguments: str) -> dict:
    """The JSON that ``prepare`` prints; ``check`` then finds nothing wrong with the folder."""
    output = source.with_name("prepared")
    assert main(["prepare", str(source), "--output", str(output), "--json", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    check = ["check", str(output), "--num-classes", str(report["num_classes"]), "--json"]
    code = main([*check, "--ignore-value", str(report["ignore_value"])])
    assert code == 0, capsys.readouterr().out
    capsys.readouterr()
    return report


def train(report: dict, folder: Path) -> None:
    """Runs the printed command with quick settings; 20 iterations later there are weights of the right shape."""
    words = shlex.split(report["command"])
    assert words[0] == "python"
    words[words.index("--output_dir") + 1] = str(folder)
    settings = QUICK | {"device": "cpu", "network_def": SMALL_UNET}
    words = [sys.executable, "-W", "ignore", *words[1:], *(str(w) for k, v in settings.items() for w in (f"--{k}", v))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert len(rows) == 2 and all(np.isfinite(float(row["val_mean_dice"])) for row in rows)
    shapes = {value.shape[0] for value in load_checkpoint(folder / "model.pt").values() if value.ndim}
    assert report["num_classes"] in shapes


def labels_by_key(report: dict) -> dict[str, np.ndarray]:
    """Masks (Y, X) of all lists."""
    reader = MaskReader(report["num_classes"], report["ignore_value"])
    lists = load_datalist(report["output"], num_classes=report["num_classes"])
    return {i["key"]: reader.get_data(i["label"])[0][0].T for items in lists.values() for i in items if "label" in i}


def test_lines_of_labelme_train_a_rule_for_scribbles(tmp_path, capsys):
    for n in range(9):
        side = "train" if n < 5 else "val" if n < 7 else "test"
        lines = [{"label": "blood", "shape_type": "linestrip", "points": [[8, 9], [12, 14]]}]
        lines += [{"label": "background", "shape_type": "line", "points": [[30, 2], [30, 25]]}]
        annotate(tmp_path / f"src/{side}", f"case{n}", lines if n < 5 else [square("blood", 5, 5, 15 + n, 20)])
    report = prepared(tmp_path / "src", capsys)
    assert report["annotation"] == "scribble" and "scribsd_plus" in report["command"]
    train(report, tmp_path / "run")


@pytest.mark.parametrize("name", ["fuseg_wounds", "dsb2018"])
def test_the_sets_of_photographs(tmp_path, capsys, name):
    report = prepared(write_set(tmp_path / "src", cut(name, 14)), capsys)
    assert report["layout"] == "pairs" and report["images"]["validation"] == report["images"]["test"] == 3
    train(report, tmp_path / "run")


def test_the_set_of_heart_slices_with_scribbles(tmp_path, capsys):
    made = cut("acdc_scribbles", 80, classes=4, colour=False)
    report = prepared(write_set(tmp_path / "src", made, binary=False), capsys)
    assert (report["num_classes"], report["in_channels"], report["ignore_value"]) == (4, 1, 4)
    settings = {"dataset_dir": report["output"], "num_classes": 4, "in_channels": 1, "ignore_value": 4}
    report["command"] = training_command(settings | {"annotation": "scribble", "output_dir": "output/scribbles"})
    train(report, tmp_path / "run")


def test_pascal_voc(tmp_path, capsys):
    made = cut("fuseg_wounds", 12)
    root = tmp_path / "src" / "VOC2007"
    for one in made:
        save(root / f"JPEGImages/{one['key']}.jpg", one["image"])
        picture = Image.fromarray(one["mask"]).convert("P")
        picture.putpalette([0, 0, 0, 128, 0, 0] + [0] * 762)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        picture.save(root / f"SegmentationClass/{one['key']}.png")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    keys = [one["key"] for one in made]
    for side, names in {"train": keys[:8], "val": keys[8:10], "test": keys[10:]}.items():
        (lists / f"{side}.txt").write_text("\n".join(names))
    report = prepared(tmp_path / "src", capsys)
    assert report["layout"] == "voc" and report["images"]["training"] == 8
    train(report, tmp_path / "run")


def test_one_mixed_folder(tmp_path, capsys):
    made = cut("fuseg_wounds", 12)
    for one in made:
        save(tmp_path / f"src/{one['key']}.jpg", one["image"])
        save(tmp_path / f"src/{one['key']}_mask.png", one["mask"] * 255)
    report = prepared(tmp_path / "src", capsys)
    labels = labels_by_key(report)
    assert len(labels) == 12 and all((labels[one["key"]] == one["mask"]).all() for one in made)
    train(report, tmp_path / "run")


def outlines(mask: np.ndarray) -> list[list[float]]:
    """Rectangles, one for each run of lesion in a row, that together are the mask."""
    edges = np.diff(np.pad(mask.astype(int), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [[float(v) for v in (a, y, b, y, b, y + 1, a, y + 1)] for (y, a), (_, b) in zip(starts, ends)]


def test_coco_polygons(tmp_path, capsys):
    made = cut("fuseg_wounds", 12)
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "wound"}]}
    for number, one in enumerate(made):
        save(tmp_path / f"src/images/{one['key']}.jpg", one["image"])
        height, width = one["mask"].shape
        facts = {"id": number, "file_name": f"{one['key']}.jpg", "width": width, "height": height}
        content["images"].append(facts)
        if one["mask"].any():
            drawn = {"id": number, "image_id": number, "category_id": 7, "segmentation": outlines(one["mask"])}
            content["annotations"].append(drawn)
    (tmp_path / "src/annotations.json").write_text(json.dumps(content))
    report = prepared(tmp_path / "src", capsys)
    assert report["class_names"] == {"0": "background", "1": "wound"}
    labels = labels_by_key(report)
    assert all((labels[one["key"]] == one["mask"]).all() for one in made)
    train(report, tmp_path / "run")


def hearts() -> dict[str, list[dict]]:
    """Slices by volume, complete volumes of one size each."""
    stacks: dict[str, list[dict]] = {}
    for one in cut("acdc_scribbles", 100, classes=4, colour=False):
        stacks.setdefault(one["key"].split("_slice_")[0], []).append(one)
    return dict(list(stacks.items())[:6])


def stack(slices: list[dict], part: str) -> np.ndarray:
    """(X, Y, Z)."""
    return np.stack([one[part].T for one in slices], axis=-1)


def test_volumes_in_nifti_files(tmp_path, capsys):
    made = hearts()
    for name, slices in made.items():
        save_volume(tmp_path / f"src/imagesTr/{name}_0000.nii.gz", stack(slices, "image").astype(np.int16), OBLIQUE)
        save_volume(tmp_path / f"src/labelsTr/{name}.nii.gz", stack(slices, "mask"), OBLIQUE)
    report = prepared(tmp_path / "src", capsys, "--group-by", r"pattern:(patient\d+)")
    assert report["planes"] == ["axial"] and report["num_classes"] == 4
    labels = labels_by_key(report)
    assert len(labels) == sum(map(len, made.values()))
    for name, slices in made.items():
        counts = [np.bincount(one["mask"].ravel(), minlength=4).tolist() for one in slices]
        found = [labels[f"{name}_slice_{index:03d}"] for index in range(len(slices))]
        assert [np.bincount(mask.ravel(), minlength=4).tolist() for mask in found] == counts
    train(report, tmp_path / "run")


def test_dicom_series(tmp_path, capsys):
    for name, slices in hearts().items():
        save_series(tmp_path / f"src/{name}/MR", stack(slices, "image").astype(np.int16), (1.4, 1.4, 8.0))
        save_series(tmp_path / f"src/{name}/segmentation", stack(slices, "mask").astype(np.int16), (1.4, 1.4, 8.0))
    report = prepared(tmp_path / "src", capsys)
    assert report["planes"] == ["axial"] and report["in_channels"] == 1
    train(report, tmp_path / "run")
