# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""How the 2-D network is applied: to pictures at once, to volumes slice by slice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from monai.inferers import SliceInferer
from torch import Tensor
from tqdm import tqdm

PATIENCE = 2.0  # seconds after which a progress bar over the slices appears


class PlaneInferer(SliceInferer):
    """MONAI's ``SliceInferer`` that takes pictures too and whole planes of any size.

    Pictures (B, C, X, Y) go through the network as they are. Volumes (B, C, X, Y, Z) are predicted slice by slice,
    ``slices`` at a time, and stacked to (B, K, X, Y, Z).

    Args:
        slices: slices in one batch.
    """

    def __init__(self, slices: int = 8) -> None:
        super().__init__(spatial_dim=2, roi_size=(1, 1), sw_batch_size=slices, overlap=0.0)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """The logits (B, K, X, Y) or (B, K, X, Y, Z)."""
        if inputs.ndim == 4:
            return network(inputs, *args, **kwargs)
        self.orig_roi_size = tuple(inputs.shape[2:4])
        count, quiet = len(inputs) * inputs.shape[-1], not sys.stderr.isatty()
        with tqdm(desc="slices", total=count, delay=PATIENCE, leave=False, disable=quiet) as bar:

            def predict(slices: Tensor) -> Tensor:
                bar.update(len(slices))
                return network(slices, *args, **kwargs)

            return super().__call__(inputs, predict)
