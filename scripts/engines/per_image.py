# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The other trainer: a fresh network for every image, trained on that image alone until few clusters are left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn as nn
from torch import Tensor

from scripts.errors import InputError

#: (network, image) -> (logits (1, K, X, Y), named losses, weighted already, named values that are only reported)
Objective = Callable[[nn.Module, Tensor], tuple[Tensor, Mapping[str, Tensor], Mapping[str, Tensor]]]


@dataclass
class Fit:
    """What training on one image leaves.

    Attributes:
        labels: clusters (X, Y) on the CPU, numbered from 0 by falling size.
        clusters: how many there are.
        iterations: steps that were made.
        collapsed: the last answer had a single cluster; ``labels`` is the last one before with two or more.
        history: one row an iteration: clusters, and every loss and value by name.
    """

    labels: Tensor
    clusters: int
    iterations: int
    collapsed: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class PerImageTrainer:
    """SGD on one image, until it has ``stop_at`` clusters or fewer, or ``max_iterations`` are done.

    The defaults are those of S3-Net's released code; momentum, stop rule and the last forward pass, still with the
    batch-norm statistics of the image itself, go back to Kim et al. (IEEE TIP 29, 2020).

    Args:
        learning_rate, momentum: of SGD.
        max_iterations: most steps.
        least_iterations: steps before the stop rule counts; 6 means that it is asked after the sixth step first.
        stop_at: number of clusters at which training stops.

    Raises:
        InputError: no step would be made.
    """

    def __init__(
        self,
        learning_rate: float = 0.2,
        momentum: float = 0.9,
        max_iterations: int = 50,
        least_iterations: int = 6,
        stop_at: int = 3,
    ) -> None:
        self.learning_rate, self.momentum = float(learning_rate), float(momentum)
        self.max_iterations, self.least_iterations = int(max_iterations), int(least_iterations)
        self.stop_at = int(stop_at)
        if self.max_iterations < 1:
            raise InputError(f"algorithm#trainer#max_iterations is {max_iterations!r}: give at least 1")

    def fit(self, network: nn.Module, objective: Objective, image: Tensor) -> Fit:
        """Train ``network`` on ``image`` (1, C, X, Y); both on one device."""
        optimizer = torch.optim.SGD(network.parameters(), self.learning_rate, self.momentum)
        network.train()
        kept, history = None, []
        for iteration in range(1, self.max_iterations + 1):
            logits, losses, values = objective(network, image)
            labels = logits.detach()[0].argmax(dim=0)
            clusters = len(labels.unique())
            kept = labels if clusters > 1 else kept
            optimizer.zero_grad()
            total = torch.stack(list(losses.values())).sum()
            named = {**losses, **values}
            # all numbers at once: on a GPU every one that is asked for makes the host wait
            finite, *numbers = torch.stack([total.isfinite(), *(value.detach() for value in named.values())]).tolist()
            if not finite:
                break
            total.backward()
            optimizer.step()
            history.append({"clusters": clusters, **dict(zip(named, numbers))})
            if iteration >= self.least_iterations and clusters <= self.stop_at:
                break
        with torch.no_grad():
            last = network(image)
            last = (last[0] if isinstance(last, tuple) else last)[0].argmax(dim=0)
        collapsed = len(last.unique()) < 2
        labels = by_size(kept if collapsed and kept is not None else last).cpu()
        return Fit(labels, int(labels.max()) + 1, len(history), collapsed, history)


def by_size(labels: Tensor) -> Tensor:
    """The labels numbered anew from 0, the largest cluster first; equal sizes in the order of their old numbers."""
    values, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    order = torch.argsort(counts, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank[inverse]
