# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""More than one answer from one network: heads at several scales of the decoder, or a second decoder.

Both wrap any :class:`SegmentationNetwork` for the time of a training: their ``forward(x)`` is the wrapped network's,
which stays the one that is evaluated and exported (``wrapper.network``).
"""

import copy
from collections.abc import Sequence
from typing import List, Optional, Set, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError
from scripts.networks.base import SegmentationNetwork
from scripts.networks.wrapper import NetworkWrapper, blank, decode_and_keep, probe

Answer = Union[Tensor, Tuple[Tensor, Tensor], Tuple[List[Tensor], Tensor]]

#: the modules that return the decoder's maps at strides 2, 4 and 8, by class of the network
DECODER_MAPS = {
    "LESSNet": ("fusions.1", "fusions.2", "fusions.3"),
    "SSL4MISUNet": ("up.2", "up.1", "up.0"),
    "TimmUNet": ("levels.3", "levels.2", "levels.1"),
    "UNet": ("unet.upcat_2", "unet.upcat_3", "unet.upcat_4"),
}


class SeveralAnswers(NetworkWrapper):
    """Base of the wrappers with further heads: all is the wrapped network's, but ``return_heads=True``.

    ``wrapper(x, return_heads=True)`` gives (list of logits, the wrapped network's own first; the map that it
    classifies, (B, ``fused_channels``, x, y)). That branch is for training and is not part of a TorchScript.

    Args:
        network: the network to wrap; not copied.
        in_channels: channels of the image.
        names: modules of the network whose outputs the heads need.
    """

    def __init__(self, network: SegmentationNetwork, in_channels: int, names: Sequence[str] = ()) -> None:
        super().__init__(network)
        self.names = tuple(names)
        self.fused_channels, self.map_channels = probe(network, in_channels, self.names)

    def forward(
        self,
        x: Tensor,
        return_features: bool = False,
        feature_dropout: Optional[Tensor] = None,
        return_heads: bool = False,
    ) -> Answer:
        if return_heads:
            return self.heads_of(x)
        return self.network(x, return_features, feature_dropout)

    @torch.jit.ignore
    def heads_of(self, x: Tensor) -> Tuple[List[Tensor], Tensor]:
        """The answers of all heads, and the map at full size."""
        raise NotImplementedError


class MultiScale(SeveralAnswers):
    """Three 1x1 heads on the decoder's maps at strides 2, 4 and 8 beside the wrapped network's own.

    ``return_heads=True`` gives the logits at the strides 1, 2, 4, 8, each at its own size, as PyMIC's ``UNet2D`` does
    (Wang et al., Computer Methods and Programs in Biomedicine 2023).

    Args:
        network: a network of the bundle, or another :class:`SegmentationNetwork` with ``decoder_maps``.
        in_channels, out_channels: channels of the image, number of classes with background.
        decoder_maps: names of the modules of ``network`` that return the maps at strides 2, 4 and 8 (finest first);
            None for the networks of the bundle.

    Raises:
        InputError: the network's class is not known, or it has no module of that name.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        in_channels: int = 3,
        out_channels: int = 2,
        decoder_maps: Optional[Sequence[str]] = None,
    ) -> None:
        names = decoder_maps or DECODER_MAPS.get(type(network).__name__, ())
        if not names:
            raise InputError(
                f"decoder_maps: not known for {type(network).__name__}: name its modules that return the decoder's "
                "maps at strides 2, 4 and 8"
            )
        super().__init__(network, in_channels, names)
        self.heads = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in self.map_channels)

    @torch.jit.ignore
    def heads_of(self, x: Tensor) -> Tuple[List[Tensor], Tensor]:
        fused, maps = decode_and_keep(self.network, self.network.encode(x), self.names)
        logits = self.network.classify(fused, (x.shape[-2], x.shape[-1]))
        return [logits, *(head(m) for head, m in zip(self.heads, maps))], fused


class TwoDecoders(SeveralAnswers):
    """A second decoder with its own weights, which sees the encoder's maps with half of the values dropped.

    The dual-branch network of Luo et al. (*Scribble-Supervised Medical Image Segmentation via Dual-Branch Network and
    Dynamically Mixed Pseudo Labels Supervision*, MICCAI 2022): one encoder, a main and an auxiliary decoder, dropout
    0.5 before the auxiliary one. ``return_heads=True`` gives [main logits, auxiliary logits], both at full size.

    Args:
        network: any :class:`SegmentationNetwork`; its decoder is copied with fresh weights.
        in_channels: channels of the image.
        dropout: probability of a dropped value before the second decoder.
    """

    # a second network without encoder could not be scripted, and need not
    __jit_ignored_attributes__ = ["second"]

    def __init__(self, network: SegmentationNetwork, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__(network, in_channels)
        self.dropout = dropout
        self.second = second_decoder(network, in_channels)

    @torch.jit.ignore
    def heads_of(self, x: Tensor) -> Tuple[List[Tensor], Tensor]:
        size = (x.shape[-2], x.shape[-1])
        maps = self.network.encode(x)
        fused, _ = self.network.decode(maps)
        other, _ = self.second.decode([F.dropout(m, self.dropout, self.training) for m in maps])
        return [self.network.classify(fused, size), self.second.classify(other, size)], fused


@torch.no_grad()
def second_decoder(network: SegmentationNetwork, in_channels: int) -> SegmentationNetwork:
    """A copy of the network without the modules that only its encoder uses, all others drawn anew."""
    other = copy.deepcopy(network).eval()
    image = blank(other, in_channels)
    maps = other.encode(image)
    called = set()
    hooks = [module.register_forward_pre_hook(lambda m, _: called.add(m)) for module in other.modules()]
    other.classify(other.decode(maps)[0], (image.shape[-2], image.shape[-1]))
    for hook in hooks:
        hook.remove()
    prune(other, called)
    for module in other.modules():
        if module in called and hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return other.train(network.training)


def prune(module: nn.Module, keep: Set[nn.Module]) -> None:
    """Empties every submodule in which there is none of ``keep``."""
    for name, child in module.named_children():
        if keep.isdisjoint(child.modules()):
            module.set_submodule(name, nn.Identity())
        else:
            prune(child, keep)
