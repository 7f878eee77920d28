# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Bidirectional copy-paste (Bai et al., CVPR 2023)."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from scripts.losses import IGNORE_INDEX, SegmentationLoss
from scripts.methods.base import LearningRule
from scripts.switches import as_share
from scripts.transforms import another, cut_mix, random_boxes


class BidirectionalCopyPaste(LearningRule):
    """Labelled and unlabelled images are pasted into each other, both ways; the teacher labels the unlabelled part.

    Published: first, boxes of labelled images are pasted into other labelled ones (10 k of 40 k iterations on ACDC,
    hence ``pretrain`` = 0.25 of the run); then every labelled image gets a box of an unlabelled one and the reverse;
    the box has 2/3 of each side; the EMA teacher (0.99) labels the unlabelled images; their pixels weigh 0.5, labelled
    ones 1, without ramp or threshold.

    Our choice: student and teacher go on from one phase to the next (the authors load the best of the first); each
    image has its own box; the mixed images are seen in the strong view as in every rule here; the authors keep the
    largest connected part of each pseudo-labelled class, right for hearts, not for lesions and nuclei: left out.
    """

    losses = ("supervised", "consistency")

    def __init__(
        self,
        network: nn.Module,
        *,
        pretrain: float = 0.25,
        side: float = 2 / 3,
        **common,
    ) -> None:
        super().__init__(network, **common)
        self.pretrain = as_share(pretrain, "method#pretrain")
        self.area = (as_share(side, "method#side") ** 2,) * 2
        self.pseudo_loss = SegmentationLoss(batch_dice=True)  # a pseudo-label may well be of nothing but background

    def forward(self, network, batch, progress):
        labelled, unlabelled = self.labelled(batch), self.unlabelled(batch)
        images, labels = labelled["image"], labelled["label"]
        if progress < self.pretrain:
            images, labels = cut_mix((images, labels), p=1.0, area=self.area, aspect=1.0)
            return {"supervised": self.loss(network(self.strong_view(images)), labels)}
        pseudo = self.teacher(unlabelled).argmax(dim=1, keepdim=True)
        self.statistics = {"predicted_foreground": (pseudo > 0).float().mean()}
        mixed, labels, pseudo = self.mix(images, labels, unlabelled, pseudo)
        logits = network(self.strong_view(mixed))
        return {"supervised": self.loss(logits, labels), "consistency": self.pseudo_loss(logits, pseudo)}

    @torch.no_grad()
    def mix(self, images: Tensor, labels: Tensor, unlabelled: Tensor, pseudo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mixed images (2 N, C, X, Y), N the larger of both batches, first those with an unlabelled box.

        The labels hold :data:`IGNORE_INDEX` on unlabelled pixels, the pseudo-labels on labelled ones.
        """
        size, device = max(len(images), len(unlabelled)), images.device
        numbers = torch.arange(size, device=device)
        inner, outer = numbers % len(images), another(len(images), device)[numbers % len(images)]
        boxes = random_boxes(2 * size, (images.shape[-2], images.shape[-1]), device, self.area, aspect=1.0)
        from_labelled = torch.cat([~boxes[:size], boxes[size:]])
        labelled_index, unlabelled_index = torch.cat([inner, outer]), (numbers % len(unlabelled)).repeat(2)
        mixed = torch.where(from_labelled, images[labelled_index], unlabelled[unlabelled_index])
        labels = torch.where(from_labelled, labels[labelled_index], IGNORE_INDEX)
        return mixed, labels, torch.where(from_labelled, IGNORE_INDEX, pseudo[unlabelled_index])
