# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Dynamically mixed pseudo-labels of two decoders, for scribbles."""

from __future__ import annotations

import torch

from scripts.losses import soft_dice_loss
from scripts.methods.scribbles import SeveralHeadsRule, annotated


class DMPLS(SeveralHeadsRule):
    """Two decoders teach each other with a random mixture of their answers (Luo et al., MICCAI 2022).

    Published: one encoder, two decoders, the second behind dropout; both learn the scribbles (mean of the two partial
    cross-entropies); the pseudo-label is the argmax of ``b p_1 + (1 - b) p_2`` with b drawn uniformly every iteration,
    without gradient; both follow it with a Dice loss (mean of the two), weight 0.5 from the first iteration on.

    Our choice: the Dice of the pseudo-labels over the batch as in every rule here, the strong view, one b an iteration
    drawn on the CPU, the EMA of the main decoder deployed as everywhere, unlabelled images take part.

    Args:
        network: a :class:`scripts.networks.TwoDecoders`.
    """

    losses = ("supervised", "pseudo")

    def forward(self, network, batch, progress):
        images, labels = annotated(batch)
        answers, _ = network(self.strong_view(images), return_heads=True)
        supervised = torch.stack([self.loss(logits, labels) for logits in answers]).mean()
        pseudo = self.mixture(answers, float(torch.rand(())))
        decisions = [logits.argmax(dim=1) for logits in answers]
        self.statistics = {
            "predicted_foreground": (pseudo > 0).float().mean(),
            "agreement": (decisions[0] == decisions[1]).float().mean(),
        }
        following = torch.stack([soft_dice_loss(logits, pseudo) for logits in answers]).mean()
        return {"supervised": supervised, "pseudo": following}

    @torch.no_grad()
    def mixture(self, answers: list[torch.Tensor], share: float) -> torch.Tensor:
        """Argmax (B, X, Y) of ``share`` x the first answer's probabilities + the rest of the second's."""
        first, second = (torch.softmax(logits.float(), dim=1) for logits in answers)
        return torch.lerp(second, first, share).argmax(dim=1)
