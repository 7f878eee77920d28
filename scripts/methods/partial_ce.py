# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Partial cross-entropy alone: what every other rule for scribbles has to beat."""

from __future__ import annotations

from scripts.methods.scribbles import ScribbleRule


class PartialCE(ScribbleRule):
    """Cross-entropy over the scribbled pixels of the strong view, nothing else; unlabelled images are not looked at."""

    def forward(self, network, batch, progress):
        labelled = self.labelled(batch)
        return {"supervised": self.loss(network(self.strong_view(labelled["image"])), labelled["label"])}
