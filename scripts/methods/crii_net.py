# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""CRII-Net: coarse-refined consistency, and ranked losses inside and across the patches of labelled images."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from scripts.errors import InputError
from scripts.losses import gate, inter_patch_loss, intra_patch_loss, pseudo_label_loss
from scripts.methods.base import LearningRule
from scripts.methods.projection import ProjectionHead
from scripts.networks import CoarseRefined
from scripts.switches import as_bool, as_share


class CriiNet(LearningRule):
    """Semi-supervised rule after the abstract of CRII-Net (Du et al., IEEE JBHI 27(8):3970-3981, 2023).

    Published: a coarse-refined consistency gives unlabelled images a stable target; two ranked losses use the pixels
    of labelled ones: intra-patch, pixel-wise, for boundaries; inter-patch, patch-wise, for lesions of low contrast.
    How is our choice, part by part, each with a switch:

    * **supervised**: mean of the loss of both heads of :class:`scripts.networks.CoarseRefined`.
    * **consistency**: the refined head's decision on the weak view of an unlabelled image, where it is sure, is the
      target of both heads on the strong view. With ``perturbed`` off the target is the refined head in the same pass,
      without noise, view or dropout between the heads: the squared difference of the coarse head's probabilities. That
      is the simplest reading of the abstract, and taught next to nothing here (``docs/methods.md``).
    * **intra**: :func:`scripts.losses.intra_patch_loss`, at most ``band`` pixels beside a boundary.
    * **inter**: :func:`scripts.losses.inter_patch_loss`, patches of low contrast towards those of high contrast.

    Both ranked losses see unit vectors of one projection of the refinement, which only training has: of the drawn
    pixels, and of a class's mean in a patch. Contrast is that of the images as the network sees them: in the strong
    view.

    Args:
        perturbed: the heads see the strong view of an unlabelled image, and the target comes from the weak one.
        threshold: confidence from which a pixel of the weak view counts as a target; with ``perturbed`` alone.
        patch: side of a patch in pixels.
        band: width of the boundary's band on either side in pixels.
        samples: pixels per class and patch.
        margin: distance between the reach of positives and that of negatives, which end at 1 + margin / 2.

    Raises:
        InputError: a network without coarse and refined head.
    """

    losses = ("supervised", "consistency", "intra", "inter")

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int = 2,
        consistency: bool = True,
        intra: bool = True,
        inter: bool = True,
        perturbed: bool = True,
        threshold: float = 0.8,
        patch: int = 32,
        band: int = 3,
        samples: int = 32,
        margin: float = 0.4,
        dim: int = 64,
        **common,
    ) -> None:
        if not isinstance(network, CoarseRefined):
            raise InputError(
                "method#network: CriiNet needs a coarse and a refined head: wrap the network in "
                "scripts.networks.CoarseRefined, as configs/methods/crii_net.yaml does"
            )
        super().__init__(network, **common)
        self.consistency = as_bool(consistency, "method#consistency")
        self.intra, self.inter = as_bool(intra, "method#intra"), as_bool(inter, "method#inter")
        self.perturbed = as_bool(perturbed, "method#perturbed")
        self.threshold = as_share(threshold, "method#threshold")
        self.num_classes, self.patch, self.band, self.samples = num_classes, patch, band, samples
        self.hinge = {"margin": margin, "outer": 1 + margin / 2}
        self.embed = ProjectionHead(network.refined_channels, dim) if self.intra or self.inter else None

    def forward(self, network, batch, progress):
        images, labels = self.strong_view(batch["labelled"]["image"]), batch["labelled"]["label"]
        count = len(images)
        inputs, target = images, None
        if self.consistency:
            unlabelled = self.unlabelled(batch)
            target = self.target(network, unlabelled) if self.perturbed else None
            inputs = torch.cat([images, self.strong_view(unlabelled) if self.perturbed else unlabelled])
        refined, coarse, refinement = network(inputs, return_heads=True)
        losses = {"supervised": (self.loss(refined[:count], labels) + self.loss(coarse[:count], labels)) / 2}
        if self.consistency:
            heads = coarse[count:], refined[count:]
            losses["consistency"] = self.disagreement(*heads) if target is None else self.following(heads, *target)
        if self.embed is not None and count:
            losses |= self.rank(refinement[:count], labels, images)
        return losses

    @torch.no_grad()
    def target(self, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Decisions (U, 1, X, Y) of the refined head on the weak view, and 1 where they are sure enough."""
        labels, accepted = gate(torch.softmax(network(images).float(), dim=1), self.threshold)
        self.statistics = {"accepted": accepted.mean(), "predicted_foreground": (labels > 0).float().mean()}
        return labels, accepted

    def following(self, heads: tuple[Tensor, Tensor], labels: Tensor, accepted: Tensor) -> Tensor:
        """Mean over both heads of the loss of their logits (U, K, X, Y) against the target."""
        return sum(pseudo_label_loss(logits, labels, accepted) for logits in heads) / len(heads)

    def disagreement(self, coarse: Tensor, refined: Tensor) -> Tensor:
        """Mean over the pixels of the squared distance of the coarse probabilities from the refined ones."""
        target = torch.softmax(refined.detach().float(), dim=1)
        self.statistics = {"predicted_foreground": 1 - target[:, 0].mean()}
        return (torch.softmax(coarse.float(), dim=1) - target).square().sum(dim=1).mean()

    def rank(self, features: Tensor, labels: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The ranked losses that are switched on."""
        losses, arguments = {}, {"embed": self.embed.rows} | self.hinge
        if self.intra:
            losses["intra"] = intra_patch_loss(
                features, labels, self.num_classes, self.patch, self.band, self.samples, **arguments
            )
        if self.inter:
            losses["inter"] = inter_patch_loss(features, labels, images, self.num_classes, self.patch, **arguments)
        return losses
