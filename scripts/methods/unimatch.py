# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""UniMatch (Yang et al., CVPR 2023): two strong views and one perturbation of the features, all against one answer."""

from __future__ import annotations

import torch
import torch.nn as nn

from scripts.losses import gate, pseudo_label_loss
from scripts.methods.base import LearningRule
from scripts.switches import as_share
from scripts.transforms import cut_mix


class UniMatch(LearningRule):
    """FixMatch with two independent strong streams and a stream of the weak view with encoder channels dropped.

    Published: the student labels its weak view, threshold 0.95; two strong views, each with CutMix in half of the
    images; a feature stream in which half of the encoder's channels are dropped; of the unlabelled weight 1 the
    feature stream has 0.5 and each strong stream 0.25 (here: 0.5 on their mean ``strong``); no ramp.

    Our choice: the pseudo-label loss is cross-entropy + ``dice`` x Dice, counted over the batch (UniMatch uses the
    first alone on photographs and the second alone on medical images); labelled images in the strong view as in every
    rule here; the pseudo-labels come from a pass without gradient of their own; deployed is the EMA of the student.
    """

    losses = ("supervised", "strong", "feature")
    needs_features = True

    def __init__(
        self,
        network: nn.Module,
        *,
        threshold: float = 0.95,
        cutmix: float = 0.5,
        dice: float = 1.0,
        **common,
    ) -> None:
        super().__init__(network, **common)
        self.threshold = as_share(threshold, "method#threshold")
        self.cutmix, self.dice = as_share(cutmix, "method#cutmix"), dice

    def forward(self, network, batch, progress):
        labelled, images = batch["labelled"], self.unlabelled(batch)
        with torch.no_grad():
            answers = torch.softmax(network(images).float(), dim=1)
        labels, accepted = gate(answers, self.threshold)
        self.statistics = {"accepted": accepted.mean(), "predicted_foreground": (labels > 0).float().mean()}
        streams = [cut_mix((self.strong_view(images), labels, accepted), self.cutmix) for _ in range(2)]

        inputs = torch.cat([self.strong_view(labelled["image"]), streams[0][0], streams[1][0], images])
        dropped = torch.arange(len(inputs), device=inputs.device) >= len(inputs) - len(images)
        count, size = len(labelled["image"]), len(images)
        logits, first, second, feature = network(inputs, feature_dropout=dropped).split([count, size, size, size])
        strong = [pseudo_label_loss(z, *stream[1:], self.dice) for z, stream in zip((first, second), streams)]
        return {
            "supervised": self.loss(logits, labelled["label"]),
            "strong": (strong[0] + strong[1]) / 2,
            "feature": pseudo_label_loss(feature, labels, accepted, self.dice),
        }
