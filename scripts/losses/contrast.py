# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Class-aware contrast: InfoNCE with every key of the anchor's class as a positive, and class-balanced sampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.distributed import summed


def full_product(first: Tensor, second: Tensor) -> Tensor:
    """(..., N, D) and (..., D, M) -> (..., N, M) in float32, also where mixed precision would take half of it."""
    with torch.autocast(first.device.type, enabled=False):
        return first.float() @ second.float()


def class_info_nce(
    anchors: Tensor,
    anchor_classes: Tensor,
    keys: Tensor,
    key_classes: Tensor,
    temperature: float = 0.1,
    same: Tensor | None = None,
) -> Tensor:
    """Mean over anchors and their positives p of ``-log e^(s_p/t) / (e^(s_p/t) + sum over negatives e^(s_n/t))``.

    Positives do not compete with each other (as in Khosla et al., NeurIPS 2020, eq. 2, but with one positive at a time
    in the denominator). An anchor without positives does not count; without negatives its loss is 0; without any
    counting anchor the result is exactly 0 with zero gradient.

    Args:
        anchors: (N, D), L2-normalised.
        anchor_classes: (N,) long; a negative class marks a row that is not used.
        keys: (M, D), L2-normalised.
        key_classes: (M,) long; a negative class marks a row that is not used.
        temperature: t > 0.
        same: (N, M) bool, pairs that are one and the same sample and count as neither positive nor negative.
    """
    similarity = full_product(anchors, keys.T) / temperature
    usable = (anchor_classes >= 0).unsqueeze(1) & (key_classes >= 0).unsqueeze(0)
    if same is not None:
        usable = usable & ~same
    equal = anchor_classes.unsqueeze(1) == key_classes.unsqueeze(0)
    positive, negative = usable & equal, usable & ~equal
    # logsumexp over an empty set is -inf, whose gradient is NaN: a finite, vanishing value stands in
    negatives = torch.logsumexp(similarity.masked_fill(~negative, -1e4), dim=1, keepdim=True)
    pairs = F.softplus(negatives - similarity) * positive
    count = positive.sum(dim=1)
    per_anchor = pairs.sum(dim=1) / count.clamp(min=1)
    return per_anchor.sum() / (count > 0).sum().clamp(min=1)


def sample_per_class(
    labels: Tensor, num_classes: int, count: int, score: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Class-balanced random sampling without replacement, with a static output size and no host synchronisation.

    Args:
        labels: (..., P) long, class of every candidate; anything outside 0..num_classes-1 is never drawn. Leading
            axes are independent lists of candidates.
        count: samples per class.
        score: (..., P) log-weights: a candidate is drawn with probability growing with exp(score) (Gumbel top-k,
            Kool et al., ICML 2019); None draws uniformly.

    Returns:
        indices (..., num_classes * count) into the candidates and their classes, -1 where a class had too few
        candidates.
    """
    *lists, candidates = labels.shape
    count = min(count, candidates)
    uniform = torch.rand(*lists, num_classes, candidates, device=labels.device)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    if score is not None:
        gumbel = gumbel + score.float().unsqueeze(-2)
    classes = torch.arange(num_classes, device=labels.device).unsqueeze(1)
    gumbel = gumbel.masked_fill(labels.unsqueeze(-2) != classes, -torch.inf)
    value, index = gumbel.topk(count, dim=-1)
    return index.flatten(-2), torch.where(torch.isinf(value), -1, classes.expand_as(index)).flatten(-2)


def class_means(embeddings: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """L2-normalised mean embedding of every class, over all processes of a run.

    Args:
        embeddings: (P, D).
        labels: (P,) long, anything outside 0..num_classes-1 is left out.

    Returns:
        means (num_classes, D), zero where a class has no member, and counts (num_classes,).
    """
    member = (labels.unsqueeze(0) == torch.arange(num_classes, device=labels.device).unsqueeze(1)).float()
    sums, counts = summed(full_product(member, embeddings), member.sum(dim=1))
    return F.normalize(sums, dim=1), counts
