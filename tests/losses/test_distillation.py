# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Distillation and class vectors against loops."""

import math

import pytest
import torch

from scripts.losses import class_vectors, distillation_loss, multi_scale_distillation


def softmax(values, temperature):
    e = [math.exp(v / temperature) for v in values]
    return [v / sum(e) for v in e]


def slow_distillation(student, teacher, temperature):
    total, count = 0.0, 0
    batch, _, width, height = student.shape
    for b in range(batch):
        for x in range(width):
            for y in range(height):
                p, q = (softmax(z[b, :, x, y].tolist(), temperature) for z in (teacher, student))
                total, count = total + sum(a * math.log(a / c) for a, c in zip(p, q)), count + 1
    return temperature**2 * total / count


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
def test_equal_to_the_plain_python_version_without_gradient_to_the_teacher(temperature):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 4, 5, requires_grad=True)
    loss = distillation_loss(student, teacher, temperature)
    assert loss.item() == pytest.approx(slow_distillation(student, teacher, temperature), abs=1e-5)
    grads = torch.autograd.grad(loss, [student, teacher], allow_unused=True)
    assert grads[0].abs().sum() > 0 and grads[1] is None
    assert distillation_loss(teacher, teacher).item() == pytest.approx(0.0, abs=1e-6)


def test_the_scales_are_weighted_at_their_own_sizes_and_the_rest_left_out():
    torch.manual_seed(0)
    students, teachers = ([torch.randn(2, 3, n, n) for n in (8, 4, 2, 1)] for _ in range(2))
    terms = [distillation_loss(s, t, 2.0).item() for s, t in zip(students, teachers)]
    four = multi_scale_distillation(students, teachers, (0.4, 0.2, 0.2, 0.2))
    assert four.item() == pytest.approx(0.4 * terms[0] + 0.2 * sum(terms[1:]), abs=1e-5)
    assert multi_scale_distillation(students, teachers, (0.4,)).item() == pytest.approx(terms[0], abs=1e-5)


def test_class_vectors_equal_the_plain_python_version_and_small_regions_have_none():
    torch.manual_seed(0)
    embeddings, regions = torch.randn(2, 3, 4, 5), torch.rand(2, 4, 4, 5)
    regions[1, 2] = 0.01  # 0.2 pixels in all
    vectors, classes = class_vectors(embeddings, regions, least=5.0)
    for row, (b, k) in enumerate((b, k) for b in range(2) for k in range(4)):
        size = regions[b, k].sum().item()
        mean = [
            sum(regions[b, k, x, y].item() * embeddings[b, d, x, y].item() for x in range(4) for y in range(5)) / size
            for d in range(3)
        ]
        length = math.sqrt(sum(v * v for v in mean))
        assert vectors[row].tolist() == pytest.approx([v / length for v in mean], abs=1e-4)
        assert classes[row].item() == (k if size >= 5 else -1)
    assert classes.tolist().count(-1) == 1
    empty, none = class_vectors(embeddings.requires_grad_(), torch.zeros(2, 4, 4, 5))
    empty.sum().backward()
    assert (none == -1).all() and empty.isfinite().all() and embeddings.grad.isfinite().all()
