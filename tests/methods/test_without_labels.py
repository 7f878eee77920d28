# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A batch in which no image is labelled, as a federated site without masks has it: learn from the rest, or say no."""

import pytest
import torch

from scripts.errors import InputError
from scripts.transforms import StrongView, WeakView
from tests.methods.test_rules import RULES, batch, student, unet

REFUSE = {"supervised", "partial_ce", "cps", "bcp", "multiscale_contrast", "multiscale_contrast_clean"}
UNGATED = {
    "mean_teacher",
    "crii_net_same_view",
    "entropy_minimisation",
    "dmpls",
    "scribsd_plus",
}  # no pixel has to be sure first
BARE = {"crii_net_bare", "scribsd_plus_bare"}  # every part that needs no label is switched off


def nothing_labelled():
    made = batch()
    made["labelled"] = {key: value[:0] for key, value in made["labelled"].items()}
    return made


@pytest.mark.parametrize("name", sorted(set(RULES) - REFUSE - BARE))
def test_the_unlabelled_images_teach_alone(name):
    torch.manual_seed(0)
    network = student(name, unet(), 2).train()
    rule = RULES[name](network, 2)
    for _ in range(2):
        losses = rule(network, nothing_labelled(), 0.5)
    assert losses["supervised"].item() == 0
    rule.total(losses, 0.9).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    assert all(value.isfinite().all() for value in rule.state_dict().values())
    taught = sum(value for key, value in losses.items() if key != "supervised")
    assert taught.requires_grad and (taught.item() > 0 or name not in UNGATED)


@pytest.mark.parametrize("name", sorted(REFUSE))
def test_a_rule_that_learns_nothing_so_is_refused(name):
    network = student(name, unet(), 2)
    with pytest.raises(InputError, match="no image here is labelled, and .* learns nothing without"):
        RULES[name](network, 2)(network, nothing_labelled(), 0.5)


@pytest.mark.parametrize("resolution", [1.0, 0.5])
def test_views_of_an_empty_batch_are_as_large_as_those_of_the_others(resolution):
    view, some = WeakView(), torch.rand(2, 3, 96, 72)
    view.resolution = resolution
    empty, label = view(some[:0], torch.zeros(0, 1, 96, 72, dtype=torch.long))
    size = view(some)[0].shape[2:]
    assert empty.shape == (0, 3, *size) and label.shape == (0, 1, *size) and label.dtype == torch.long
    assert view(some[:0])[1] is None
    assert StrongView()(empty).shape == empty.shape
