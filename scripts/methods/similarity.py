# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Similarity-based pixel contrast with a prototype memory (our choice for LESS-Net's "similarity-based" contrast)."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.losses import class_info_nce, class_means, full_product, sample_per_class
from scripts.methods.projection import ProjectionHead
from scripts.switches import as_bool


class SimilarityContrast(nn.Module):
    """Pixels of one class together, of different classes apart, at the stride of the features.

    * **projection head**: 1x1, SiLU, 1x1, L2 norm; training only, never exported.
    * **prototype memory**: one direction per class, the EMA of the labelled pixels' mean embedding.
    * **noise rejection** (``reject_noise``): a pseudo-labelled pixel takes part only if its own class's prototype is
      the most similar of those there are; while its class has none (no labelled pixel so far) it takes part.
    * **hard pixels** (``hardness`` > 0): drawn with probability growing as exp(-hardness x similarity to own
      prototype).
    * **class-balanced sampling**: ``samples`` pixels of every class; the prototypes are keys beside the pixels.

    Args:
        feature_channels: channels of the features.
        num_classes: classes with background.
        dim: size of the embedding.
        samples: pixels per class and batch.
        temperature: of the InfoNCE.
        momentum: share of the new mean in the memory.
    """

    def __init__(
        self,
        feature_channels: int,
        num_classes: int = 2,
        dim: int = 64,
        samples: int = 128,
        temperature: float = 0.1,
        momentum: float = 0.05,
        reject_noise: bool = True,
        hardness: float = 2.0,
    ) -> None:
        super().__init__()
        self.projection = ProjectionHead(feature_channels, dim)
        self.num_classes, self.samples, self.temperature, self.momentum = num_classes, samples, temperature, momentum
        self.reject_noise, self.hardness = as_bool(reject_noise, "method#contrast#reject_noise"), hardness
        self.register_buffer("prototypes", torch.zeros(num_classes, dim))

    def forward(self, features: Tensor, labels: Tensor, labelled: int) -> Tensor:
        """Contrastive loss.

        Args:
            features: (B, F, x, y) of the network, labelled images first.
            labels: (B, 1, X, Y) classes, 255 = not used; pseudo-labels for the unlabelled images.
            labelled: number of labelled images at the front of the batch.
        """
        embeddings = self.projection(features).movedim(1, -1)
        small = F.interpolate(labels.float(), size=features.shape[-2:], mode="nearest").long()[:, 0]
        self.remember(embeddings[:labelled].flatten(0, 2), small[:labelled].flatten())
        flat, classes = embeddings.flatten(0, 2), small.flatten()
        similarity = full_product(flat.detach(), self.prototypes.T)
        known = self.prototypes.abs().sum(dim=1) > 0
        own = similarity.gather(1, classes.clamp(max=self.num_classes - 1).unsqueeze(1))[:, 0]
        if self.reject_noise:
            nearest = similarity.masked_fill(~known, -torch.inf).argmax(dim=1)
            trusted = (nearest == classes) | ~known[classes.clamp(max=self.num_classes - 1)]
            trusted[: small[:labelled].numel()] = True
            classes = torch.where(trusted, classes, -1)
        index, drawn = sample_per_class(classes, self.num_classes, self.samples, -self.hardness * own)
        anchors = flat[index]
        memory = torch.where(known, torch.arange(self.num_classes, device=drawn.device), -1)
        same = F.pad(torch.eye(len(index), dtype=torch.bool, device=drawn.device), (0, self.num_classes))
        keys = torch.cat([anchors, self.prototypes])
        return class_info_nce(anchors, drawn, keys, torch.cat([drawn, memory]), self.temperature, same)

    @torch.no_grad()
    def remember(self, embeddings: Tensor, labels: Tensor) -> None:
        """Move the prototypes of the classes present towards the mean embedding of their labelled pixels."""
        means, counts = class_means(embeddings.detach(), labels, self.num_classes)
        fresh = self.prototypes.abs().sum(dim=1, keepdim=True) == 0
        moved = torch.where(fresh, means, self.prototypes.lerp(means, self.momentum))
        self.prototypes.copy_(torch.where(counts.unsqueeze(1) > 0, F.normalize(moved, dim=1), self.prototypes))
