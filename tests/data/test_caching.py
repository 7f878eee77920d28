# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images are kept where there is room, a full memory is never filled, and every place gives the same values."""

from __future__ import annotations

import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.transforms import Compose, Lambda, LoadImaged, Resized
from PIL import Image

from scripts.data import caching
from scripts.data.caching import cached_dataset, choose, free_disk, free_memory, item_bytes, promised
from scripts.errors import InputError


def to_tensors(item: dict) -> dict:
    """A deterministic transform: (1, 4, 4) float32 and (1, 4, 4) uint8, 80 bytes."""
    value = float(item["key"])
    return {"key": item["key"], "image": torch.full((1, 4, 4), value), "label": torch.ones(1, 4, 4, dtype=torch.uint8)}


@pytest.fixture(autouse=True)
def nothing_promised(monkeypatch):
    """Trainings of other tests may still live in this process."""
    monkeypatch.setattr(caching, "PROMISES", weakref.WeakKeyDictionary())


DATA = [{"key": str(n)} for n in range(5)]
TRANSFORM = Compose([Lambda(to_tensors)])


def test_size_counts_tensors_only():
    assert item_bytes(to_tensors(DATA[0])) == 16 * 4 + 16


@pytest.mark.parametrize(
    "memory, disk, expected", [(800, 0, "memory"), (799, 800, "disk"), (799, 799, "none"), (0, 0, "none")]
)
def test_chosen_by_size(monkeypatch, tmp_path, memory, disk, expected):
    monkeypatch.setattr(caching, "free_memory", lambda: memory)
    monkeypatch.setattr(caching, "free_disk", lambda folder: disk)
    mode, reason = choose(5 * 80, tmp_path)
    assert mode == expected and reason.startswith("they take 0.0 MB")


def test_without_a_folder_nothing_goes_to_the_disk(monkeypatch):
    monkeypatch.setattr(caching, "free_memory", lambda: 0)
    assert choose(400, None)[0] == "none"


@pytest.mark.parametrize("cache, kind", [("memory", CacheDataset), ("disk", PersistentDataset), ("none", Dataset)])
def test_every_place_gives_the_same_values(tmp_path, cache, kind):
    dataset = cached_dataset(DATA, TRANSFORM, cache, tmp_path / "cache")
    assert type(dataset) is kind
    for _ in range(2):
        for index, item in enumerate(DATA):
            found = dataset[index]
            assert found["key"] == item["key"]
            assert torch.equal(found["image"], to_tensors(item)["image"])
            assert found["label"].dtype == torch.uint8


@pytest.mark.parametrize("workers, before", [(0, 0), (2, 5)])
def test_memory_is_filled_at_once_only_for_worker_processes(workers, before):
    calls = []

    def counted(item):
        calls.append(item["key"])
        return to_tensors(item)

    dataset = cached_dataset(DATA, Compose([Lambda(counted)]), "memory", num_workers=workers)
    assert len(calls) == before
    for _ in range(2):
        assert [dataset[index]["key"] for index in range(5)] == list("01234")
    assert sorted(calls) == list("01234")


def test_disk_cache_is_found_again(tmp_path):
    calls = []

    def counted(item):
        calls.append(item["key"])
        return to_tensors(item)

    for _ in range(2):
        dataset = cached_dataset(DATA, Compose([Lambda(counted)]), "disk", tmp_path)
        [dataset[index] for index in range(len(DATA))]
    assert len(calls) == len(DATA)


def test_another_preprocessing_does_not_find_the_files_of_before(tmp_path):
    """An application trains again in its folder, with another image size."""
    items = [{"image": torch.ones(1, 8, 8)}]
    for size in (8, 4, 8):
        resize = Compose([Resized("image", (size, size))])
        assert cached_dataset(items, resize, "disk", tmp_path)[0]["image"].shape == (1, size, size)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_mask_corrected_since_is_not_taken_from_the_files_of_before(tmp_path):
    """A training that is resumed after an annotator has been at it."""
    names, read = [tmp_path / "one.png", tmp_path / "two.png"], LoadImaged("label", image_only=True)
    values = {}
    for turn in range(2):
        Image.fromarray(np.full((8, 8), 1 + turn, np.uint8)).save(names[0])
        if not turn:
            Image.fromarray(np.full((8, 8), 7, np.uint8)).save(names[1])
        kept = cached_dataset([{"label": str(name)} for name in names], Compose([read]), "disk", tmp_path / "cache")
        values[turn] = [int(kept[index]["label"].max()) for index in (0, 1, 0)]
    assert values == {0: [1, 7, 1], 1: [2, 7, 2]}
    assert len(list((tmp_path / "cache").iterdir())) == 3  # the other was found again


@pytest.mark.parametrize("memory, place", [(10**6, "in memory"), (0, "on the disk")])
def test_says_where_images_are_kept(monkeypatch, tmp_path, caplog, memory, place):
    monkeypatch.setattr(caching, "free_memory", lambda: memory)
    with caplog.at_level(logging.INFO, logger="less_net"):
        cached_dataset(DATA, TRANSFORM, "auto", tmp_path)
    assert f"5 images are kept {place}: they take 0.0 MB, and {memory / 1e6:.1f} MB of memory are free" in caplog.text


@pytest.fixture()
def no_promises(monkeypatch):
    """As in a process that has put nothing in memory yet: what earlier tests left may not be collected."""
    monkeypatch.setattr(caching, "PROMISES", weakref.WeakKeyDictionary())


def test_lists_that_fit_one_by_one_do_not_take_the_memory_together(no_promises, monkeypatch):
    monkeypatch.setattr(caching, "free_memory", lambda: 889)  # a list takes 400, 45 % of it
    lists = [cached_dataset(DATA, TRANSFORM) for _ in range(3)]
    assert [type(one) for one in lists] == [CacheDataset, Dataset, Dataset]


def test_a_promise_shrinks_as_the_memory_fills_and_ends_with_its_list(no_promises, monkeypatch):
    monkeypatch.setattr(caching, "free_memory", lambda: 10**6)
    lazy, other = cached_dataset(DATA, TRANSFORM), cached_dataset(DATA, TRANSFORM)
    assert promised() == 800
    [lazy[index] for index in (0, 3)]
    assert promised() == 800 - 2 * 80
    full = cached_dataset(DATA, TRANSFORM, num_workers=2)  # filled before it is returned
    assert len(full) == 5 and promised() == 640
    del other
    gc.collect()
    assert promised() == 240


def test_empty_list():
    assert len(cached_dataset([], TRANSFORM)) == 0


@pytest.mark.parametrize("arguments", [{"cache": "ram"}, {"cache": "disk"}])
def test_refuses(arguments):
    with pytest.raises(InputError, match="cache"):
        cached_dataset(DATA, TRANSFORM, **arguments)


def test_a_container_limit_counts(monkeypatch, tmp_path):
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("400\n")
    monkeypatch.setattr(caching, "CGROUP_LIMITS", ((tmp_path / "max", tmp_path / "current"),))
    assert free_memory() == 600
    (tmp_path / "max").write_text("max\n")
    assert free_memory() > 10**6


def test_free_disk_of_a_folder_to_come(tmp_path):
    assert free_disk(tmp_path / "not" / "yet") > 0
