# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The clustering command on folders: sizes, kinds and orientation of images, scores, a cut run, and bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from bundle.__main__ import main
from bundle.benchmark.commands import CLUSTERS
from bundle.benchmark.results import clustered
from scripts.clustering import FeatureClustering, KMeans, S3Clustering
from scripts.data import load_datalist
from scripts.engines import PerImageTrainer
from scripts.errors import InputError
from tests.tiny import ROOT, error_text

SMALL = {"_target_": "scripts.clustering.KMeans", "clusters": 2, "starts": 1, "iterations": 5}


def scene(width, height):
    """Rows x columns: grey ground with a bright blot in the upper right part, and where that is."""
    mask = np.zeros((height, width), bool)
    mask[height // 6 : height // 3, width // 2 : width - width // 5] = True
    return np.where(mask, 220, 60).astype(np.uint8), mask


def tissues(root, count, ignored=255):
    """images/ and masks/ with the scene's blot in two classes, and a row of pixels without a label below; ``root``."""
    for n in range(count):
        grey, mask = scene(60, 44 + 2 * n)
        classes = np.where(mask, np.where(np.arange(60) % 2, 1, 2), 0).astype(np.uint8)
        classes[-6:] = ignored
        for part, array in (("images", np.dstack([grey, grey, grey // 2])), ("masks", classes)):
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / part / f"p{n}.png")
    return root


@pytest.fixture
def folder(tmp_path):
    for name, size in (("wide", (90, 60)), ("tall.b", (47, 83)), ("small", (20, 20))):
        grey, mask = scene(*size)
        for part, array in (("images", np.dstack([grey, grey, grey // 2])), ("masks", mask.astype(np.uint8) * 255)):
            path = tmp_path / "set" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "set"


def cluster(folder, out="out", config=(), **overrides):
    settings = {"dataset_dir": str(folder), "output_dir": str(folder.parent / out), "image_size": 48}
    settings |= {"bundle_root": str(ROOT), "device": "cpu"} | ({"algorithm": SMALL} if not config else {}) | overrides
    made = ConfigWorkflow(
        config_file=[str(ROOT / "configs" / name) for name in ("clustering.json", *config)],
        workflow_type="train",
        run_id="clustering",
        logging_file=False,
        **{key.replace("__", "#"): value for key, value in settings.items()},
    )
    made.initialize()
    made.run()
    return Path(settings["output_dir"])


def refused(*arguments, **overrides):
    with pytest.raises(Exception) as caught:
        cluster(*arguments, **overrides)
    return error_text(caught.value)


def rows(out):
    return list(csv.DictReader((out / "scores.csv").open()))


def test_masks_lie_where_the_object_is_at_the_size_of_every_image(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    out = cluster(folder)
    for path in (folder / "images").iterdir():
        expected = np.asarray(Image.open(folder / "masks" / path.name)) > 0
        found = np.asarray(Image.open(out / "masks" / path.name))
        assert set(np.unique(found)) == {0, 255} and found.shape == expected.shape
        found = found > 0
        assert (found & expected).sum() / (found | expected).sum() > 0.75
        labels = Image.open(out / "labels" / path.name)
        assert labels.mode == "P" and ((np.asarray(labels) == 1) == found).all()
        assert (out / "overlays" / path.name).is_file()
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["images"] == metrics["scored"] == 3 and len(rows(out)) == 3
    for name in ("oracle_cropped", "oracle_cluster", "blind"):
        mean = np.mean([float(row[f"{name}_dice"]) for row in rows(out)])
        assert metrics["scores"][name]["dice"] == pytest.approx(mean, abs=1e-5) and mean > 0.85


def test_plain_folders_without_masks_and_masks_elsewhere(folder):
    out = cluster(folder / "images")
    assert not (out / "metrics.json").exists() and rows(out)[0]["blind_dice"] == "" and len(rows(out)) == 3
    (folder / "masks" / "small.png").unlink()
    empty = np.zeros((83, 47), np.uint8)
    Image.fromarray(empty).save(folder / "masks" / "tall.b.png")
    out = cluster(folder / "images", "scored", masks_dir=str(folder / "masks"), overlays="false")
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["images"], metrics["scored"]) == (3, 1) and not (out / "overlays").exists()


def test_masks_beside_images_are_not_clustered(folder):
    for name in ("wide", "small"):
        shutil.copy(folder / f"masks/{name}.png", folder / f"images/{name}_mask.png")
    cluster(folder / "images")
    assert sorted(path.stem for path in (folder / "out/masks").iterdir()) == ["small", "tall.b", "wide"]


def test_a_cut_run_goes_on_and_gives_what_an_uncut_one_gives(folder, monkeypatch):
    whole = cluster(folder, "whole", seed=3)
    done = []

    def cut(self, image):
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt
        return call(self, image)

    call = KMeans.__call__
    monkeypatch.setattr(KMeans, "__call__", cut)
    with pytest.raises(BaseException):
        cluster(folder, "cut", seed=3)
    assert len(rows(folder.parent / "cut")) == 1
    out = cluster(folder, "cut", seed=3)
    assert len(done) == 4  # one done, one cut, two after
    for path in (whole / "labels").iterdir():
        assert (out / "labels" / path.name).read_bytes() == path.read_bytes()
    strip = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)] for folder in (whole, out)]
    assert strip[0] == strip[1]
    (out / "masks" / "wide.png").unlink()
    cluster(folder, "cut", seed=3)
    assert len(done) == 5 and (out / "masks" / "wide.png").is_file()


def test_masks_that_were_corrected_or_emptied_are_scored_as_they_are_now(folder):
    out, path = cluster(folder), folder / "masks" / "wide.png"
    before = {row["key"]: row for row in rows(out)}
    mask = np.asarray(Image.open(path))
    Image.fromarray(np.ascontiguousarray(mask[:, ::-1])).save(path)
    stamp = (out / "masks" / "wide.png").stat().st_mtime_ns
    cluster(folder)
    after = {row["key"]: row for row in rows(out)}
    anew = {row["key"]: row for row in rows(cluster(folder, "anew"))}
    assert after["wide"]["blind_dice"] == anew["wide"]["blind_dice"] != before["wide"]["blind_dice"]
    assert (out / "masks" / "wide.png").stat().st_mtime_ns == stamp  # the clustering was kept
    metrics = [json.loads((one / "metrics.json").read_text())["scores"] for one in (out, out.parent / "anew")]
    assert metrics[0] == metrics[1]
    for one in (folder / "masks").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(one)))).save(one)
    cluster(folder)
    assert not (out / "metrics.json").exists() and rows(out)[0]["blind_dice"] == ""


def test_another_folder_with_the_same_names_is_another_run(folder):
    other = shutil.copytree(folder, folder.parent / "other" / "set")
    out, masks = cluster(folder), {"masks_dir": str(folder / "masks")}
    again = {"output_dir": str(out)}
    expected = f"holds a clustering with dataset_dir {folder.resolve()}, now it is {other.resolve()}: run it as it was"
    assert expected in refused(other, **again)
    assert "masks_dir None, now it is" in refused(folder, **again, **masks)
    assert "group_pattern None, now it is ^a" in refused(folder, **again, group_pattern="^a")
    cluster(Path(f"{other}/../../{folder.name}"), **again)  # the same folder by another name goes on


def test_a_record_without_places_goes_on_and_then_has_them(folder):
    out = cluster(folder)
    path = out / "clustering.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "places"}))
    before = (out / "masks" / "wide.png").stat().st_mtime_ns
    cluster(folder)
    assert json.loads(path.read_text()) == record and (out / "masks" / "wide.png").stat().st_mtime_ns == before


def test_what_is_published_does_not_depend_on_where_the_images_lie(folder):
    other = shutil.copytree(folder, folder.parent / "other" / "set")
    out = [cluster(one, CLUSTERS) for one in (folder, other)]
    found = [clustered(one.parent)["definitions"] for one in out]
    path = out[1] / "clustering.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "places"}))
    assert found[0] == found[1] == clustered(out[1].parent)["definitions"]


def test_of_a_data_set_only_the_part_that_is_asked_for(synthetic_set, tmp_path):
    lists = load_datalist(synthetic_set)
    for part in ("test", "validation", "training"):
        settings = {"output_dir": str(tmp_path / part), "image_size": 32}
        out = cluster(synthetic_set, part=part, **settings)
        assert {row["key"] for row in rows(out)} == {item["key"] for item in lists[part]}
        assert json.loads((out / "metrics.json").read_text())["images"] == len(lists[part])
    assert "give one of training, validation, test" in refused(synthetic_set, part="train", **settings)
    assert "leave out masks_dir" in refused(synthetic_set, part="test", masks_dir=str(synthetic_set), **settings)
    inside = {"output_dir": str(synthetic_set / "images" / "out"), "image_size": 32}
    assert "lies among the images" in refused(synthetic_set, part="test", **inside)
    assert "part training, now it is test" in refused(synthetic_set, part="test", **settings)


@pytest.mark.parametrize("group_pattern", [None, "^([a-z]+)"])
def test_a_part_is_that_of_a_training_with_the_same_groups(folder, group_pattern):
    for n in range(8):
        for kind in ("images", "masks"):
            shutil.copy(folder / kind / "small.png", folder / kind / f"{'abcd'[n // 2]}{n}.png")
    expected = {item["key"] for item in load_datalist(folder, group_pattern=group_pattern)["test"]}
    out = cluster(folder, part="test", group_pattern=group_pattern)
    assert {row["key"] for row in rows(out)} == expected != set()


@pytest.mark.parametrize("config", ["methods/s3_net.yaml", "methods/kmeans.yaml"])
@pytest.mark.parametrize("copy", [None, [], ["--copy"]], ids=["folders", "prepared", "copied"])
def test_masks_of_three_classes_are_scored_as_one_object(tmp_path, config, copy):
    data = tissues(tmp_path / "set", 4)
    if copy is not None:
        main(["prepare", str(data), "--output", str(tmp_path / "prepared"), "--json", *copy])
        data = tmp_path / "prepared"
    small = {"algorithm__channels": 4, "algorithm__blocks": 1, "algorithm__trainer__max_iterations": 2}
    settings = {"config": [config], "image_size": 32, "num_classes": 3} | ({} if "kmeans" in config else small)
    parts = [cluster(data, name, part=part, **settings) for name, part in (("all", None), ("some", "training"))]
    assert [len(rows(out)) for out in parts] == [4, len(load_datalist(data, num_classes=3)["training"])]
    for row in rows(parts[0]):
        path = tmp_path / "set" / "masks" / f"{row['key']}.png"
        classes = np.asarray(Image.open(path))
        known, expected = classes != 255, (classes > 0) & (classes != 255)
        found = (np.asarray(Image.open(parts[0] / "masks" / path.name)) > 0) & known
        dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
        assert float(row["blind_dice"]) == pytest.approx(dice, abs=1e-5)
        assert float(row["marked"]) == pytest.approx(found.mean(), abs=1e-5)
    if "kmeans" in config:
        assert min(float(row["blind_dice"]) for row in rows(parts[0])) > 0.7


def test_pixels_without_a_label_count_in_no_score(tmp_path):
    values = {"num_classes": 3, "ignore_value": 3}
    data = tissues(tmp_path / "set", 2, ignored=3)
    plain = rows(cluster(data, "plain", **values))
    classes = np.asarray(Image.open(data / "masks" / "p0.png")).copy()
    found = np.asarray(Image.open(tmp_path / "plain" / "masks" / "p0.png")) > 0
    wrong = found != ((classes > 0) & (classes < 3))
    classes[wrong] = 3  # whatever the blind mask has wrong is of no account
    Image.fromarray(classes).save(data / "masks" / "p0.png")
    Image.fromarray(np.full((46, 60), 3, np.uint8)).save(data / "masks" / "p1.png")
    first, second = rows(cluster(data, "without", **values))
    assert wrong.any() and float(plain[0]["blind_dice"]) < 1 and float(first["blind_dice"]) == 1
    assert float(first["blind_xor"]) == float(first["blind_hm"]) == 0
    assert float(plain[1]["marked"]) > 0 and float(second["marked"]) == 0 and second["blind_dice"] == ""


def test_masks_with_other_classes_are_refused_by_a_key_that_can_be_passed(tmp_path):
    data = tissues(tmp_path / "set", 4)
    main(["prepare", str(data), "--output", str(tmp_path / "prepared"), "--json"])
    told = refused(data)
    assert "holds the value 2, but the classes are 0 to 1" in told
    assert "correct num_classes, pass --ignore_value" in told
    for part in (None, "test"):
        assert "has 3 classes, but num_classes is 2: pass --num_classes 3" in refused(tmp_path / "prepared", part=part)
    assert "num_classes is 1: give a whole number of at least 2" in refused(data, num_classes=1)
    assert not (tmp_path / "out").exists()
    cluster(data, num_classes=3)
    assert "num_classes 3, now it is 4" in refused(data, num_classes=4)
    assert "ignore_value 255, now it is 0" in refused(data, num_classes=3, ignore_value=0)
    among = {"num_classes": 3, "output_dir": str(data / "images" / "out")}
    assert "lies among the images" in refused(tmp_path / "prepared", **among)


def test_a_record_that_does_not_tell_the_classes_is_one_of_two(folder):
    path = cluster(folder) / "clustering.json"
    record = json.loads(path.read_text())
    for name in ("num_classes", "ignore_value"):
        del record["places"][name]
    path.write_text(json.dumps(record))
    assert "num_classes 2, now it is 3" in refused(folder, num_classes=3)
    cluster(folder)
    assert json.loads(path.read_text())["places"]["num_classes"] == 2


@pytest.mark.parametrize("config", ["methods/s3_net.yaml", "methods/kmeans.yaml", "methods/feature_clustering.yaml"])
def test_every_overlay_clusters(folder, config):
    small = {"algorithm__channels": 8, "algorithm__trainer__max_iterations": 7} if "kmeans" not in config else {}
    out = cluster(folder, config=[config], image_size=32, **small)
    assert len(list((out / "labels").iterdir())) == 3
    assert all(0 < int(row["clusters"]) and 0 <= float(row["blind_dice"]) <= 1 for row in rows(out))


def test_the_released_mode_on_an_oblong_grid_reports_its_spatial_loss(folder):
    small = {"algorithm__mode": "released", "algorithm__channels": 8, "algorithm__trainer__max_iterations": 6}
    out = cluster(folder, config=["methods/s3_net.yaml"], image_size=[40, 32], **small)
    history = list(csv.DictReader((out / "history" / "wide.csv").open()))
    assert len(history) == 6 and set(history[0]) == {"clusters", "clustering", "affine", "spatial"}
    assert all(float(row["spatial"]) >= 0 for row in history)


def test_bad_input_ends_in_one_sentence(folder):
    assert "dataset_dir is empty" in refused(folder, dataset_dir="")
    elsewhere = str(folder.parent.parent / "elsewhere")
    assert "holds no image" in refused(folder.parent, masks_dir=None, output_dir=elsewhere)
    assert "lies among the images" in refused(folder, output_dir=str(folder / "images" / "out"))
    assert "no mask in" in refused(folder / "images", masks_dir=str(folder.parent / "other"), **other_masks(folder))
    assert "give released or intended" in refused(folder, config=["methods/s3_net.yaml"], algorithm__mode="best")
    out = cluster(folder)
    assert "holds a clustering with seed 0, now it is 1" in refused(folder, seed=1)
    shutil.copy(out / "masks" / "wide.png", folder.parent / "wide.png")
    (folder / "images" / "broken.png").write_bytes(b"no picture")
    assert "broken.png" in refused(folder, "new")
    assert not (folder.parent / "new").exists()


def test_a_run_whose_files_were_damaged_is_not_gone_on_with(folder):
    out = cluster(folder)
    for name, text in (
        ("clustering.json", '{"algorithm"'),
        ("clustering.json", "[]"),
        ("scores.csv", "key;width\n1;2"),
    ):
        kept = (out / name).read_text()
        (out / name).write_text(text)
        assert f"{out / name} is damaged (" in refused(folder)
        assert (out / name).read_text() == text
        (out / name).write_text(kept)
    cluster(folder)


def other_masks(folder):
    """A folder of masks with the stems of no image."""
    other = folder.parent / "other"
    other.mkdir()
    shutil.copy(folder / "masks" / "wide.png", other / "unknown.png")
    return {}


def test_one_seed_one_result_and_the_generator_decides():
    image = torch.rand(1, 3, 16, 16)
    trainer = PerImageTrainer(max_iterations=4)
    for make in (
        lambda: S3Clustering("intended", 8, 1, trainer=trainer),
        lambda: S3Clustering("released", 8, 1, trainer=trainer),
        lambda: FeatureClustering(8, trainer=trainer),
    ):
        found = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(make()(image).labels)
        assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_kmeans_finds_the_colours_and_takes_a_flat_image():
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 6, 9)
    image[:, 0, :, 3:5], image[:, 2, :, 5:] = 1.0, 1.0
    assert KMeans(3)(image).labels[0].tolist() == [1, 1, 1, 2, 2, 0, 0, 0, 0]
    assert KMeans(3)(torch.full((1, 3, 4, 4), 0.3)).clusters == 1


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(InputError, match="algorithm#mode is 'other'"):
        S3Clustering("other")
    for make in (S3Clustering, FeatureClustering):
        with pytest.raises(InputError, match="algorithm#channels is 256"):
            make(channels=256)
    with pytest.raises(InputError, match="algorithm#clusters is 1"):
        KMeans(clusters=1)
    with pytest.raises(InputError, match="max_iterations is 0"):
        PerImageTrainer(max_iterations=0)


@pytest.mark.parametrize("components", [-1, "two", 1.5])
def test_a_number_of_components_that_is_none_is_refused(folder, components):
    assert f"components is {components!r}: give a whole number" in refused(folder, components=components)
