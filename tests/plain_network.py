# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A network whose answer for an image does not depend on the others of the batch."""

from torch import nn

from scripts.networks import UNet


class PlainUNet(UNet):
    """The bundle's U-Net with group norm in the place of batch norm."""

    def __init__(self, **arguments) -> None:
        super().__init__(**arguments)
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.GroupNorm(1, child.num_features))
