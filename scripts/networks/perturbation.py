# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Random changes of a feature map, chosen image by image; all of them can be scripted."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: kinds of perturbation, the numbers that ``feature_dropout`` may hold; a boolean mask chooses between 0 and 1
NONE, DROP_CHANNELS, NOISE, DROP_ATTENDED = range(4)
KINDS = (DROP_CHANNELS, NOISE, DROP_ATTENDED)


def perturb(features: Tensor, kind: Tensor) -> Tensor:
    """Features (B, F, x, y) with the perturbation ``kind`` (B,) of each image, see :data:`KINDS`; or a boolean mask.

    Kinds 2 and 3 are those of cross-consistency training (Ouali et al., CVPR 2020), kind 1 that of UniMatch. Each is
    a factor without gradient, so that a map is multiplied once, whatever is drawn.
    """
    where = kind.view(-1, 1, 1, 1)
    factor = torch.where(where == 1, channel_factor(features), 1.0)
    if kind.dtype != torch.bool:
        factor = torch.where(where == 3, attention_factor(features), factor)
        factor = torch.where(where == 2, noise_factor(features), factor)
    return features * factor.to(features.dtype)


def channel_factor(features: Tensor, probability: float = 0.5) -> Tensor:
    """(B, F, 1, 1): every channel is dropped with ``probability``, the others scaled up (``torch.nn.Dropout2d``)."""
    return F.dropout(torch.ones_like(features[:, :, :1, :1]), probability)


def noise_factor(features: Tensor, largest: float = 0.3) -> Tensor:
    """(1, F, x, y): uniform in [1 - largest, 1 + largest], one draw for all images, as in the original."""
    return 1 + (2 * torch.rand_like(features[:1]) - 1) * largest


def attention_factor(features: Tensor, lowest: float = 0.7, highest: float = 0.9) -> Tensor:
    """(B, 1, x, y): drops the positions that respond most, those above a share in [lowest, highest] of the range.

    The range is that of the mean map over the channels, image by image, since activations may be negative.
    """
    attention = features.detach().mean(dim=1, keepdim=True)
    low, high = attention.amin(dim=(2, 3), keepdim=True), attention.amax(dim=(2, 3), keepdim=True)
    share = lowest + (highest - lowest) * torch.rand_like(low)
    return (attention <= low + share * (high - low)).to(features.dtype)
