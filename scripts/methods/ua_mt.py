# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Uncertainty-aware mean teacher (Yu et al., MICCAI 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from scripts.distributed import summed
from scripts.errors import InputError
from scripts.methods.base import LearningRule
from scripts.methods.ramps import SigmoidRamp
from scripts.switches import as_share
from scripts.transforms.noise import noisy


class UncertaintyAwareMeanTeacher(LearningRule):
    """Mean teacher whose target counts only where the teacher answers alike under noise and dropout.

    Published (paper, and the authors' 2-D settings as SSL4MIS runs them): the teacher sees the unlabelled images with
    Gaussian noise (0.1, clipped at 0.2); the entropy of its mean answer over ``passes`` = 8 such passes with dropout
    is the uncertainty; a pixel counts below a threshold that ramps from 3/4 of the largest entropy to all of it over
    the run; mean squared difference of the probabilities over the pixels that count; weight 0.1, sigmoid ramp.

    Our choice: the student sees the strong view as in every rule here; the largest entropy is log K, not log 2; the
    teacher predicts with its averaged batch-norm statistics, only its dropout is active (a network without dropout
    has the noise alone); the ramp of the weight ends at 40 % of the run.
    """

    losses = ("supervised", "consistency")

    def __init__(
        self,
        network: nn.Module,
        *,
        passes: int = 8,
        noise: float = 0.1,
        certain: float = 0.75,
        **common,
    ) -> None:
        super().__init__(network, **common)
        if int(passes) < 1:
            raise InputError(f"method#passes is {passes!r}: give 1 or more")
        self.passes, self.noise = int(passes), noise
        self.certain = as_share(certain, "method#certain")
        self.rise = SigmoidRamp(1 - self.certain, 0.0, 1.0)

    def forward(self, network, batch, progress):
        labelled, images = batch["labelled"], self.unlabelled(batch)
        target, uncertainty = self.teach(images)
        logits = network(self.strong_view(torch.cat([labelled["image"], images])))
        logits_labelled, logits_unlabelled = logits.split([len(labelled["image"]), len(images)])
        answer = torch.softmax(logits_unlabelled.float(), dim=1)
        return {
            "supervised": self.loss(logits_labelled, labelled["label"]),
            "consistency": self.follow(answer, target, uncertainty, progress),
        }

    def follow(self, answer: Tensor, target: Tensor, uncertainty: Tensor, progress: float) -> Tensor:
        """Mean squared difference of two answers (U, K, X, Y) over the pixels of low ``uncertainty`` (U, 1, X, Y)."""
        counts = (uncertainty < self.threshold(progress, target.shape[1])).to(target.dtype)
        difference = (answer - target).square().mean(dim=1, keepdim=True)
        self.statistics = {"accepted": counts.mean(), "predicted_foreground": 1 - target[:, 0].mean()}
        total, count = summed((difference * counts).sum(), counts.sum())
        return total / count.clamp(min=1)

    def threshold(self, progress: float, classes: int) -> float:
        """Entropy below which a pixel counts."""
        return (self.certain + self.rise(progress)) * math.log(classes)

    @torch.no_grad()
    def teach(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """One noisy answer (U, K, X, Y) as the target, and the entropy (U, 1, X, Y) of the mean of ``passes`` more."""
        with active_dropout(self.teacher.module):
            answers = [
                torch.softmax(self.teacher(noisy(images, self.noise)).float(), dim=1) for _ in range(self.passes + 1)
            ]
        mean = torch.stack(answers[1:]).mean(dim=0)
        return answers[0], -(mean * mean.clamp(min=1e-6).log()).sum(dim=1, keepdim=True)


@contextmanager
def active_dropout(network: nn.Module) -> Iterator[None]:
    """The dropout layers of ``network`` drop while this lasts, everything else stays as it is (Monte Carlo dropout)."""
    layers = [(module, module.training) for module in network.modules() if isinstance(module, _DropoutNd)]
    for layer, _ in layers:
        layer.train()
    try:
        yield
    finally:
        for layer, mode in layers:
            layer.train(mode)
