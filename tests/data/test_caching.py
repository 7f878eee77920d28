# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images are kept where there is room, a full memory is never filled, and every place gives the same values."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.transforms import Compose, Lambda

from scripts.data import caching
from scripts.data.caching import cached_dataset, choose, free_disk, free_memory, item_bytes
from scripts.errors import InputError


def to_tensors(item: dict) -> dict:
    """A deterministic transform: (1, 4, 4) float32 and (1, 4, 4) uint8, 80 bytes."""
    value = float(item["key"])
    return {"key": item["key"], "image": torch.full((1, 4, 4), value), "label": torch.ones(1, 4, 4, dtype=torch.uint8)}


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
    mode, reason = choose(DATA, TRANSFORM, tmp_path)
    assert mode == expected
    assert (reason == "") == (mode == "memory")


def test_without_a_folder_nothing_goes_to_the_disk(monkeypatch):
    monkeypatch.setattr(caching, "free_memory", lambda: 0)
    assert choose(DATA, TRANSFORM, None)[0] == "none"


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


def test_says_when_images_are_not_kept_in_memory(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(caching, "free_memory", lambda: 0)
    with caplog.at_level(logging.INFO, logger="less_net"):
        cached_dataset(DATA, TRANSFORM, "auto", tmp_path)
    assert "5 images are kept on the disk" in caplog.text


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
