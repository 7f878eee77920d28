# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Ranked-list losses on pixel embeddings: inside a patch at its boundary, and across patches against low contrast.

CRII-Net (Du et al., IEEE JBHI 27(8), 2023) names an intra-patch and an inter-patch ranked loss and says what each is
for; its formulas were not readable. The hinge is that of the ranked list loss (Wang et al., CVPR 2019); patches,
bands and the choice of anchors are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.distributed import summed
from scripts.losses.contrast import full_product, sample_per_class
from scripts.losses.regions import boundary_band, class_shares, tile


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances in [0, 2] of unit vectors: (..., N, D), (..., M, D) -> (..., N, M), in float32."""
    squared = 2 - 2 * full_product(first, second.transpose(-2, -1))
    # the root has no gradient at 0
    return squared.clamp(min=1e-6).sqrt()


def ranked_hinge(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 0.4,
    outer: float = 1.2,
    temperature: float = 10.0,
) -> Tensor:
    """Positives are drawn inside ``outer - margin``, negatives pushed beyond ``outer``: one loss for every anchor.

    ``1/2 mean over too far positives of (d - (outer - margin)) + 1/2 sum over too near negatives of w (outer - d)``,
    w proportional to ``exp(temperature (outer - d))`` with sum 1 and without gradient: the nearest negatives count
    most. An empty set gives 0.

    Args:
        distance: (..., N, M) of anchors and others.
        positive, negative: (..., N, M) bool.

    Returns:
        (..., N).
    """
    excess = (distance - (outer - margin)).clamp(min=0) * positive
    pull = excess.sum(dim=-1) / (excess > 0).sum(dim=-1).clamp(min=1)
    lack = (outer - distance).clamp(min=0) * negative
    near = lack > 0
    # a softmax subtracts the largest exponent, which alone would overflow in half precision
    share = torch.softmax((temperature * lack.detach()).masked_fill(~near, -1e4), dim=-1) * near
    return (pull + (share * lack).sum(dim=-1)) / 2


def mixed_classes(labels: Tensor, num_classes: int, least: float) -> Tensor:
    """Classes (Q, K) that cover at least the share ``least`` of patches (Q, P) in which two or more classes do."""
    present = class_shares(labels, num_classes) >= least
    return present & (present.sum(dim=1, keepdim=True) >= 2)


def unchanged(rows: Tensor) -> Tensor:
    """The embedding of features that are embeddings already."""
    return rows


def intra_patch_loss(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    patch: int = 32,
    band: int = 3,
    samples: int = 32,
    least: float = 0.05,
    embed: Callable[[Tensor], Tensor] = unchanged,
    **hinge: float,
) -> Tensor:
    """Ranked loss of the pixels beside a boundary, each against the others of its own patch.

    Args:
        features: (B, F, X, Y).
        labels: (B, 1, X, Y), 255 where ignored.
        patch: side of a patch in pixels.
        band: largest distance from the boundary in pixels.
        samples: pixels of a class and patch.
        least: share of a patch that a class needs; a patch needs two such classes.
        embed: features (Q, N, F) of the drawn pixels alone -> L2-normalised embeddings (Q, N, D); embedding whole
            images took half of a training step.
        hinge: arguments of :func:`ranked_hinge`.

    Returns:
        mean over the mixed patches of the mean over their pixels; exactly 0 where there is no mixed patch.
    """
    pixels, classes = tile(features, patch), tile(labels, patch)[..., 0]
    kept = mixed_classes(classes, num_classes, least)
    usable = tile(boundary_band(labels, band), patch)[..., 0] & kept.gather(1, classes.clamp(max=num_classes - 1))
    index, drawn = sample_per_class(torch.where(usable, classes, -1), num_classes, samples)
    chosen = embed(pixels.gather(1, index.unsqueeze(-1).expand(-1, -1, pixels.shape[-1])))
    used = drawn >= 0
    pair = used.unsqueeze(2) & used.unsqueeze(1)
    same = drawn.unsqueeze(2) == drawn.unsqueeze(1)
    # that a pixel is its own positive changes nothing: it lies within reach
    losses = ranked_hinge(distances(chosen, chosen), pair & same, pair & ~same, **hinge)
    count = used.sum(dim=1)
    total, patches = summed((losses.sum(dim=1) / count.clamp(min=1)).sum(), (count > 0).sum())
    return total / patches.clamp(min=1)


def inter_patch_loss(
    features: Tensor,
    labels: Tensor,
    images: Tensor,
    num_classes: int,
    patch: int = 32,
    least: float = 0.05,
    limit: int = 1024,
    embed: Callable[[Tensor], Tensor] = unchanged,
    **hinge: float,
) -> Tensor:
    """Ranked loss of whole lesions in patches: those of low contrast follow those of high contrast.

    A class in a patch is described by the embedding of its mean feature. Anchors are the foreground descriptors of the
    half of lowest :func:`local_contrast`; positives those of the other half, of the same class, without gradient (so
    the clear lesions are the reference); negatives all descriptors of other classes. 0 with fewer than two foreground
    descriptors.

    Args:
        features: (B, F, X, Y).
        labels: (B, 1, X, Y), 255 where ignored.
        images: (B, C, X, Y).
        limit: descriptors that are compared; of more, so many at random.
        patch, least, embed, hinge: as of :func:`intra_patch_loss`.
    """
    classes = tile(labels, patch)[..., 0]
    kept = mixed_classes(classes, num_classes, least)
    numbers = torch.arange(num_classes, device=labels.device)
    member = (classes.unsqueeze(1) == numbers.view(1, -1, 1)) & kept.unsqueeze(2)
    means = full_product(member, tile(features, patch)) / member.sum(dim=2, keepdim=True).clamp(min=1)
    described = F.normalize(embed(means), dim=-1).flatten(0, 1)
    contrast = local_contrast(tile(images, patch), member.float()).flatten()
    valid, number = kept.flatten(), numbers.repeat(len(kept))
    if len(valid) > limit:  # every pair is compared, and few patches are mixed; a fixed number, or a GPU would wait
        chosen = (valid + torch.rand(len(valid), device=labels.device)).topk(limit).indices
        described, contrast, valid, number = (values[chosen] for values in (described, contrast, valid, number))
    lesions = valid & (number > 0)
    rank = contrast.masked_fill(~lesions, torch.inf).argsort().argsort()
    low = lesions & (rank < lesions.sum() // 2)
    same = number.unsqueeze(1) == number.unsqueeze(0)
    positive = low.unsqueeze(1) & same & (lesions & ~low).unsqueeze(0)
    negative = low.unsqueeze(1) & ~same & valid.unsqueeze(0)
    distance = torch.where(positive, distances(described, described.detach()), distances(described, described))
    total, anchors = summed(ranked_hinge(distance, positive, negative, **hinge).sum(), low.sum())
    return total / anchors.clamp(min=1)


def local_contrast(images: Tensor, member: Tensor) -> Tensor:
    """Contrast of every class in every patch: ``|mean inside - mean of the other members| / (deviation + 1e-3)``.

    Over several channels: the length of the difference, and the root of the mean variance of the patch.

    Args:
        images: (Q, P, C) pixels of the patches.
        member: (Q, K, P) 1 where a pixel is of the class.

    Returns:
        (Q, K).
    """
    images, total = images.float(), member.sum(dim=1, keepdim=True)
    inside = full_product(member, images) / member.sum(dim=2, keepdim=True).clamp(min=1)
    rest = total - member
    outside = full_product(rest, images) / rest.sum(dim=2, keepdim=True).clamp(min=1)
    deviation = images.var(dim=1, unbiased=False).mean(dim=1, keepdim=True).sqrt()
    return (inside - outside).norm(dim=2) / (deviation + 1e-3)
