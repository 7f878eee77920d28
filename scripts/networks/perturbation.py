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

    Kinds 2 and 3 are those of cross-consistency training (Ouali et al., CVPR 2020), kind 1 that of UniMatch.
    """
    where = kind.view(-1, 1, 1, 1)
    if kind.dtype == torch.bool:
        return torch.where(where, drop_channels(features), features)
    perturbed = torch.where(where == 1, drop_channels(features), features)
    perturbed = torch.where(where == 2, add_noise(features), perturbed)
    return torch.where(where == 3, drop_attended(features), perturbed)


def drop_channels(features: Tensor, probability: float = 0.5) -> Tensor:
    """Every channel is dropped with ``probability``, the others scaled up (``torch.nn.Dropout2d``)."""
    return F.dropout2d(features, probability)


def add_noise(features: Tensor, largest: float = 0.3) -> Tensor:
    """Every value is multiplied by a factor uniform in [1 - largest, 1 + largest]."""
    return features * (1 + (2 * torch.rand_like(features) - 1) * largest)


def drop_attended(features: Tensor, lowest: float = 0.7, highest: float = 0.9) -> Tensor:
    """Drops the positions that respond most: those above a share in [lowest, highest] of the range of the mean map.

    The mean map over the channels is scaled to [0, 1] image by image, since activations may be negative.
    """
    attention = features.mean(dim=1, keepdim=True)
    low, high = attention.amin(dim=(2, 3), keepdim=True), attention.amax(dim=(2, 3), keepdim=True)
    share = lowest + (highest - lowest) * torch.rand_like(low)
    return features * (attention <= low + share * (high - low)).to(features.dtype)
