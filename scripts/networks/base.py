# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What every segmentation network of the bundle promises to the learning rules: one ``forward``, three uses."""

import inspect
from abc import ABC, abstractmethod

import torch.nn as nn
from torch import Tensor

from scripts.errors import InputError
from scripts.networks.perturbation import perturb


class SegmentationNetwork(nn.Module, ABC):
    """Base of the networks: ``encode`` to a list of feature maps, ``decode`` to a map, ``classify`` to logits.

    A subclass implements the three and sets :attr:`feature_channels`. Everything a rule needs comes out of the one
    ``forward``, so that it stays true under DDP, compilation and export:

    * ``network(x)``: logits (B, K, X, Y) for x (B, C, X, Y), any X and Y;
    * ``network(x, return_features=True)``: (logits, features (B, F, about X/4, about Y/4));
    * ``network(x, feature_dropout=mask)``: whole channels of every encoder map are dropped with probability 0.5 for
      the samples where the boolean ``mask`` (B,) is set, the feature perturbation of UniMatch (Yang et al., CVPR
      2023, section 3.2); numbers instead choose a kind of perturbation image by image, see
      :mod:`scripts.networks.perturbation`; only in training mode.
    """

    # TorchScript reads the annotations of forward and what it calls: no string annotations in the files of networks
    feature_channels: int

    @abstractmethod
    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps of ``x`` (B, C, X, Y), the finest first."""

    @abstractmethod
    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(fused map that is classified, feature map at about stride 4 with :attr:`feature_channels` channels)."""

    @abstractmethod
    def classify(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, K, X, Y) at ``size`` = (X, Y)."""

    def forward(
        self, x: Tensor, return_features: bool = False, feature_dropout: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        fused, features = self.decode(self.perturbed(self.encode(x), feature_dropout))
        logits = self.classify(fused, (x.shape[-2], x.shape[-1]))
        if return_features:
            return logits, features
        return logits

    def perturbed(self, maps: list[Tensor], feature_dropout: Tensor | None) -> list[Tensor]:
        """The encoder's maps, in training mode with the perturbation that every image asks for."""
        if feature_dropout is None or not self.training:
            return maps
        return [perturb(m, feature_dropout) for m in maps]


def check_features(network: nn.Module, user: str) -> None:
    """Refuse a network that only answers ``network(x)``, for the rule or wrapper ``user``, which asks for more.

    Raises:
        InputError: naming the network's class and the mend.
    """
    if "feature_dropout" not in inspect.signature(network.forward).parameters:
        raise without_features(network, user)


def without_features(network: nn.Module, user: str) -> InputError:
    """What a user reads whose network gives no feature maps to the rule or wrapper ``user``."""
    kind, mend = type(network), "subclass scripts.networks.SegmentationNetwork"
    if isinstance(network, SegmentationNetwork):
        mend = "set its feature_channels"
    return InputError(
        f"network_def: {kind.__module__}.{kind.__qualname__} gives no feature maps, which {user} needs: {mend}, or use "
        "configs/methods/supervised.yaml"
    )
