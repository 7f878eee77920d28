# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Where preprocessed images are kept between epochs: in memory, on the disk, or nowhere, by their size."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import shutil
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.data.utils import pickle_hashing

from scripts import distributed
from scripts.data.files import Item
from scripts.data.slices import fit_for_training
from scripts.errors import InputError
from scripts.hosting import handed_over

logger = logging.getLogger("less_net")

MODES = ("auto", "memory", "disk", "none")
PLACES = {"memory": "in memory", "disk": "on the disk", "none": "nowhere"}
SHARE = 0.5  # of what is free that a list of images may take: two more lists, and the training itself, need some too
FILLERS = 4  # threads that fill the memory
#: bytes of an image of every list that ``auto`` put in memory, as long as the list lives
PROMISES: weakref.WeakKeyDictionary[CacheDataset, int] = weakref.WeakKeyDictionary()
CGROUP_LIMITS = (  # a container may have less memory than its machine: (limit, in use), cgroup 2 and 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def cached_dataset(
    data: Sequence[Item],
    transform: Callable,
    cache: str = "auto",
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
) -> Dataset:
    """MONAI's ``CacheDataset``, ``PersistentDataset`` or ``Dataset``, whichever the size of the images allows.

    The size is that of the first item after ``transform`` times the number of items. ``auto`` keeps the list in memory
    while it takes at most half of what is free there and :func:`promised` to no other list, else in files in
    ``cache_dir`` while those take at most half of the free disk, else it reads the images anew each time. What was
    chosen, and why, is logged. Where an application runs the bundle, :func:`scripts.data.slices.fit_for_training` comes
    first.

    Args:
        data: the items of the list.
        transform: deterministic preprocessing, whose result is kept.
        cache: ``auto``, ``memory``, ``disk`` or ``none``.
        cache_dir: folder for ``disk``, of this run alone; a resumed run with the same preprocessing finds the
            files of images and masks that did not change since.
        num_workers: processes of the loader. Without any, an image is kept when it is first read, so that a run starts
            at once on however many images; with some, the memory is filled before, so that they share it.

    Raises:
        InputError: no such ``cache``, or ``disk`` without ``cache_dir``.
    """
    if cache not in MODES:
        raise InputError(f"cache is {cache!r}: give one of {', '.join(MODES)}")
    if cache == "disk" and not cache_dir:
        raise InputError("cache is 'disk', but there is no cache_dir: give a folder")
    if cache_dir and handed_over() is not None:
        data = fit_for_training(data, cache_dir)
    each = item_bytes(transform(data[0])) if cache == "auto" and len(data) else 0
    mode, reason = choose(len(data) * each, cache_dir) if each else (cache, "")
    if reason:
        logger.info("%d images are kept %s: %s", len(data), PLACES[mode], reason)
    if mode in ("memory", "auto"):
        lazy = {"runtime_cache": int(num_workers) == 0}
        dataset = CacheDataset(data, transform, num_workers=FILLERS, progress=sys.stderr.isatty(), **lazy)
        if each:
            PROMISES[dataset] = each
        return dataset
    if mode == "disk":  # an application may train again in the folder with another image size
        return PersistentDataset(data, transform, cache_dir, hash_func=item_hash, hash_transform=fingerprint)
    return Dataset(data, transform)


def item_hash(item: Mapping[str, Any]) -> bytes:
    """Of an item and of the files that it names, by size and time: a mask that was corrected is read anew."""
    stats = [os.stat(value) for value in item.values() if isinstance(value, (str, Path)) and os.path.isfile(value)]
    return pickle_hashing({"item": dict(item), "files": [(stat.st_size, stat.st_mtime_ns) for stat in stats]})


def fingerprint(transforms: Sequence[Callable]) -> bytes:
    """Of the preprocessing with its settings; of names alone where it cannot be written down, as a local function."""
    try:
        return pickle_hashing(transforms)
    except (AttributeError, TypeError, pickle.PicklingError):
        return pickle_hashing([type(transform).__name__ for transform in transforms])


def choose(needed: int, cache_dir: str | Path | None) -> tuple[str, str]:
    """(``memory``, ``disk`` or ``none``, why) for a list of ``needed`` bytes."""
    memory, others = free_memory(), promised()
    reason = f"they take {in_words(needed)}, and {in_words(memory)} of memory are free"
    if others:
        reason += f", {in_words(others)} of them promised to other lists"
    if needed <= SHARE * (memory - others):
        return "memory", reason
    if cache_dir:
        disk = free_disk(Path(cache_dir))
        if needed <= SHARE * disk:
            return "disk", f"{reason}; in {cache_dir}"
        reason += f"; {in_words(disk)} of disk are free"
    return "none", f"{reason}; raise num_workers if reading them holds the training up"


def promised() -> int:
    """Bytes that the lists which ``auto`` put in memory have still to take there.

    What they hold already is counted by the system; a list that is gone promises nothing.
    """
    if PROMISES:
        gc.collect()  # an engine of before and its lists hold each other
    # MONAI has no public way to ask which images a CacheDataset holds
    return sum(each * sum(held is None for held in dataset._cache) for dataset, each in list(PROMISES.items()))


def in_words(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def item_bytes(item: Mapping[str, Any]) -> int:
    """Bytes of the tensors of a preprocessed item."""
    tensors = [value for value in item.values() if isinstance(value, torch.Tensor)]
    return sum(value.numel() * value.element_size() for value in tensors)


def free_memory() -> int:
    """Bytes of memory that this process may still take: what the system has free, or its container, if that is less.

    Of several processes on one machine each gets its share.
    """
    limits = [limit - used for limit, used in map(_read_pair, CGROUP_LIMITS) if limit is not None and used is not None]
    return max(0, min([_system_memory(), *limits])) // distributed.local_world_size()


def _system_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:  # macOS tells the memory it has, not what is free: count on half
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * 1024**3


def _read_pair(paths: tuple[Path, Path]) -> tuple[int | None, int | None]:
    try:
        return int(paths[0].read_text(encoding="utf-8")), int(paths[1].read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return None, None


def free_disk(folder: Path) -> int:
    """Bytes free on the disk that holds ``folder``, or will."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
