# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Soft distillation from a teacher, at one or several scales, and the class vectors that are contrasted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """``t^2 * mean over pixels of KL(softmax(teacher / t) || softmax(student / t))`` (Hinton et al., 2015).

    The factor keeps the size of the gradient when the temperature t changes. No gradient reaches the teacher.

    Args:
        student, teacher: logits (B, K, X, Y) of one size.
        temperature: t > 0; above 1 the less likely classes count more.
    """
    target = torch.log_softmax(teacher.detach().float() / temperature, dim=1)
    answer = torch.log_softmax(student.float() / temperature, dim=1)
    divergence = F.kl_div(answer, target, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * divergence.mean()


def multi_scale_distillation(
    students: Sequence[Tensor], teachers: Sequence[Tensor], weights: Sequence[float], temperature: float = 2.0
) -> Tensor:
    """Weighted mean of :func:`distillation_loss` over the scales, each compared at its own size.

    Args:
        students, teachers: logits (B, K, X_s, Y_s) of the scales, finest first.
        weights: one weight a scale, brought to the sum 1; scales beyond them are left out.
    """
    terms = [w * distillation_loss(s, t, temperature) for s, t, w in zip(students, teachers, weights)]
    return torch.stack(terms).sum() / sum(weights)


def class_vectors(embeddings: Tensor, regions: Tensor, least: float = 10.0) -> tuple[Tensor, Tensor]:
    """The direction of every class in every image, from soft regions.

    Args:
        embeddings: (B, D, X, Y).
        regions: (B, K, X, Y) in [0, 1], how much a pixel belongs to a class.
        least: a class whose region sums to less (in pixels of this grid) has no vector.

    Returns:
        L2-normalised means (B * K, D), and their classes (B * K,), -1 where a class has no vector.
    """
    batch, classes = regions.shape[:2]
    # half precision would overflow in the sum over all pixels of an image
    with torch.autocast(embeddings.device.type, enabled=False):
        sums = torch.einsum("bdxy,bkxy->bkd", embeddings.float(), regions.float())
    size = regions.float().sum(dim=(2, 3))
    vectors = F.normalize(sums / size.clamp(min=1e-6).unsqueeze(2), dim=2)
    index = torch.arange(classes, device=regions.device).expand(batch, classes)
    return vectors.flatten(0, 1), torch.where(size >= least, index, -1).flatten()
