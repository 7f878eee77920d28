# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the labelled images say about how often a class occurs, against the background bias of pseudo-labels."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from scripts.distributed import averaged, summed, world_size
from scripts.losses import IGNORE_INDEX


class ClassPrior(nn.Module):
    """Running class frequencies of the labelled images and of the teacher's answers, and two uses of them.

    * :meth:`align`: the teacher's probabilities are scaled so that each class becomes as frequent on the unlabelled
      images as it is on the labelled ones (distribution alignment, Berthelot et al., *ReMixMatch*, ICLR 2020). At 1 %
      foreground a teacher trained on few images draws lesions too small or not at all. Labels are counted inside the
      frame, answers over the whole view, whose reflected margin holds few lesions: a little more frequent, then.
    * :meth:`trust`: an unlabelled image in which the teacher finds nothing of a class counts only as much as labelled
      images without that class are common: where nearly every frame has a lesion, an empty pseudo-label is most
      likely a miss, and must not be learned (our choice).

    Args:
        num_classes: classes with background.
        momentum: share of a new batch in the running means (which are exact means over the first batches).
        limit: largest factor of :meth:`align`.
    """

    def __init__(self, num_classes: int, momentum: float = 0.01, limit: float = 3.0) -> None:
        super().__init__()
        self.num_classes, self.momentum, self.limit = num_classes, momentum, limit
        for name in ("pixels", "images", "predicted"):
            self.register_buffer(name, torch.zeros(num_classes))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def observe(self, labels: Tensor, probabilities: Tensor) -> None:
        """Take in labels (B, 1, X, Y) of labelled images and the teacher's probabilities (U, K, X, Y).

        Without labelled images nothing is known of the classes: both uses then change nothing.
        """
        member = labels == torch.arange(self.num_classes, device=labels.device).view(1, -1, 1, 1)
        pixels, valid, images = summed(
            member.sum(dim=(0, 2, 3)), (labels != IGNORE_INDEX).sum(), member.any(dim=-1).any(dim=-1).float().sum(dim=0)
        )
        self.count.add_(1)
        weight = torch.clamp(1 / self.count, min=self.momentum)
        told = weight * (valid > 0)  # labels that are ignored all over say nothing
        for buffer, value, share in (
            (self.pixels, pixels / valid.clamp(min=1), told),
            (self.images, images / max(len(labels) * world_size(), 1), told),
            (self.predicted, averaged(probabilities.mean(dim=(0, 2, 3))), weight),
        ):
            buffer.lerp_(value.to(buffer.dtype), share)

    def align(self, probabilities: Tensor) -> Tensor:
        """Probabilities (U, K, X, Y) with the class frequencies of the labelled images."""
        factor = (self.pixels / self.predicted.clamp(min=1e-6)).clamp(1 / self.limit, self.limit)
        aligned = probabilities * factor.view(1, -1, 1, 1)
        return aligned / aligned.sum(dim=1, keepdim=True)

    def trust(self, pseudo: Tensor) -> Tensor:
        """Weight (U, 1, 1, 1) of the images by their pseudo-labels (U, 1, X, Y)."""
        classes = torch.arange(1, self.num_classes, device=pseudo.device).view(1, -1, 1, 1)
        present = (pseudo == classes).any(dim=-1).any(dim=-1)
        share = torch.where(present, 1.0, 1 - self.images[1:])
        return share.min(dim=1).values.view(-1, 1, 1, 1)
