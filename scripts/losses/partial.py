# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Learning from annotations that cover few pixels, such as scribbles."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
from torch import Tensor

from scripts.losses.segmentation import IGNORE_INDEX, cross_entropy


class PartialCrossEntropy(nn.Module):
    """Mean cross-entropy over the annotated pixels of the batch, all others left alone (Tang et al., CVPR 2018).

    Normalised by the number of annotated pixels; a batch without any gives exactly 0 with zero gradient. Background
    is a class like the others: what is not annotated is unknown, not background. (There is no Dice term: over a few
    strokes it would measure how much of which class the annotator happened to draw.)

    Args:
        ignore_index: label of the pixels without annotation.
    """

    def __init__(self, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits (B, K, X, Y) and labels (B, 1, X, Y)."""
        return cross_entropy(logits, labels, self.ignore_index)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy of every pixel in units of its largest value: (B, K, X, Y) -> (B, 1, X, Y) in [0, 1].

    ``-sum_k p_k log p_k / log K``; 0 for a certain answer, with a finite gradient there.
    """
    logarithm = torch.log(probabilities.float().clamp(min=1e-6))
    return -(probabilities * logarithm).sum(dim=1, keepdim=True) / math.log(probabilities.shape[1])
