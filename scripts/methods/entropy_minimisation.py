# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Entropy minimisation (Grandvalet and Bengio, NIPS 2004) beside the partial cross-entropy."""

from __future__ import annotations

import torch

from scripts.losses import entropy
from scripts.methods.scribbles import ScribbleRule, annotated


class EntropyMinimisation(ScribbleRule):
    """Partial cross-entropy, and the mean entropy of the network's answer over all pixels.

    Published as a baseline for scribbles: the WSL4MIS benchmark weighs the entropy, in units of log K, with 0.1 from
    the first iteration on; so does the overlay. Our choice: the strong view, and unlabelled images where there are.
    """

    losses = ("supervised", "entropy")

    def forward(self, network, batch, progress):
        images, labels = annotated(batch)
        logits = network(self.strong_view(images))
        uncertainty = entropy(torch.softmax(logits.float(), dim=1)).mean()
        self.statistics = {"predicted_foreground": (logits.argmax(dim=1) > 0).float().mean()}
        return {"supervised": self.loss(logits, labels), "entropy": uncertainty}
