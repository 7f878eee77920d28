# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network (``torchrun``): what they tell each other. In a single one nothing happens.

Every process ("rank") has its own device and its own share of each batch; together they do what one process would do
with all of it, but for the pixels that contrasts draw, which each rank compares with its own. Each function that says
"all ranks" must be reached by all of them, equally often, so rules and losses do not branch on the values of a batch.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset

from scripts.errors import InputError

Result = TypeVar("Result")


class ToldElsewhere(InputError):
    """The fault that another rank has found and tells."""


def active() -> bool:
    """Whether there is more than one rank."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if active() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if active() else 1


def local_world_size() -> int:
    """Number of processes on this machine, which share its memory."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1))) if active() else 1


def is_main() -> bool:
    """Whether this is the rank that writes files and speaks."""
    return rank() == 0


def is_lost_connection(error: BaseException) -> bool:
    """Whether an exchange failed because another rank is gone, or did not come in time."""
    words = ("gloo", "nccl", "connection closed", "connection reset", "timed out")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def main_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: on the other ranks the function does nothing and returns None."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if is_main() else None

    return guarded


def quiet_others() -> None:
    """Let rank 0 alone say what goes on; errors are told by whoever has them."""
    if not is_main():
        logging.disable(logging.WARNING)


def from_main(function: Callable[[], Result]) -> Result:
    """What the function returns on rank 0, on all ranks; what it raises there ends them all.

    Raises:
        ToldElsewhere: on the other ranks, when it raised on rank 0.
    """
    if not active():
        return function()
    answer: list[Any] = [None, None]
    try:
        if is_main():
            answer[0] = function()
    except Exception as error:
        answer[1] = str(error) or type(error).__name__
        raise
    finally:
        dist.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise ToldElsewhere(answer[1])
    return answer[0]


@contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 goes through the block before the others, for what is written on first use."""
    if active() and not is_main():
        dist.barrier()
    try:
        yield
    finally:
        if active() and is_main():
            dist.barrier()


def gathered(values: Tensor) -> Tensor:
    """The tensors (N, ...) of all ranks, one after the other: (ranks * N, ...). Equal shapes; no gradient."""
    if not active():
        return values
    parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, values.detach().contiguous())
    return torch.cat(parts)


def gathered_objects(value: Result) -> list[Result]:
    """The objects of all ranks, in their order."""
    if not active():
        return [value]
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, value)
    return parts


class _Sum(torch.autograd.Function):
    """Sum over the ranks. Gradients are averaged over the ranks later, so each gets the ranks' number times its own."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * world_size()


def summed(*values: Tensor) -> tuple[Tensor, ...]:
    """Each of the floating-point tensors, summed over all ranks, in one exchange.

    For what a loss counts over the batch: ``a.sum() / b.sum()`` of the whole batch is not the mean of that of its
    parts. With gradients averaged over the ranks the gradient is that of the whole batch.
    """
    if not active():
        return values
    total = _Sum.apply(torch.cat([value.reshape(-1).float() for value in values]))
    parts = total.split([value.numel() for value in values])
    return tuple(part.view(value.shape) for part, value in zip(parts, values))


def averaged(values: Tensor) -> Tensor:
    """Mean over all ranks, without gradient."""
    if not active():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


@torch.no_grad()
def average_(tensors: Iterable[Tensor]) -> None:
    """Replace the tensors by their means over all ranks."""
    _exchange([tensor for tensor in tensors if tensor.is_floating_point()], _mean_)


@torch.no_grad()
def copy_from_main_(tensors: Iterable[Tensor]) -> None:
    """Replace the tensors by those of rank 0."""
    _exchange(list(tensors), lambda flat: dist.broadcast(flat, src=0))


def _mean_(flat: Tensor) -> None:
    dist.all_reduce(flat)
    flat.div_(world_size())


def _exchange(tensors: Sequence[Tensor], operation: Callable[[Tensor], Any]) -> None:
    """One exchange for each type among the tensors, however many there are."""
    if not active():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype is dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        operation(flat)
        for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same])):
            tensor.copy_(part.view(tensor.shape))


def share_of(dataset: Dataset) -> list[int]:
    """Indices of the images that this rank judges: together the ranks judge each once, and a volume's slices stay
    together. Serves as the ``sampler`` of a loader.

    Args:
        dataset: its ``data`` is the list of items, of which ``volume`` is read.

    Raises:
        InputError: there are fewer cases than ranks.
    """
    items, ranks = dataset.data, world_size()  # type: ignore[attr-defined]
    cases: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        cases.setdefault(str(item.get("volume") or f"/{index}"), []).append(index)
    if len(cases) < ranks:
        raise InputError(
            f"{len(cases)} images or volumes are to be judged by {ranks} processes: start {max(len(cases), 1)} or "
            "fewer (--nproc_per_node)"
        )
    shares: list[list[int]] = [[] for _ in range(ranks)]
    for indices in cases.values():
        min(shares, key=len).extend(indices)
    return sorted(shares[rank()])


def summary_writer(log_dir: str) -> Any:
    """TensorBoard's writer on rank 0; on the others one that writes nothing."""
    if not is_main():
        return _Silence()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(log_dir)


class _Silence:
    """Has every method of a writer; none does anything."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None
