# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Mean teacher (Tarvainen and Valpola, NeurIPS 2017), as semi-supervised segmentation uses it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scripts.methods.base import LearningRule


class MeanTeacher(LearningRule):
    """Supervised loss, and the mean squared difference of the student's and the teacher's probabilities.

    Student and teacher see the unlabelled images (and the student the labelled ones) in independent strong views; the
    teacher is the EMA of the student and takes no gradient. The ramp of the consistency stands in the config.
    """

    losses = ("supervised", "consistency")

    def forward(self, network, batch, progress):
        labelled, images = batch["labelled"], self.unlabelled(batch)
        with torch.no_grad():
            target = torch.softmax(self.teacher(self.strong_view(images)).float(), dim=1)
        logits = network(self.strong_view(torch.cat([labelled["image"], images])))
        logits_labelled, logits_unlabelled = logits.split([len(labelled["image"]), len(images)])
        self.statistics = {"predicted_foreground": 1 - target[:, 0].mean()}
        return {
            "supervised": self.loss(logits_labelled, labelled["label"]),
            "consistency": F.mse_loss(torch.softmax(logits_unlabelled.float(), dim=1), target),
        }
