# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""timm's MobileViT blocks with sizes that stay symbols when the network is traced, so that exports take any image."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.models.mobilevit import MobileVitBlock, MobileVitV2Block
from torch import Tensor


class AnySizeBlock(MobileVitBlock):
    """timm's block (Mehta and Rastegari, *MobileViT*, ICLR 2022) with the same weights and the same numbers.

    timm counts the patches with ``math.ceil``, which a tracer sees as a constant, and decides in Python whether the
    map has to be resized to whole patches. Here integer division counts them, and a traced or exported block always
    resizes: to its own size where the patches fit, which changes nothing.

    Shapes:
        (B, C, X, Y), any X and Y -> (B, C, X, Y).
    """

    def forward(self, x: Tensor) -> Tensor:
        local = self.conv_1x1(self.conv_kxk(x))
        size = (local.shape[-2], local.shape[-1])
        p, q = self.patch_size
        rows, columns, resized = patches(size, p, q)
        if resized:
            local = F.interpolate(local, size=(rows * p, columns * q), mode="bilinear", align_corners=False)
        batch, channels = local.shape[0], local.shape[1]
        # the pixels at one place of all patches attend to each other: (B, C, n, p, m, q) -> (B p q, n m, C)
        tokens = local.reshape(batch, channels, rows, p, columns, q).permute(0, 3, 5, 2, 4, 1)
        tokens = self.norm(self.transformer(tokens.reshape(batch * p * q, rows * columns, channels)))
        tokens = tokens.reshape(batch, p, q, rows, columns, channels).permute(0, 5, 3, 1, 4, 2)
        context = tokens.reshape(batch, channels, rows * p, columns * q)
        if resized:
            context = F.interpolate(context, size=size, mode="bilinear", align_corners=False)
        context = self.conv_proj(context)
        if self.conv_fusion is not None:
            context = self.conv_fusion(torch.cat((x, context), dim=1))
        return context


class AnySizeBlockV2(MobileVitV2Block):
    """timm's block of the second version (Mehta and Rastegari, arXiv 2206.02680), with the same weights.

    The numbers are timm's where the patches fit. Elsewhere timm's block returns a map that has grown to whole patches,
    which no longer lies on the other maps of its scale; this one is resized back to its own size.

    Shapes:
        (B, C, X, Y), any X and Y -> (B, C, X, Y).
    """

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        p, q = self.patch_size
        rows, columns, resized = patches(size, p, q)
        if resized:
            x = F.interpolate(x, size=(rows * p, columns * q), mode="bilinear", align_corners=True)
        local = self.conv_1x1(self.conv_kxk(x))
        batch, channels = local.shape[0], local.shape[1]
        # the pixels at one place of all patches attend to each other: (B, C, n, p, m, q) -> (B, C, p q, n m)
        tokens = local.reshape(batch, channels, rows, p, columns, q).permute(0, 1, 3, 5, 2, 4)
        tokens = self.norm(self.transformer(tokens.reshape(batch, channels, p * q, rows * columns)))
        tokens = tokens.reshape(batch, channels, p, q, rows, columns).permute(0, 1, 4, 2, 5, 3)
        context = self.conv_proj(tokens.reshape(batch, channels, rows * p, columns * q))
        if resized:
            context = F.interpolate(context, size=size, mode="bilinear", align_corners=True)
        return context


def patches(size: tuple[int, int], p: int, q: int) -> tuple[int, int, bool]:
    """Rows and columns of patches of ``p`` x ``q`` pixels that cover ``size``, and whether it has to be resized."""
    rows, columns = (size[0] + p - 1) // p, (size[1] + q - 1) // q
    return rows, columns, in_export() or rows * p != size[0] or columns * q != size[1]


def in_export() -> bool:
    """Whether the running pass is recorded, by a tracer or by ``torch.export``."""
    if torch.jit.is_scripting():
        return False
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def take_any_size(encoder: nn.Module) -> nn.Module:
    """Gives every MobileViT block of timm in ``encoder`` the forward pass above; parameters and keys stay."""
    own = {MobileVitBlock: AnySizeBlock, MobileVitV2Block: AnySizeBlockV2}
    for module in encoder.modules():
        if type(module) in own:
            module.__class__ = own[type(module)]
    return encoder
