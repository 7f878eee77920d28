# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The two-stream loader: what a batch holds, and that its content depends on seed and iteration alone."""

from collections import Counter

import pytest
import torch

from scripts.data.streams import StreamSampler, TwoStreamLoader


def items(count: int, labelled: bool = True) -> list[dict]:
    """Tiny items whose image holds their own number."""
    return [
        {"image": torch.full((3, 4, 6), float(n)), "key": f"{'l' if labelled else 'u'}{n}", "group": "g"}
        | ({"label": torch.full((1, 4, 6), n)} if labelled else {})
        for n in range(count)
    ]


def keys(loader: TwoStreamLoader) -> list[list[str]]:
    """Keys of both streams of one epoch."""
    return [batch["labelled"]["key"] + batch["unlabelled"]["key"] for batch in loader]


def loader(**changes) -> TwoStreamLoader:
    """A small loader: 5 labelled, 7 unlabelled images."""
    return TwoStreamLoader(
        **{
            "labelled": items(5),
            "unlabelled": items(7, labelled=False),
            "batch_size": 2,
            "unlabelled_batch_size": 3,
            "epoch_length": 4,
        }
        | changes
    )


def test_a_batch_holds_both_streams():
    batch = next(iter(loader()))
    assert set(batch) == {"labelled", "unlabelled"}
    assert set(batch["labelled"]) == {"image", "label", "key"}
    assert set(batch["unlabelled"]) == {"image", "key"}
    assert batch["labelled"]["image"].shape == (2, 3, 4, 6) and batch["labelled"]["label"].shape == (2, 1, 4, 6)
    assert batch["unlabelled"]["image"].shape == (3, 3, 4, 6)
    numbers = [int(key[1:]) for key in batch["labelled"]["key"]]
    assert batch["labelled"]["image"][:, 0, 0, 0].tolist() == numbers == batch["labelled"]["label"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("iteration", [0, 1, 4, 6, 23])
def test_a_resumed_loader_continues_exactly(iteration):
    whole, resumed = loader(), loader()
    expected = [batch for _ in range(8) for batch in keys(whole)]
    resumed.seek(iteration)
    assert keys(resumed) == expected[iteration : iteration + 4]


def test_the_position_survives_an_epoch_that_is_left_early():
    first, expected = loader(), [batch for _ in range(2) for batch in [*keys(loader())]]
    iterator = iter(first)
    next(iterator)
    assert first.position == 1
    assert keys(first)[0] == expected[1]


def test_every_pass_shows_every_image_once():
    sampler = StreamSampler(length=7, batch_size=3, batches=7, seed=1)
    seen = Counter(index for batch in sampler for index in batch)
    assert set(seen) == set(range(7)) and set(seen.values()) == {3}


def test_the_seed_and_the_stream_change_the_order():
    def orders(seed, stream):
        return tuple(StreamSampler(50, 50, 1, seed, stream).indices(0))

    assert len({orders(seed, stream) for seed in range(4) for stream in range(2)}) == 8
    assert orders(0, 0) == orders(0, 0)
    for stream in ("labelled", "unlabelled"):
        one, again, other = ([b[stream]["key"] for b in loader(seed=seed)] for seed in (1, 1, 2))
        assert one == again != other


def test_processes_share_the_batches_that_one_would_have():
    whole = StreamSampler(10, 6, 3, seed=5)
    shares = [StreamSampler(10, 3, 3, seed=5, rank=rank, ranks=2) for rank in (0, 1)]
    assert [sum(parts, []) for parts in zip(*shares)] == list(whole)


def test_fewer_images_than_a_batch_are_cycled():
    batch = next(iter(loader(labelled=items(2), batch_size=5)))
    assert Counter(batch["labelled"]["key"]).most_common(1)[0][1] <= 3
    assert len(batch["labelled"]["key"]) == 5


@pytest.mark.parametrize("pool", [[], None])
def test_without_unlabelled_images_the_labelled_ones_serve_without_labels(pool):
    batch = next(iter(loader(unlabelled=pool)))
    assert set(batch["unlabelled"]) == {"image", "key"}
    assert all(key.startswith("l") for key in batch["unlabelled"]["key"])


def test_no_unlabelled_stream_when_its_batch_is_empty():
    assert set(next(iter(loader(unlabelled_batch_size=0)))) == {"labelled"}


def test_items_without_a_key_are_named_by_index():
    bare = [{key: item[key] for key in ("image", "label")} for item in items(3)]
    assert set(next(iter(loader(labelled=bare, batch_size=3)))["labelled"]["key"]) == {"0", "1", "2"}


def test_nothing_is_drawn_from_the_global_generator():
    before = torch.get_rng_state()
    keys(loader())
    assert torch.equal(before, torch.get_rng_state())


def test_worker_processes_give_the_same_batches():
    alone, workers = loader(), loader(num_workers=1)
    assert [keys(alone) for _ in range(2)] == [keys(workers) for _ in range(2)]
