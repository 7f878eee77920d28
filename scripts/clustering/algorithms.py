# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The ways to cluster one image: S3-Net as released and as intended, differentiable feature clustering, k-means.

Each is called with an image (1, C, X, Y) in [0, 1] and draws from torch's global generators: seed them before.
"""

from __future__ import annotations

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from scripts.clustering.objectives import FeatureClusteringObjective, IntendedObjective, ReleasedObjective
from scripts.engines.per_image import Fit, PerImageTrainer, by_size
from scripts.errors import InputError
from scripts.networks.s3net import PlainClusterNet, S3Net


class S3Clustering:
    """S3-Net: a network of 64 channels is trained on the image alone (see :class:`scripts.networks.s3net.S3Net`).

    Args:
        mode: ``released``, what the authors' code computes, with free offsets of one image size; ``intended``, with
            a differentiable spatial loss, true consistency over transformations and predicted offsets.
        channels, blocks: of the network.
        objective: another objective; None takes the mode's with its weights.
        trainer: step size and stop rule; None takes the released ones.

    Raises:
        InputError: no such mode, or a number of channels that is none of clusters.
    """

    OBJECTIVES = {"released": ReleasedObjective, "intended": IntendedObjective}

    def __init__(
        self,
        mode: str = "intended",
        channels: int = 64,
        blocks: int = 2,
        objective: ReleasedObjective | IntendedObjective | None = None,
        trainer: PerImageTrainer | None = None,
    ) -> None:
        if mode not in self.OBJECTIVES:
            raise InputError(f"algorithm#mode is {mode!r}: give {' or '.join(self.OBJECTIVES)}")
        self.mode, self.channels, self.blocks = mode, checked(channels), int(blocks)
        self.objective = objective if objective is not None else self.OBJECTIVES[mode]()
        self.trainer = trainer if trainer is not None else PerImageTrainer()

    def __call__(self, image: Tensor) -> Fit:
        size = (image.shape[-2], image.shape[-1]) if self.mode == "released" else None
        network = S3Net(image.shape[1], self.channels, self.blocks, size).to(image.device)
        return self.trainer.fit(network, self.objective, image)


class FeatureClustering:
    """Differentiable feature clustering (Kim, Kanezaki and Tanaka, IEEE TIP 29, 2020) in the same loop.

    Published in the authors' demo: 100 channels, two 3x3 convolutions, SGD 0.1 with momentum 0.9, up to 1000 steps,
    stop at 3 clusters. Our choice: at most 200 steps by default, so that a folder takes minutes.

    Args:
        channels, depth: of the network.
        objective: None takes both weights as 1.
        trainer: None takes 0.1, 200 steps, stop at 3 clusters from the first step on.
    """

    def __init__(
        self,
        channels: int = 100,
        depth: int = 1,
        objective: FeatureClusteringObjective | None = None,
        trainer: PerImageTrainer | None = None,
    ) -> None:
        self.channels, self.depth = checked(channels), int(depth)
        self.objective = objective if objective is not None else FeatureClusteringObjective()
        self.trainer = trainer if trainer is not None else PerImageTrainer(0.1, 0.9, 200, 1, 3)

    def __call__(self, image: Tensor) -> Fit:
        network = PlainClusterNet(image.shape[1], self.channels, self.depth).to(image.device)
        return self.trainer.fit(network, self.objective, image)


class KMeans:
    """k-means on the colours (scipy, starts drawn by k-means++), the best of several starts.

    Args:
        clusters: k; fewer where the image has fewer colours. 3 is where S3-Net stops.
        starts: number of starts.
        iterations: of each.
    """

    def __init__(self, clusters: int = 3, starts: int = 4, iterations: int = 30) -> None:
        self.clusters, self.starts, self.iterations = int(clusters), int(starts), int(iterations)
        if not 2 <= self.clusters <= 255 or self.starts < 1 or self.iterations < 1:
            raise InputError(f"algorithm#clusters is {clusters!r}: give 2 to 255, and at least one start and iteration")

    def __call__(self, image: Tensor) -> Fit:
        pixels = image[0].flatten(1).T.double().cpu().numpy()
        count = min(self.clusters, len(torch.tensor(pixels).unique(dim=0)))
        best = None
        for _ in range(self.starts):
            seed = int(torch.randint(0, 2**31 - 1, ()))
            centres, labels = kmeans2(pixels, count, self.iterations, minit="++", seed=seed, missing="raise")
            error = ((pixels - centres[labels]) ** 2).sum()
            if best is None or error < best[0]:
                best = error, labels
        labels = by_size(torch.as_tensor(best[1]).long().view(image.shape[-2:]))
        return Fit(labels, int(labels.max()) + 1, self.iterations)


def checked(channels: int) -> int:
    """The number of channels, which is that of the clusters: label maps have a byte a pixel, and 255 is not a cluster.

    Raises:
        InputError: fewer than 2 or more than 255.
    """
    if not 2 <= int(channels) <= 255:
        raise InputError(f"algorithm#channels is {channels!r}: give a whole number from 2 to 255")
    return int(channels)
