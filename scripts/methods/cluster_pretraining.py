# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""S3-Net's self-supervision on all images at once, to start another rule from."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.clustering.objectives import IntendedObjective
from scripts.methods.base import LearningRule


class ClusterPretraining(LearningRule):
    """Clusters the pixels of all images with one network, by the objective that S3-Net has for a single image.

    Published (Karimijafarbigloo et al., ICCV-W 2023) is a fresh network an image. One network for the whole folder, and
    its use as a start of the semi-supervised rules (``initial_weights``), is our choice. No label is looked at: encoder
    and the decoder down to stride 4 learn, the head stays as it was. Cluster heads with batch norm (as in Kim et al.,
    TIP 2020) keep several clusters alive; they belong to the rule and are not exported.

    Args:
        clusters: number of clusters to start from.
        objective: the three terms and their weights; None takes those of the per-image mode, but a spatial term that
            leaves more than a few clusters.
    """

    losses = ("clustering", "affine", "spatial")
    needs_features = True

    def __init__(
        self, network: nn.Module, *, clusters: int = 32, objective: IntendedObjective | None = None, **common
    ) -> None:
        super().__init__(network, **common)
        self.objective = objective if objective is not None else IntendedObjective(spatial=8.0)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(network.feature_channels, clusters, 1, bias=False), nn.BatchNorm2d(clusters))
            for _ in ("main", "auxiliary")
        )

    def forward(self, network, batch, progress):
        parts = [batch[stream]["image"] for stream in ("labelled", "unlabelled") if stream in batch]
        images = self.strong_view(torch.cat(parts))
        logits, losses, _ = self.objective(ClusterAnswers(network, self.heads, images), images)
        hard = torch.zeros_like(logits).scatter_(1, logits.detach().argmax(dim=1, keepdim=True), 1.0)
        share = hard.mean(dim=(0, 2, 3))  # bincount would wait for the device
        # a cluster below a thousandth of the pixels tells nothing
        self.statistics = {"clusters": (share > 1e-3).sum().float(), "largest_cluster": share.max()}
        return losses


class ClusterAnswers:
    """A segmentation network as the objective wants it: a main answer, and an auxiliary one on demand."""

    def __init__(self, network: nn.Module, heads: nn.ModuleList, images: Tensor) -> None:
        self.network, self.heads, self.size = network, heads, images.shape[-2:]

    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        """Logits (B, clusters, X, Y)."""
        return self.answer(self.heads[0], self.features(images)), None

    def features(self, images: Tensor) -> Tensor:
        """(B, F, about X / 4, about Y / 4)."""
        return self.network(images, return_features=True)[1]

    def auxiliary(self, features: Tensor) -> Tensor:
        """The other head's logits (B, clusters, X, Y)."""
        return self.answer(self.heads[1], features)

    def answer(self, head: nn.Module, features: Tensor) -> Tensor:
        return F.interpolate(head(features).float(), size=self.size, mode="bilinear", align_corners=False)
