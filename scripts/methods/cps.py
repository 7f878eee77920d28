# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Cross pseudo supervision (Chen et al., CVPR 2021)."""

from __future__ import annotations

import torch
import torch.nn as nn

from scripts.losses import cross_entropy
from scripts.methods.base import LearningRule


class CrossPseudoSupervision(LearningRule):
    """Two networks of one structure and different starts; each is trained on the decisions of the other.

    Published: both learn from the labels; the hard decision of each, without any threshold, is the target of the
    other's cross-entropy, on labelled and unlabelled images alike; weight 1.5 (PASCAL VOC) or 6 (Cityscapes), from
    ImageNet weights. SSL4MIS runs it with weight 0.1 and a ramp on medical images.

    Our choice: both networks see one strong view as in every rule here; the overlay ramps the weight over the first
    40 % of the run, since our networks start at random; deployed is the EMA of the first network, as with every rule,
    so that a comparison is about the rule (the authors evaluate the first network itself).

    Args:
        peer: the second network; the overlay copies ``network_def`` into it, so that any network works.
    """

    losses = ("supervised", "cross")

    def __init__(self, network: nn.Module, peer: nn.Module, **common) -> None:
        super().__init__(network, **common)
        self.peer = peer

    def forward(self, network, batch, progress):
        labelled = self.labelled(batch)  # nobody sends the second network, so labels alone can teach it
        count = len(labelled["image"])
        images = self.strong_view(torch.cat([labelled["image"], self.unlabelled(batch)]))
        first, second = network(images), self.peer(images)
        decisions = first.argmax(dim=1), second.argmax(dim=1)
        self.statistics = {
            "predicted_foreground": (decisions[0][count:] > 0).float().mean(),
            "agreement": (decisions[0] == decisions[1])[count:].float().mean(),
        }
        return {
            "supervised": sum(self.loss(logits[:count], labelled["label"]) for logits in (first, second)),
            "cross": cross_entropy(first, decisions[1]) + cross_entropy(second, decisions[0]),
        }
