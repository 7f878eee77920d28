# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the per-image networks are trained for."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError
from scripts.losses import cross_entropy, drawn_edge_difference, edge_difference, neighbour_difference
from scripts.transforms import WeakView

Terms = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]


class ReleasedObjective:
    """S3-Net's objective as its public code computes it (arXiv 2309.00143).

    * ``clustering``: cross-entropy of the main answer with its own argmax, weight 3.5.
    * ``affine``: cross-entropy of the auxiliary answer with the argmax of the main one, both turned by 90 degrees,
      weight 0.2. Turning both leaves the mean as it is: no image is ever turned, so no invariance is learned; what is
      left is a distillation of the main head into the auxiliary one.
    * ``spatial``, weight 4, is only reported: it is computed from the argmax, a constant without gradient
      (:func:`scripts.losses.drawn_edge_difference`).

    Args:
        clustering, affine, spatial: the weights.
    """

    def __init__(self, clustering: float = 3.5, affine: float = 0.2, spatial: float = 4.0) -> None:
        self.clustering, self.affine, self.spatial = clustering, affine, spatial

    def __call__(self, network: nn.Module, image: Tensor) -> Terms:
        logits, auxiliary = network(image)
        labels = logits.detach().argmax(dim=1)
        turned, turned_labels = torch.rot90(auxiliary, 1, (2, 3)), torch.rot90(logits.detach(), 1, (2, 3)).argmax(dim=1)
        losses = {
            "clustering": self.clustering * F.cross_entropy(logits, labels),
            "affine": self.affine * F.cross_entropy(turned, turned_labels),
        }
        return logits, losses, {"spatial": self.spatial * drawn_edge_difference(labels, logits.shape[1])}


class IntendedObjective:
    """S3-Net's three terms, each made to do what the paper's abstract says of it (all of this is our choice).

    * ``clustering``: as released.
    * ``affine``: the auxiliary answer on a randomly turned, flipped and scaled image against the argmax of the main
      answer, moved alike, over the pixels that the moved frame still shows: consistency over transformation.
    * ``spatial``: the Sobel differences of the softmax, or (``smooth`` "neighbours") the neighbour differences of the
      logits of Kim et al.; both have a gradient.

    Args:
        clustering, affine, spatial: the weights. The spatial term is a mean over the cluster channels, so 64 weighs it
            with 1 a channel; with 1 in all, most images kept more than three clusters to the last step.
        view: ``(image, labels) -> (image, labels)`` with 255 past the frame; default: flips, quarter turns, up to 15
            degrees and a factor of 1.2.
        smooth: "edges" or "neighbours".

    Raises:
        InputError: another word.
    """

    def __init__(
        self,
        clustering: float = 3.5,
        affine: float = 0.2,
        spatial: float = 64.0,
        view: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        smooth: str = "edges",
    ) -> None:
        if smooth not in ("edges", "neighbours"):
            raise InputError(f"objective#smooth is {smooth!r}: give edges or neighbours")
        self.clustering, self.affine, self.spatial, self.smooth = clustering, affine, spatial, smooth
        self.view = view if view is not None else WeakView(rotate=15, scale=1.2, shift=0.0, probability=1.0)

    def __call__(self, network: nn.Module, image: Tensor) -> Terms:
        logits, _ = network(image)
        labels = logits.detach().argmax(dim=1, keepdim=True)
        moved, moved_labels = self.view(image, labels)
        auxiliary = network.auxiliary(network.features(moved))
        if self.smooth == "edges":
            spatial = edge_difference(torch.softmax(logits, dim=1))
        else:
            spatial = neighbour_difference(logits)
        losses = {
            "clustering": self.clustering * F.cross_entropy(logits, labels[:, 0]),
            "affine": self.affine * cross_entropy(auxiliary, moved_labels),
            "spatial": self.spatial * spatial,
        }
        return logits, losses, {}


class FeatureClusteringObjective:
    """Differentiable feature clustering (Kim, Kanezaki and Tanaka, IEEE TIP 29, 2020): similarity and continuity.

    Args:
        similarity: weight of the cross-entropy with the own argmax; 1 as published.
        continuity: weight of the neighbour differences of the logits; 1 in the authors' demo, up to 100 elsewhere.
    """

    def __init__(self, similarity: float = 1.0, continuity: float = 1.0) -> None:
        self.similarity, self.continuity = similarity, continuity

    def __call__(self, network: nn.Module, image: Tensor) -> Terms:
        logits = network(image)
        losses = {
            "similarity": self.similarity * F.cross_entropy(logits, logits.detach().argmax(dim=1)),
            "continuity": self.continuity * neighbour_difference(logits),
        }
        return logits, losses, {}
