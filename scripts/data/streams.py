# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The training loader: one labelled and one unlabelled stream, each batch a pure function of seed and iteration; and
how the images that are judged become batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from monai.data import list_data_collate
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from scripts import distributed
from scripts.errors import InputError

LABELLED_KEYS = ("image", "label", "key")
UNLABELLED_KEYS = ("image", "key")


class StreamSampler(Sampler[list[int]]):
    """Index batches of one stream: the items in an endless row of permutations, cut into batches.

    Permutation p is drawn from a generator seeded with (seed, stream, p), so batch i depends on seed and i alone:
    a resumed run sees exactly the batches it would have seen. Lists shorter than a batch are gone through repeatedly.

    Args:
        length: number of items, at least 1.
        batch_size: items a batch.
        batches: number of batches that one pass of the iterator yields.
        seed: seed of the run.
        stream: number of the stream, so that streams of equal length differ.
        rank, ranks: of several processes the batches of all, one behind the other, are one batch of one process.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        batches: int,
        seed: int = 0,
        stream: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.length, self.batch_size, self.batches = int(length), int(batch_size), int(batches)
        self.seed, self.stream, self.rank, self.ranks = int(seed), int(stream), int(rank), int(ranks)
        self.start = 0
        self._permutation: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start, self.start + self.batches):
            yield self.indices(batch)

    def indices(self, batch: int) -> list[int]:
        """Item indices of batch number ``batch``, counted from 0 over the whole run."""
        first = (batch * self.ranks + self.rank) * self.batch_size
        return [self.permutation(n // self.length)[n % self.length] for n in range(first, first + self.batch_size)]

    def permutation(self, number: int) -> list[int]:
        """The order of the items in pass ``number`` over the list."""
        if self._permutation[0] != number:
            # torch's generators take one integer: large odd factors keep neighbouring (seed, stream, pass) apart
            mixed = (self.seed * 1_000_003 + self.stream) * 2_147_483_659 + number
            generator = torch.Generator().manual_seed(mixed % 2**63)
            self._permutation = (number, torch.randperm(self.length, generator=generator).tolist())
        return self._permutation[1]


class PickKeys(Dataset):
    """A data set whose items keep ``keys`` only; an item without ``key`` is named by its index."""

    def __init__(self, dataset: Dataset, keys: Sequence[str]) -> None:
        self.dataset, self.keys = dataset, tuple(keys)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        return {key: item[key] if key != "key" else str(item.get("key", index)) for key in self.keys}


def collate_shared(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of what all its items hold: some may be slices of volumes, or have a spacing or scribbles, others not."""
    shared = [key for key in items[0] if all(key in item for item in items)]
    return list_data_collate([{key: item[key] for key in shared} for item in items])


class TwoStreamLoader:
    """Yields ``{"labelled": {"image", "label", "key"}, "unlabelled": {"image", "key"}}``, one dict an iteration.

    Images are (B, C, X, Y), labels (B, 1, X, Y), keys lists of str. Iterating yields the iterations
    [position, position + epoch_length) and moves the position on, so epochs follow one another; :meth:`seek` sets the
    position when a run is resumed. Draws nothing from the global generators. Of several processes each gets its own
    share of both streams (:class:`StreamSampler`), and the batch sizes are those of one process.

    Args:
        labelled: data set of items with ``image``, ``label`` and ``key``; empty (a federated site without masks): the
            labelled part of every batch holds no image, (0, C, X, Y) and (0, 1, X, Y).
        unlabelled: data set of items with ``image`` and ``key``; empty or None: the labelled images serve, without
            their labels.
        batch_size: labelled images an iteration.
        unlabelled_batch_size: unlabelled images an iteration; 0 leaves the entry out.
        epoch_length: iterations an epoch.
        seed: seed of the order.
        num_workers: worker processes of each stream; cached data sets need none.
        pin_memory: batches in page-locked memory, from which a GPU takes them without waiting.

    Raises:
        InputError: there is neither a labelled image nor an unlabelled stream.

    Example:
        >>> items = [{"image": torch.zeros(3, 8, 8), "label": torch.zeros(1, 8, 8), "key": str(n)} for n in range(4)]
        >>> batch = next(iter(TwoStreamLoader(items, None, 2, 2, epoch_length=1)))
        >>> tuple(batch["labelled"]["image"].shape), sorted(batch["unlabelled"])
        ((2, 3, 8, 8), ['image', 'key'])
    """

    def __init__(
        self,
        labelled: Dataset,
        unlabelled: Dataset | None,
        batch_size: int,
        unlabelled_batch_size: int,
        epoch_length: int,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.epoch_length, self.position = int(epoch_length), 0
        self.seed, self.num_workers, self.pin_memory = int(seed), int(num_workers), bool(pin_memory)
        pool = unlabelled if unlabelled is not None and len(unlabelled) else labelled  # type: ignore[arg-type]
        if not len(labelled) and not (unlabelled_batch_size and len(pool)):  # type: ignore[arg-type]
            raise InputError(
                "no image is labelled, and no unlabelled ones are read: give masks, or unlabelled_batch_size 1 or more"
            )
        self.loaders = {}
        if len(labelled):  # type: ignore[arg-type]
            self.loaders["labelled"] = self._loader(PickKeys(labelled, LABELLED_KEYS), batch_size, stream=0)
        if unlabelled_batch_size:
            self.loaders["unlabelled"] = self._loader(PickKeys(pool, UNLABELLED_KEYS), unlabelled_batch_size, stream=1)

    def _loader(self, dataset: Dataset, batch_size: int, stream: int) -> DataLoader:
        length = len(dataset)  # type: ignore[arg-type]
        share = distributed.rank(), distributed.world_size()
        sampler = StreamSampler(length, batch_size, self.epoch_length, self.seed, stream, *share)
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=default_collate,
            pin_memory=self.pin_memory,
            # without a generator of its own, a DataLoader draws from the global one at each epoch
            generator=torch.Generator().manual_seed(self.seed + stream),
        )

    def seek(self, iteration: int) -> None:
        """Continue with iteration number ``iteration``, counted from 0."""
        self.position = int(iteration)

    def __len__(self) -> int:
        return self.epoch_length

    def __iter__(self) -> Iterator[dict[str, dict[str, Any]]]:
        for loader in self.loaders.values():
            loader.batch_sampler.start = self.position
        for batches in zip(*self.loaders.values()):
            self.position += 1
            batch = dict(zip(self.loaders, batches))
            yield batch if "labelled" in batch else {"labelled": nothing_labelled(batch["unlabelled"])} | batch


def nothing_labelled(unlabelled: dict[str, Any]) -> dict[str, Any]:
    """The labelled part of a batch where no image is labelled: the shapes of the images, but none of them."""
    image = unlabelled["image"][:0]
    return {"image": image, "label": image.new_zeros((0, 1, *image.shape[2:]), dtype=torch.uint8), "key": []}
