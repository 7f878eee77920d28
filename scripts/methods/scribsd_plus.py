# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""ScribSD+: scribbles, an EMA teacher's soft answers at several scales, and class-wise contrast."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.losses import IGNORE_INDEX, class_info_nce, class_vectors, multi_scale_distillation
from scripts.methods.scribbles import SeveralHeadsRule, annotated
from scripts.methods.teacher import EMATeacher
from scripts.switches import as_bool, as_share
from scripts.transforms.noise import noisy


class ClassContrast(nn.Module):
    """Class vectors of the student pulled to the teacher's of the same class, pushed from those of other classes.

    A class's vector is the mean projected feature over its region in one image: the scribble where there is one, else
    the teacher's probability where it is surer than ``threshold``. The loss is the class-aware InfoNCE of student
    against teacher vectors over all images of the batch, both with the same regions.

    Args:
        feature_channels: channels of the features.
        dim: size of the embedding.
        temperature: of the InfoNCE.
        threshold: probability above which the teacher's answer is part of a region; 1: the strokes alone.
        least: pixels (at full size) that a region needs.
        stride: features are averaged over squares of this many pixels first; saves memory.
        decay: EMA decay of the teacher's projection.
    """

    def __init__(
        self,
        feature_channels: int,
        dim: int = 64,
        temperature: float = 0.1,
        threshold: float = 0.8,
        least: float = 10.0,
        stride: int = 1,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Conv2d(feature_channels, dim, 1, bias=False),
            nn.BatchNorm2d(dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim, dim, 1),
        )
        self.teacher = EMATeacher(self.projection, decay)
        self.threshold = as_share(threshold, "method#contrast#threshold")
        self.temperature, self.least, self.stride = temperature, least, int(stride)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, probabilities: Tensor) -> Tensor:
        """Contrastive loss; 0 where no class has a region.

        Args:
            student, teacher: feature maps (B, F, x, y); the regions are averaged to their grid.
            labels: (B, 1, X, Y), 255 off the scribbles.
            probabilities: (B, K, X, Y) of the teacher.
        """
        embeddings = self.embed(self.projection, student)
        with torch.no_grad():
            target = self.embed(self.teacher, teacher)
            regions = F.adaptive_avg_pool2d(self.regions(labels, probabilities), target.shape[-2:])
        least = self.least * target[0, 0].numel() / labels[0, 0].numel()
        anchors, classes = class_vectors(embeddings, regions, least)
        keys, key_classes = class_vectors(target, regions, least)
        return class_info_nce(anchors, classes, keys, key_classes, self.temperature)

    def regions(self, labels: Tensor, probabilities: Tensor) -> Tensor:
        """How much each pixel belongs to each class, (B, K, X, Y) in [0, 1]."""
        drawn = labels != IGNORE_INDEX
        truth = F.one_hot(torch.where(drawn, labels, 0)[:, 0].long(), probabilities.shape[1]).movedim(-1, 1)
        sure = probabilities * (probabilities.amax(dim=1, keepdim=True) > self.threshold)
        return torch.where(drawn, truth.to(sure.dtype), sure)

    def embed(self, projection: nn.Module, features: Tensor) -> Tensor:
        """Projected features (B, dim, x, y), each pixel a direction."""
        features = F.avg_pool2d(features, self.stride) if self.stride > 1 else features
        return F.normalize(projection(features).float(), dim=1)


class ScribSDPlus(SeveralHeadsRule):
    """Scribble rule after the abstract of ScribSD+ (Qu et al., Computerized Medical Imaging and Graphics 2024, 102416).

    Published: a student learns from scribbles; its EMA teacher's soft predictions supervise it at several scales
    simultaneously; features of one class are drawn together and those of different classes apart (class-wise
    contrastive regularisation). How is our choice, on the habits of the authors' group, each part with a switch:

    * **scribbles**: partial cross-entropy at full size only, since thin strokes do not survive a smaller grid; with
      ``deep`` the coarse answers, enlarged, learn the strokes too, by the weights of their scales. A head that no
      stroke teaches could only repeat its teacher, which knows no more than it does.
    * **distillation** (``scales``): tau^2 KL divergence at strides 1, 2, 4 and 8, each at its own size, over all
      pixels, weights 0.4, 0.2, 0.2, 0.2; 1 keeps the full size alone, 0 switches it off.
    * **views**: student and teacher see independent Gaussian noise (``noise``, clipped at twice of it), the student
      also the strong view; the teacher predicts with its averaged batch-norm statistics. The group's noise of 0.1 is
      for images of unit variance; ACDC's in [0, 1] have a standard deviation of 0.24, hence 0.02 here.
    * **contrast**: :class:`ClassContrast`; None switches it off.

    Losses: ``supervised``, ``distillation``, ``contrast``. Statistics: ``predicted_foreground``, ``confident`` (share
    of the pixels where the teacher is surer than 0.8).

    Args:
        network: a :class:`scripts.networks.MultiScale`.
        scales: number of scales that are distilled, finest first.
        scale_weights: their weights, brought to the sum 1.
        deep: whether the coarse answers learn the strokes too.
        temperature: tau.
        noise: standard deviation, for images in [0, 1].
    """

    losses = ("supervised", "distillation", "contrast")

    def __init__(
        self,
        network: nn.Module,
        *,
        scales: int = 4,
        scale_weights: Sequence[float] = (0.4, 0.2, 0.2, 0.2),
        deep: bool = True,
        temperature: float = 2.0,
        noise: float = 0.02,
        contrast: ClassContrast | None = None,
        **common,
    ) -> None:
        super().__init__(network, **common)
        self.scale_weights, self.temperature, self.noise = tuple(scale_weights)[: int(scales)], temperature, noise
        self.deep, self.contrast = as_bool(deep, "method#deep"), contrast

    def forward(self, network, batch, progress):
        images, labels = annotated(batch)
        answers, features = network(noisy(self.strong_view(images), self.noise), return_heads=True)
        losses = {"supervised": self.supervise(answers, labels)}
        if not self.scale_weights and self.contrast is None:
            return losses
        with torch.no_grad():
            targets, teacher_features = self.teacher(noisy(images, self.noise), return_heads=True)
            probabilities = torch.softmax(targets[0].float(), dim=1)
        self.statistics = {
            "predicted_foreground": 1 - probabilities[:, 0].mean(),
            "confident": (probabilities.amax(dim=1) > 0.8).float().mean(),
        }
        if self.scale_weights:
            losses["distillation"] = multi_scale_distillation(answers, targets, self.scale_weights, self.temperature)
        if self.contrast is not None:
            losses["contrast"] = self.contrast(features, teacher_features, labels, probabilities)
        return losses

    def supervise(self, answers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss on the strokes: of the finest answer, or the weighted mean of all that are distilled."""
        weights = self.scale_weights if self.deep and self.scale_weights else (1.0,)
        size = labels.shape[-2:]
        terms = [w * self.loss(F.interpolate(z, size, mode="bilinear"), labels) for w, z in zip(weights, answers)]
        return torch.stack(terms).sum() / sum(weights)

    def update(self, network: nn.Module, iteration: int) -> None:
        """The teacher and its projection follow."""
        super().update(network, iteration)
        if self.contrast is not None:
            self.contrast.teacher.update(self.contrast.projection, iteration)
