# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Supervised learning on the labelled images alone: what every other rule has to beat."""

from __future__ import annotations

from scripts.methods.base import LearningRule


class Supervised(LearningRule):
    """The loss of the labelled images in their strong view; the unlabelled images are not looked at."""

    def forward(self, network, batch, progress):
        labelled = self.labelled(batch)
        return {"supervised": self.loss(network(self.strong_view(labelled["image"])), labelled["label"])}
