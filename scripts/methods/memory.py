# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of past batches, first in, first out, one list a class."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from scripts.distributed import gathered


class ClassMemory(nn.Module):
    """The latest ``size`` embeddings of every class; buffers, so they are saved with the checkpoint.

    Everything has a fixed shape, so nothing waits for the device.
    """

    def __init__(self, num_classes: int, size: int = 256, dim: int = 64) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(num_classes, size, dim))
        self.register_buffer("filled", torch.zeros(num_classes, size, dtype=torch.bool))

    @torch.no_grad()
    def push(self, embeddings: Tensor, classes: Tensor) -> None:
        """Take in (N, D) embeddings of classes (N,), in front of what is there; other classes are left out.

        Of several processes those of all are taken in, so that their memories are equal.
        """
        embeddings, classes = gathered(embeddings), gathered(classes)
        lists, size, dim = self.embeddings.shape
        numbers = torch.arange(lists, device=classes.device).unsqueeze(1)
        filled = torch.cat([classes.unsqueeze(0) == numbers, self.filled], dim=1)
        fresh = embeddings.detach().to(self.embeddings.dtype).expand(lists, -1, -1)
        order = (~filled).to(torch.uint8).argsort(dim=1, stable=True)[:, :size]
        candidates = torch.cat([fresh, self.embeddings], dim=1)
        self.embeddings.copy_(candidates.gather(1, order.unsqueeze(2).expand(-1, -1, dim)))
        self.filled.copy_(filled.gather(1, order))

    def keys(self) -> tuple[Tensor, Tensor]:
        """All entries (num_classes * size, D) and their classes, -1 where an entry is still empty."""
        numbers = torch.arange(len(self.filled), device=self.filled.device).unsqueeze(1)
        return self.embeddings.flatten(0, 1), torch.where(self.filled, numbers, -1).flatten()
