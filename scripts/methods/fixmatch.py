# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""FixMatch on segmentation: weak-to-strong consistency on confident pixels."""

from __future__ import annotations

import torch
import torch.nn as nn

from scripts.losses import gate, pseudo_label_loss
from scripts.methods.base import LearningRule
from scripts.switches import as_bool, as_share
from scripts.transforms import cut_mix


class FixMatch(LearningRule):
    """The network's own decision on the weak view is the target of its strong view, where it is confident.

    Published (Sohn et al., NeurIPS 2020; per pixel, with CutMix in the strong view, the baseline of UniMatch, Yang et
    al., CVPR 2023): the student itself labels; confidence threshold 0.95; mean over all pixels, so few confident ones
    weigh little; weight 1, no ramp; a CutMix box in half of the images.

    Our choice: the pseudo-label loss is cross-entropy + ``dice`` x Dice, counted over the batch (UniMatch
    uses the first alone on photographs and the second alone on medical images); labelled images in the strong view
    as in every rule here; ``teacher_labels`` lets the EMA teacher label instead; deployed is the EMA of the student.
    """

    losses = ("supervised", "consistency")

    def __init__(
        self,
        network: nn.Module,
        *,
        threshold: float = 0.95,
        cutmix: float = 0.5,
        dice: float = 1.0,
        teacher_labels: bool = False,
        **common,
    ) -> None:
        super().__init__(network, **common)
        self.threshold = as_share(threshold, "method#threshold")
        self.cutmix, self.dice = as_share(cutmix, "method#cutmix"), dice
        self.teacher_labels = as_bool(teacher_labels, "method#teacher_labels")

    def forward(self, network, batch, progress):
        labelled, images = batch["labelled"], self.unlabelled(batch)
        with torch.no_grad():
            answers = (self.teacher if self.teacher_labels else network)(images)
        labels, accepted = gate(torch.softmax(answers.float(), dim=1), self.threshold)
        self.statistics = {"accepted": accepted.mean(), "predicted_foreground": (labels > 0).float().mean()}
        mixed, labels, accepted = cut_mix((self.strong_view(images), labels, accepted), self.cutmix)
        logits = network(torch.cat([self.strong_view(labelled["image"]), mixed]))
        logits_labelled, logits_mixed = logits.split([len(labelled["image"]), len(images)])
        return {
            "supervised": self.loss(logits_labelled, labelled["label"]),
            "consistency": pseudo_label_loss(logits_mixed, labels, accepted, self.dice),
        }
