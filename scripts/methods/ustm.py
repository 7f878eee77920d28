# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""USTM: uncertainty-aware self-ensembling and transformation consistency, for scribbles."""

from __future__ import annotations

import torch

from scripts.losses import PartialCrossEntropy
from scripts.methods.scribbles import annotated
from scripts.methods.ua_mt import UncertaintyAwareMeanTeacher


class USTM(UncertaintyAwareMeanTeacher):
    """The uncertainty-aware mean teacher on turned images (Liu et al., Pattern Recognition 122:108341, 2022).

    Published: partial cross-entropy; the teacher answers on the image turned by a random multiple of 90 degrees, with
    noise, and the student's answer, turned alike, follows where the teacher is certain (the entropy of its mean answer
    over 8 noisy passes lies below a rising threshold); weight 0.1 with a ramp in the WSL4MIS benchmark.

    Our choice: what :class:`UncertaintyAwareMeanTeacher` says of its own, and that unlabelled images take part where
    there are some.
    """

    default_loss = PartialCrossEntropy

    def forward(self, network, batch, progress):
        images, labels = annotated(batch)
        turns = int(torch.randint(0, 4, ()))  # drawn on the CPU: the shapes depend on it
        target, uncertainty = self.teach(torch.rot90(images, turns, (2, 3)))
        logits = network(self.strong_view(images))
        answer = torch.rot90(torch.softmax(logits.float(), dim=1), turns, (2, 3))
        return {
            "supervised": self.loss(logits, labels),
            "consistency": self.follow(answer, target, uncertainty, progress),
        }
