# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""CRII-Net's rule: who follows whom, and what each switch leaves out."""

import pytest
import torch

from scripts.errors import InputError
from scripts.losses import IGNORE_INDEX
from scripts.methods import CriiNet
from scripts.networks import CoarseRefined, UNet


def wrapped():
    torch.manual_seed(0)
    return CoarseRefined(UNet(3, 2, (4, 4, 8, 8, 8)), 3, 2, width=8)


def batch(value=None):
    label = torch.zeros(2, 1, 32, 32, dtype=torch.long)
    label[..., 6:20, 5:18] = 1
    return {
        "labelled": {"image": torch.rand(2, 3, 32, 32), "label": label if value is None else label * 0 + value},
        "unlabelled": {"image": torch.rand(3, 3, 32, 32)},
    }


def test_the_coarse_head_follows_the_refined_one_and_not_the_reverse():
    torch.manual_seed(0)
    rule = CriiNet(wrapped())
    coarse, refined = (torch.randn(2, 3, 4, 5, requires_grad=True) for _ in range(2))
    loss = rule.disagreement(coarse, refined)
    p, q = coarse.softmax(1), refined.softmax(1)
    expected = sum(
        sum((p[b, k, x, y] - q[b, k, x, y]).item() ** 2 for k in range(3))
        for b in range(2)
        for x in range(4)
        for y in range(5)
    )
    assert loss.item() == pytest.approx(expected / 40, abs=1e-6)
    towards, back = torch.autograd.grad(loss, [coarse, refined], allow_unused=True)
    assert towards.abs().sum() > 0 and back is None


def test_both_heads_follow_the_sure_decisions_of_the_weak_view():
    network = wrapped().train()
    rule, data = CriiNet(network, strong_view=lambda x: 1 - x, threshold=0.6, intra=False, inter=False), batch()
    torch.manual_seed(1)
    with torch.no_grad():  # a pass moves the batch norm's averages alone, which training mode does not use
        p = network(data["unlabelled"]["image"]).softmax(1)
        strong = network(1 - torch.cat([data["labelled"]["image"], data["unlabelled"]["image"]]), return_heads=True)[:2]
    torch.manual_seed(1)
    losses = rule(network, data, 0.5)
    assert 0 < rule.statistics["accepted"].item() < 1
    expected = 0.0
    for head in strong:
        q, entropy, overlap, sizes = head[2:].softmax(1), 0.0, 0.0, 0.0
        for b in range(3):
            for x in range(32):
                for y in range(32):
                    k = int(p[b, 1, x, y] > p[b, 0, x, y])
                    if p[b, k, x, y] >= 0.6:
                        entropy -= q[b, k, x, y].log().item() / (3 * 32 * 32)
                        overlap += k * q[b, 1, x, y].item()
                        sizes += k + q[b, 1, x, y].item()
        expected += (entropy + 1 - (1 + 2 * overlap) / (1 + sizes)) / 2
    assert losses["consistency"].item() == pytest.approx(expected, rel=1e-4)


def test_without_labels_only_the_consistency_is_left():
    network = wrapped()
    losses = CriiNet(network, patch=16, threshold=0.5)(network, batch(IGNORE_INDEX), 0.5)
    assert losses["consistency"].item() > 0
    assert losses["intra"].item() == losses["inter"].item() == 0
    # an all-ignored batch has no cross-entropy; its Dice over nothing is 0 too
    assert losses["supervised"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("off", ["consistency", "intra", "inter"])
def test_every_part_can_be_left_out(off):
    network = wrapped()
    rule = CriiNet(network, patch=16, **{off: "false"})
    assert set(rule(network, batch(), 0.5)) == {"supervised", "consistency", "intra", "inter"} - {off}


def test_without_ranked_losses_there_is_no_embedding_to_train():
    rule = CriiNet(wrapped(), intra=False, inter=False)
    assert rule.embed is None and not [p for p in rule.parameters() if p.requires_grad]


def test_the_student_learns_at_its_boundaries_from_the_ranked_losses():
    network = wrapped()
    rule = CriiNet(network, patch=16)
    losses = rule(network, batch(), 0.5)
    for name in ("intra", "inter"):
        gradients = torch.autograd.grad(losses[name], network.refine.parameters(), retain_graph=True)
        assert losses[name].item() > 0 and all(g.abs().sum() > 0 for g in gradients[:1])


def test_a_plain_network_is_refused_with_the_mend():
    with pytest.raises(InputError, match="CoarseRefined, as configs/methods/crii_net.yaml does"):
        CriiNet(UNet(3, 2, (4, 4, 8, 8, 8)))
