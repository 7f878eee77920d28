# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the networks around a network share: they take its parts, and find out how wide its maps are."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.networks.base import SegmentationNetwork, check_features


class NetworkWrapper(SegmentationNetwork):
    """Base of the wrappers: the encoder, the decoder and the classifier are those of the wrapped network.

    Args:
        network: the network to wrap; not copied.

    Raises:
        InputError: the network is no :class:`SegmentationNetwork`.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        check_features(network, type(self).__name__)
        self.network = network
        self.feature_channels = network.feature_channels

    def encode(self, x: Tensor) -> list[Tensor]:
        return self.network.encode(x)

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.network.decode(maps)

    def classify(self, fused: Tensor, size: tuple[int, int]) -> Tensor:
        return self.network.classify(fused, size)


def decode_and_keep(
    network: SegmentationNetwork, maps: list[Tensor], names: Sequence[str]
) -> tuple[Tensor, list[Tensor]]:
    """``decode`` and what the modules ``names`` returned on the way."""
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.__setitem__(name, output)

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        fused, _ = network.decode(maps)
    finally:
        for hook in hooks:
            hook.remove()
    return fused, [kept[name] for name in names]


@torch.no_grad()
def probe(network: SegmentationNetwork, in_channels: int, names: Sequence[str] = ()) -> tuple[int, list[int]]:
    """Channels of the fused map and of the outputs of the modules ``names``; the network stays as it is."""
    unknown = sorted(set(names) - {name for name, _ in network.named_modules()})
    if unknown:
        raise InputError(f"decoder_maps: {type(network).__name__} has no module {unknown[0]}")
    copied = copy.deepcopy(network).eval()  # batch statistics and modes of the network are not touched
    fused, maps = decode_and_keep(copied, copied.encode(blank(copied, in_channels)), names)
    return fused.shape[1], [m.shape[1] for m in maps]


def blank(network: SegmentationNetwork, in_channels: int) -> Tensor:
    """A small image on the network's device."""
    return torch.zeros(1, in_channels, 64, 64).to(next(network.parameters()))
