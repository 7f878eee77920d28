# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Which view every rule shows to student and teacher, seen by hooks on the networks."""

import pytest
import torch
from torch import nn

from tests.methods.test_rules import RULES, batch, student, unet


class Brighter(nn.Module):
    """A strong view that can be told from the image, and draws nothing."""

    def forward(self, image):
        return image + 10


#: rules whose student sees the clean unlabelled images too, at the end of the batch
CLEAN = {"unimatch", "multiscale_contrast", "multiscale_contrast_clean", "crii_net_same_view"}


@pytest.mark.parametrize("name", RULES)
def test_who_sees_the_strong_view(name):
    torch.manual_seed(0)
    network = student(name, unet(), 2).train()
    rule, trained, taught = RULES[name](network, 2), [], []
    rule.strong_view = Brighter()
    for one in filter(None, (network, getattr(rule, "peer", None))):
        one.register_forward_pre_hook(lambda _, inputs: trained.append(inputs[0]) if torch.is_grad_enabled() else None)
    rule.teacher.module.register_forward_pre_hook(lambda _, inputs: taught.append(inputs[0]))
    rule(network, batch(), 0.5)
    assert trained
    for images in trained:
        clean = 3 if name in CLEAN else 0
        assert (images[: len(images) - clean] > 9).all() and (images[len(images) - clean :] < 2).all()
    assert all((images > 9).all() == (name == "mean_teacher") for images in taught)


@pytest.mark.parametrize("name, sees", [("bcp", "teacher"), ("fixmatch", "student")])
def test_who_labels_the_unlabelled_images(name, sees):
    torch.manual_seed(0)
    network = student(name, unet(), 2).train()
    rule, asked = RULES[name](network, 2), []
    rule.teacher.module.register_forward_pre_hook(lambda *_: asked.append("teacher"))
    network.register_forward_pre_hook(
        lambda *_: None if torch.is_grad_enabled() and name != "bcp" else asked.append("student")
    )
    data = batch()
    rule(network, data, 0.5)
    assert asked[0] == sees
