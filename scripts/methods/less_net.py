# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The LESS-Net learning rule: consistency + similarity-based contrast, against mismatch and class imbalance."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.distributed import summed
from scripts.errors import InputError
from scripts.losses import IGNORE_INDEX, weighted_cross_entropy, weighted_dice_loss
from scripts.methods.base import LearningRule
from scripts.methods.prior import ClassPrior
from scripts.methods.similarity import SimilarityContrast
from scripts.switches import as_bool, as_share
from scripts.transforms import another, random_boxes


class LessNet(LearningRule):
    """Semi-supervised rule after the abstract of LESS-Net (Lai et al., Frontiers in Physiology 16:1644589, 2025).

    Published: unlabelled images are used by consistency regularisation and (similarity-based) contrastive learning,
    which together mitigate the distribution mismatch of labelled and unlabelled images and the class imbalance. How
    is our choice, part by part, each with a switch; parts that gave nothing on FUSeg are off
    (docs/results.md, docs/results_batch_dice.md):

    * **consistency**: the EMA teacher labels the weak view; the student, on the strong view, follows (FixMatch, Sohn
      et al., NeurIPS 2020; on segmentation UniMatch, Yang et al., CVPR 2023). ``soft`` targets or the argmax. Beside
      the cross-entropy a Dice of weight ``dice``, counted over the whole batch: cross-entropy alone hardly moves a
      class of 1 % of the pixels. With ``batch_dice`` false it is counted image by image, without those where nothing
      was found, which would ask for nothing but background.
    * **acceptance**: a pixel counts when the teacher's confidence reaches ``threshold``; with ``adaptive`` (off)
      scaled by how confident the teacher usually is about that class (after FreeMatch, Wang et al., ICLR 2023).
    * **class prior** (``align``; ``trust``, off): :class:`~scripts.methods.prior.ClassPrior`.
    * **flip ensemble** (``flips``, off): the teacher's answer is the mean over the image and its mirror images.
    * **mixing** (``cutmix``, off): this share of the unlabelled images gets a box (CutMix) of another unlabelled image
      or, with the probability ``mix_labelled``, of a labelled one with its true mask, so that one image holds both
      distributions.
    * **feature perturbation** (``feature_perturbation``, off): this share of the unlabelled images passes the decoder
      with half of the encoder's channels dropped (UniMatch).
    * **contrast**: :class:`~scripts.methods.similarity.SimilarityContrast`; None switches it off.

    Losses: ``supervised``, ``consistency``, ``contrast``. Statistics: ``accepted`` (share of the unlabelled pixels),
    ``accepted_foreground`` (share of the teacher's foreground pixels), ``predicted_foreground``, with
    ``trust`` ``trusted_images``.

    Raises:
        InputError: a share outside 0 to 1, ``flips`` outside 0 to 3, or a switch that is neither true nor false.
    """

    losses = ("supervised", "consistency", "contrast")
    needs_features = True

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int = 2,
        threshold: float = 0.8,
        adaptive: bool = False,
        soft: bool = False,
        dice: float = 1.0,
        batch_dice: bool = True,
        align: bool = True,
        trust: bool = False,
        flips: int = 0,
        cutmix: float = 0.0,
        mix_labelled: float = 0.5,
        feature_perturbation: float = 0.0,
        contrast: SimilarityContrast | None = None,
        **common,
    ) -> None:
        super().__init__(network, **common)
        # from the command line a switch arrives as the word "false", which Python takes for true
        self.adaptive, self.soft = as_bool(adaptive, "method#adaptive"), as_bool(soft, "method#soft")
        self.align, self.trust = as_bool(align, "method#align"), as_bool(trust, "method#trust")
        if flips not in range(4):
            raise InputError(f"method#flips is {flips!r}: give a whole number from 0 to 3")
        self.batch_dice = as_bool(batch_dice, "method#batch_dice")
        self.num_classes, self.dice, self.flips = num_classes, dice, int(flips)
        self.threshold = as_share(threshold, "method#threshold")
        self.cutmix = as_share(cutmix, "method#cutmix")
        self.mix_labelled = as_share(mix_labelled, "method#mix_labelled")
        self.feature_perturbation = as_share(feature_perturbation, "method#feature_perturbation")
        self.contrast = contrast
        self.prior = ClassPrior(num_classes)
        self.register_buffer("class_confidence", torch.full((num_classes,), 1.0 / num_classes))

    def forward(self, network, batch, progress):
        images, labels = batch["labelled"]["image"], batch["labelled"]["label"]
        unlabelled = self.unlabelled(batch)
        target, weight = self.pseudo_label(unlabelled, labels)
        mixed, target, weight = self.mix(images, labels, unlabelled, target, weight)

        count = len(images)
        inputs = torch.cat([self.strong_view(images), self.strong_view(mixed)])
        perturbed = torch.rand(len(inputs), device=inputs.device) < self.feature_perturbation
        perturbed[:count] = False
        logits, features = network(
            inputs, return_features=True, feature_dropout=perturbed if self.feature_perturbation > 0 else None
        )
        losses = {
            "supervised": self.loss(logits[:count], labels),
            "consistency": weighted_cross_entropy(logits[count:], target, weight),
        }
        if self.dice:
            losses["consistency"] = losses["consistency"] + self.dice * weighted_dice_loss(
                logits[count:], target, weight, batch=self.batch_dice
            )
        if self.contrast is not None:
            pseudo = torch.where(weight > 0.5, target.argmax(dim=1, keepdim=True), IGNORE_INDEX)
            losses["contrast"] = self.contrast(features, torch.cat([labels, pseudo]), count)
        return losses

    @torch.no_grad()
    def pseudo_label(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher's targets (U, K, X, Y) of the weak view and their weight (U, 1, X, Y), 0 where not accepted."""
        probabilities = self.teach(images)
        self.prior.observe(labels, probabilities)
        if self.align:
            probabilities = self.prior.align(probabilities)
        confidence, pseudo = probabilities.max(dim=1, keepdim=True)
        hard = F.one_hot(pseudo[:, 0], self.num_classes).movedim(-1, 1).to(probabilities.dtype)
        accepted = (confidence >= self.class_thresholds(confidence, hard)[pseudo]).to(probabilities.dtype)
        foreground = (pseudo > 0).to(probabilities.dtype)
        trust = self.prior.trust(pseudo) if self.trust else torch.ones_like(accepted[:, :, :1, :1])
        self.statistics = {
            "accepted": accepted.mean(),
            "accepted_foreground": (accepted * foreground).sum() / foreground.sum().clamp(min=1),
            "predicted_foreground": foreground.mean(),
        }
        if self.trust:
            self.statistics["trusted_images"] = trust.mean()
        return (probabilities if self.soft else hard), accepted * trust

    def teach(self, images: Tensor) -> Tensor:
        """The teacher's probabilities (U, K, X, Y), averaged over the image and up to three mirror images."""
        mirrors = [(), (-1,), (-2,), (-1, -2)][: self.flips + 1]
        views = torch.cat([images.flip(axes) for axes in mirrors])
        answers = torch.softmax(self.teacher(views).float(), dim=1).chunk(len(mirrors))
        return torch.stack([answer.flip(axes) for answer, axes in zip(answers, mirrors)]).mean(dim=0)

    def class_thresholds(self, confidence: Tensor, hard: Tensor) -> Tensor:
        """Thresholds (K,): ``threshold`` x running mean confidence of the class / that of the surest class."""
        if not self.adaptive:
            return confidence.new_full((self.num_classes,), self.threshold)
        size, total = summed(hard.sum(dim=(0, 2, 3)), (hard * confidence).sum(dim=(0, 2, 3)))
        mean = total / size.clamp(min=1)
        self.class_confidence.copy_(
            torch.where(size > 0, self.class_confidence.lerp(mean, 0.01), self.class_confidence)
        )
        return self.threshold * self.class_confidence / self.class_confidence.max()

    @torch.no_grad()
    def mix(
        self, images: Tensor, labels: Tensor, unlabelled: Tensor, target: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Paste boxes of labelled or other unlabelled images into the unlabelled ones, targets and weights alike."""
        size, device = len(unlabelled), unlabelled.device
        valid = labels != IGNORE_INDEX
        truth = F.one_hot(torch.where(valid, labels, 0)[:, 0].long(), self.num_classes).movedim(-1, 1).to(target.dtype)
        pool = [torch.cat(pair) for pair in ((unlabelled, images), (target, truth), (weight, valid.to(weight.dtype)))]
        other = another(size, device)
        from_labelled = size + torch.randint(0, max(len(images), 1), (size,), device=device)
        share = self.mix_labelled if len(images) else 0.0
        partner = torch.where(torch.rand(size, device=device) < share, from_labelled, other)
        boxes = random_boxes(size, (unlabelled.shape[-2], unlabelled.shape[-1]), device, p=self.cutmix)
        mixed = [torch.where(boxes, values[partner], values[:size]) for values in pool]
        return mixed[0], mixed[1], mixed[2]
