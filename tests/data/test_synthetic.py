# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The embedded synthetic set: as described, the same for a seed, whole or absent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data import check_datalist, load_datalist, synthetic, synthetic_frames, write_synthetic_set
from scripts.data.synthetic_frames import LESION_SHARE, draw_patient, paint_frame
from scripts.errors import InputError


def digest(folder):
    content = hashlib.sha256()
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        content.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return content.hexdigest()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    digests = [digest(write_synthetic_set(tmp_path / name, 20, 64, seed)) for name, seed in zip("abc", (0, 0, 1))]
    assert digests[0] == digests[1] != digests[2]


def test_a_set_is_a_dataset_folder_with_whole_patients_on_a_side(tmp_path):
    datalist = load_datalist(write_synthetic_set(tmp_path / "set", 50, 64), label_ratio=0.1)
    counts = {name: len(items) for name, items in datalist.items()}
    assert counts == {"training": 4, "unlabeled": 31, "validation": 5, "test": 10}
    assert len({item["group"] for item in datalist["training"]}) > 1
    check_datalist(datalist)


def test_lesions_have_the_promised_share_and_colour():
    shares = []
    for index in range(60):
        rng = np.random.default_rng(index)
        image, mask = paint_frame(rng, draw_patient(rng), 96)
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
        lesion, tissue = mask > 0, (mask == 0) & (image.max(-1) > 40)
        shares.append(lesion.mean())
        assert tissue.mean() > 0.4 and image[0, 0].max() < 12
        mean = image[tissue].mean(0)
        assert mean[0] > 1.2 * mean[1] and mean[0] > 1.2 * mean[2]
        if lesion.any():
            inside = image[lesion].mean(0)
            assert inside[0] / inside.sum() > mean[0] / mean.sum()
    empty = np.mean(np.array(shares) == 0)
    painted = [share for share in shares if share]
    assert 0.01 < empty < 0.2
    assert LESION_SHARE[0] <= min(painted) < 0.01 and 0.05 < max(painted) <= LESION_SHARE[1] + 1e-3


@pytest.mark.parametrize("size", [32, 96])
def test_a_frame_takes_at_most_23_random_fields_and_a_set_one_frame_an_image(tmp_path, monkeypatch, size):
    """The fields are what painting costs: their number does not grow with the size, the frames are painted once."""
    frames = []

    def paint_counted(rng, patient, side):
        frames.append([])
        return paint_frame(rng, patient, side)

    def noise_counted(rng, side, scale):
        frames[-1].append(side)
        return noise(rng, side, scale)

    noise = synthetic_frames.noise
    monkeypatch.setattr(synthetic, "paint_frame", paint_counted)
    monkeypatch.setattr(synthetic_frames, "noise", noise_counted)
    write_synthetic_set(tmp_path / "set", 40, size)
    assert len(frames) == 40
    assert all(set(sides) == {size} and 15 <= len(sides) <= 23 for sides in frames)


def test_the_default_split_is_140_20_40():
    frames = [(f"k{index}", f"p{index // 5}") for index in range(200)]
    assert {side: len(keys) for side, keys in synthetic._split(frames, 0).items()} == {
        "train": 140,
        "val": 20,
        "test": 40,
    }


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)  # splits.json, the last file
    with pytest.raises(InputError, match="cannot be written to .*set .No space.* or give dataset_dir"):
        write_synthetic_set(tmp_path / "set", 20, 32)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written to .*set \(Not a directory\)"):
        write_synthetic_set(tmp_path / "file" / "new" / "set", 20, 32)


def test_foreign_folders_and_small_numbers_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        write_synthetic_set(tmp_path)
    with pytest.raises(InputError, match="too small"):
        write_synthetic_set(tmp_path / "set", 8)
    (tmp_path / "empty").mkdir()
    assert write_synthetic_set(tmp_path / "empty", 20, 32) == tmp_path / "empty"


def test_a_set_written_by_another_process_meanwhile_is_accepted(tmp_path):
    write_synthetic_set(tmp_path / "set", 20, 32)
    (tmp_path / "work").mkdir()
    synthetic._move_into_place(tmp_path / "work", tmp_path / "set")
    assert json.loads((tmp_path / "set/splits.json").read_text())["test"]


def test_without_dataset_dir_the_set_is_written_once_and_said_so(tmp_path, caplog):
    write_synthetic_set(tmp_path / "set", 20, 32)
    before = digest(tmp_path / "set")
    with caplog.at_level("INFO", logger="less_net"):
        datalist = load_datalist("", synthetic_dir=tmp_path / "set")
    assert "No dataset_dir given: using the embedded synthetic set" in caplog.text
    assert digest(tmp_path / "set") == before and Image.open(datalist["test"][0]["image"]).size == (32, 32)


def test_the_set_is_generated_on_first_use(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("scripts.data.datalist.write_synthetic_set", lambda path: write_synthetic_set(path, 20, 32))
    with caplog.at_level("INFO", logger="less_net"):
        load_datalist(None, synthetic_dir=tmp_path / "new/set")
    assert "writing the embedded synthetic set" in caplog.text and (tmp_path / "new/set/pairs.csv").is_file()


def test_the_synthetic_set_needs_a_place_and_two_classes(tmp_path):
    with pytest.raises(InputError, match="dataset_dir is empty"):
        load_datalist("")
    with pytest.raises(InputError, match="num_classes is 3"):
        load_datalist("", num_classes=3, synthetic_dir=tmp_path)
