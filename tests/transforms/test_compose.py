# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The chain that does not copy itself inverts as MONAI's own."""

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureTyped, Invertd

from scripts.transforms import FlatCompose, ResizePlaned


def inverted(chain: Compose, prediction: torch.Tensor) -> MetaTensor:
    data = chain({"image": MetaTensor(torch.rand(3, 30, 20))})
    data["pred"] = MetaTensor(prediction)
    return Invertd("pred", chain, orig_keys="image", nearest_interp=False)(data)["pred"]


@pytest.mark.parametrize("inner", [None, Compose])
def test_inverts_as_monais_compose_whatever_it_holds(inner):
    steps = [EnsureTyped("image"), ResizePlaned("image", (12, 16))]
    steps = steps if inner is None else [inner(steps)]
    prediction = torch.rand(2, 12, 16)
    ours, theirs = inverted(FlatCompose(steps), prediction), inverted(Compose(steps), prediction)
    assert ours.shape == (2, 30, 20)
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor(), rtol=0, atol=0)


def test_copies_itself_only_around_another_chain():
    flat = FlatCompose([EnsureTyped("image"), ResizePlaned("image", (12, 16))])
    assert flat.flatten() is flat and len(flat) == 2
    nested = FlatCompose([Compose([EnsureTyped("image")]), ResizePlaned("image", (12, 16))])
    assert nested.flatten() is not nested and len(nested.flatten().transforms) == 2
