# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How unsure a network is about an image, without labels: what to label next."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FLIPS = ((), (2,), (3,), (2, 3))  # axes X and Y of (B, C, X, Y) and (B, C, X, Y, Z)
SHARE = 0.05


@torch.no_grad()
def flipped_probabilities(predict: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Class probabilities (B, K, X, Y[, Z]), mean over the image and its three mirror images, turned back.

    Args:
        predict: gives logits (B, K, X, Y[, Z]) for an image.
        image: (B, C, X, Y[, Z]).
    """
    views = [predict(image.flip(axes)).softmax(1).flip(axes) for axes in FLIPS]
    return torch.stack(views).mean(0)


def image_uncertainty(probabilities: Tensor, share: float = SHARE) -> Tensor:
    """One number an image, (B,), in [0, 1]: the mean entropy of its most uncertain pixels.

    The entropy of a pixel is divided by that of an even guess. The mean over all pixels would grow with the area of
    the lesion's outline and drown in a sure background, so only the ``share`` of pixels with the largest counts.

    Args:
        probabilities: (B, K, X, Y[, Z]), summing to 1 over K.
        share: of the pixels, above 0 up to 1.
    """
    classes = probabilities.shape[1]
    entropy = torch.special.entr(probabilities).sum(1).flatten(1) / torch.log(torch.tensor(float(classes)))
    count = max(1, round(share * entropy.shape[1]))
    return entropy.topk(count, dim=1).values.mean(1)
