# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Two networks that supervise each other under perturbation, with contrast of patches and of pixels between them."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from scripts.losses import (
    IGNORE_INDEX,
    cross_entropy,
    gate,
    patch_classes,
    patch_contrast,
    pixel_contrast,
    pool_patches,
)
from scripts.methods.base import LearningRule
from scripts.methods.memory import ClassMemory
from scripts.methods.projection import ProjectionHead
from scripts.networks.perturbation import KINDS
from scripts.switches import as_bool, as_share


class MultiscaleContrast(LearningRule):
    """Semi-supervised rule after the abstract of Wu, Yan, Liang, Zhang and Li (EMBC 2023, 10341018).

    Published: the input image and the encoded features are perturbed, outputs are made to agree through
    cross-supervision, and contrast at patch level and at pixel level brings a class together and classes apart.
    How is our choice, part by part, each with a switch:

    * **supervised**: both networks on the labelled images, each in a strong view of its own.
    * **cross** (as Chen et al., CVPR 2021, without threshold): the decision of each network on the clean unlabelled
      image is the target of the other's perturbed answers. On unlabelled images only: where there is a true label, a
      pseudo-label could only contradict it.
    * **perturbation**: a strong view (photometry alone, so that both networks' maps stay aligned), and the clean
      image with one of three perturbations of the encoder's maps, drawn image by image. Off: the clean image.
    * **patch**: :func:`scripts.losses.patch_contrast` on a ``grid`` of patches that stand for one class, with a
      memory of earlier patches.
    * **pixel**: :func:`scripts.losses.pixel_contrast`.

    Contrast labels are the true ones and, on unlabelled images, decisions on which both networks agree with
    ``confidence``. Deployed is the EMA of the first network, as with every rule.

    Args:
        peer: the second network; the overlay copies ``network_def`` into it.
        grid: patches along each axis.
        foreground, background: coverage from which, and up to which, a patch stands for a lesion or for background.
        memory: earlier patches kept per class and network.
        samples: pixels per class and batch of the pixel contrast.
    """

    losses = ("supervised", "cross", "patch", "pixel")
    needs_features = True

    def __init__(
        self,
        network: nn.Module,
        peer: nn.Module,
        *,
        num_classes: int = 2,
        cross: bool = True,
        perturbation: bool = True,
        patch: bool = True,
        pixel: bool = True,
        confidence: float = 0.9,
        grid: int = 4,
        foreground: float = 0.3,
        background: float = 0.02,
        memory: int = 256,
        samples: int = 256,
        temperature: float = 0.1,
        dim: int = 64,
        **common,
    ) -> None:
        super().__init__(network, **common)
        self.peer = peer
        self.cross, self.perturbation = as_bool(cross, "method#cross"), as_bool(perturbation, "method#perturbation")
        self.patch, self.pixel = as_bool(patch, "method#patch"), as_bool(pixel, "method#pixel")
        self.num_classes, self.samples = num_classes, samples
        self.confidence = as_share(confidence, "method#confidence")
        self.grid, self.temperature = grid, temperature
        self.coverage = (as_share(foreground, "method#foreground"), as_share(background, "method#background"))
        heads = 2 if self.patch or self.pixel else 0
        self.embed = nn.ModuleList(ProjectionHead(network.feature_channels, dim) for _ in range(heads))
        self.memories = nn.ModuleList(ClassMemory(num_classes, memory, dim) for _ in range(2 if self.patch else 0))

    def forward(self, network, batch, progress):
        # nobody sends the second network to a site, so labels alone can teach it
        labels, networks = self.labelled(batch)["label"], (network, self.peer)
        unlabelled = self.unlabelled(batch) if self.cross or self.embed else labels.new_zeros(0)
        count, size = len(labels), len(unlabelled)
        seen = [self.look(each, batch["labelled"]["image"], unlabelled) for each in networks]
        losses = {"supervised": sum(self.loss(logits[:count], labels) for logits, _ in seen)}
        if not size:
            return losses
        decisions, sure = self.decide(networks, unlabelled)
        if self.cross:
            losses["cross"] = sum(self.follow(seen[me][0][count:], decisions[1 - me]) for me in (0, 1))
        if self.embed:
            embeddings = [head(features[: count + size]) for head, (_, features) in zip(self.embed, seen)]
            losses |= self.contrast(embeddings, torch.cat([labels, sure]))
        return losses

    def look(self, network: nn.Module, images: Tensor, unlabelled: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of the labelled images, then of one view of the unlabelled, or with perturbation two."""
        images = self.strong_view(images)
        if not len(unlabelled):
            return network(images, return_features=True)
        if not self.perturbation:
            return network(torch.cat([images, unlabelled]), return_features=True)
        inputs = torch.cat([images, self.strong_view(unlabelled), unlabelled])
        kinds = torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)
        drawn = torch.randint(len(KINDS), (len(unlabelled),), device=inputs.device)
        kinds[-len(unlabelled) :] = drawn + KINDS[0]
        return network(inputs, return_features=True, feature_dropout=kinds)

    @torch.no_grad()
    def decide(self, networks: tuple[nn.Module, nn.Module], images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Both networks' decisions (U, 1, X, Y) on the clean images, and those shared with confidence, else 255."""
        gated = [gate(torch.softmax(network(images).float(), dim=1), self.confidence) for network in networks]
        (first, sure), (second, sure_too) = gated
        agreed = (first == second) & (sure * sure_too > 0)
        self.statistics = {
            "predicted_foreground": (first > 0).float().mean(),
            "agreement": (first == second).float().mean(),
            "accepted": agreed.float().mean(),
        }
        return [first, second], torch.where(agreed, first, IGNORE_INDEX)

    @staticmethod
    def follow(views: Tensor, decisions: Tensor) -> Tensor:
        """Mean cross-entropy of every view (views * U, K, X, Y) against one set of decisions."""
        return cross_entropy(views, decisions.repeat(len(views) // len(decisions), 1, 1, 1))

    def contrast(self, embeddings: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The contrastive losses that are switched on, symmetric in both networks."""
        losses = {}
        if self.patch:
            classes = patch_classes(labels, self.grid, self.num_classes, *self.coverage).flatten()
            patches = [pool_patches(each, self.grid) for each in embeddings]
            pairs = ((patches[0], patches[1], self.memories[1]), (patches[1], patches[0], self.memories[0]))
            terms = [patch_contrast(a, b, classes, *memory.keys(), self.temperature) for a, b, memory in pairs]
            losses["patch"] = (terms[0] + terms[1]) / 2
            for each, memory in zip(patches, self.memories):
                memory.push(each, classes)
        if self.pixel:
            losses["pixel"] = pixel_contrast(*embeddings, labels, self.num_classes, self.samples, self.temperature)
        return losses
