# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The ranked losses against loops over pixels and patches, and the contracts they must keep."""

import math
import statistics

import pytest
import torch
import torch.nn.functional as F

from scripts.losses import IGNORE_INDEX, boundary_band, inter_patch_loss, intra_patch_loss, ranked_hinge, tile
from scripts.losses.ranked import distances

MARGIN, OUTER, TEMPERATURE = 0.4, 1.2, 10.0


def slow_hinge(positives, negatives):
    """The loss of one anchor, from its distances."""
    far = [d - (OUTER - MARGIN) for d in positives if d > OUTER - MARGIN]
    near = [(math.exp(TEMPERATURE * (OUTER - d)), OUTER - d) for d in negatives if d < OUTER]
    pull = sum(far) / len(far) if far else 0.0
    push = sum(w * v for w, v in near) / sum(w for w, _ in near) if near else 0.0
    return (pull + push) / 2


def slow_distance(a, b):
    return math.dist(a.tolist(), b.tolist())


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=1)


def blobs(batch=2, size=24, classes=2):
    """Labels with a lesion over the borders of the patches."""
    labels = torch.zeros(batch, 1, size, size, dtype=torch.long)
    for k in range(1, classes):
        labels[:, :, 4 * k : 4 * k + 9, 3 + 2 * k : 15] = k
    labels[:, :, :2, :3] = IGNORE_INDEX
    return labels


def test_the_hinge_is_the_loop_over_anchors():
    torch.manual_seed(0)
    distance, kind = 2 * torch.rand(3, 6, 9, dtype=torch.float64), torch.randint(0, 3, (3, 6, 9))
    kind[0, 0], kind[0, 1], kind[0, 2] = 0, 1, 2
    found = ranked_hinge(distance, kind == 1, kind == 2)
    for b in range(3):
        for i in range(6):
            split = [[d for d, t in zip(distance[b, i].tolist(), kind[b, i].tolist()) if t == w] for w in (1, 2)]
            assert found[b, i].item() == pytest.approx(slow_hinge(*split), abs=1e-9)


def test_the_shares_of_near_negatives_have_no_gradient():
    distance, none = torch.tensor([[0.5, 0.9, 1.5]], requires_grad=True), torch.zeros(1, 3, dtype=torch.bool)
    ranked_hinge(distance, none, ~none).sum().backward()
    shares = torch.softmax(TEMPERATURE * (OUTER - distance.detach()[:, :2]), dim=1)
    assert torch.allclose(distance.grad, F.pad(-shares / 2, (0, 1)))  # the third is far enough


def test_distances_are_those_of_unit_vectors_in_full_precision():
    torch.manual_seed(0)
    a, b = unit(4, 8).float(), unit(5, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = distances(a, b)
    assert found.dtype == torch.float32
    expected = torch.tensor([[slow_distance(x, y) for y in b] for x in a])
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_intra_is_the_loop_over_patches_and_their_band(classes):
    torch.manual_seed(classes)
    embeddings, labels = unit(2, 5, 24, 24), blobs(classes=classes)
    value = intra_patch_loss(embeddings, labels, classes, patch=8, band=2, samples=64, least=0.05)
    patches = []
    for pixels, own, near in zip(
        tile(embeddings, 8), tile(labels, 8)[..., 0].tolist(), tile(boundary_band(labels, 2), 8)[..., 0].tolist()
    ):
        kept = [k for k in range(classes) if own.count(k) >= 0.05 * 64]
        used = [i for i in range(64) if near[i] and own[i] in kept]
        if len(kept) < 2 or not used:
            continue
        losses = []
        for i in used:
            rest = [(slow_distance(pixels[i], pixels[j]), own[j] == own[i]) for j in used if j != i]
            losses.append(slow_hinge([d for d, same in rest if same], [d for d, same in rest if not same]))
        patches.append(sum(losses) / len(losses))
    assert len(patches) > 2
    assert value.item() == pytest.approx(sum(patches) / len(patches), abs=1e-3)


def slow_inter(embeddings, labels, images, classes, patch):
    """Descriptors, contrasts, halves and hinge, patch by patch."""
    found = []
    for pixels, own, colours in zip(tile(embeddings, patch), tile(labels, patch)[..., 0], tile(images, patch)):
        kept = [k for k in range(classes) if (own == k).double().mean() >= 0.05]
        for k in kept if len(kept) > 1 else []:
            rest = torch.stack([own == other for other in kept if other != k]).any(0)
            gap = (colours[own == k].mean(0) - colours[rest].mean(0)).norm()
            deviation = math.sqrt(statistics.mean(statistics.pvariance(c.tolist()) for c in colours.T))
            found.append((k, F.normalize(pixels[own == k].mean(0), dim=0), gap.item() / (deviation + 1e-3)))
    lesions = sorted((f for f in found if f[0] > 0), key=lambda f: f[2])
    low, high = lesions[: len(lesions) // 2], lesions[len(lesions) // 2 :]
    losses = [
        slow_hinge(
            [slow_distance(u, v) for other, v, _ in high if other == k],
            [slow_distance(u, v) for other, v, _ in found if other != k],
        )
        for k, u, _ in low
    ]
    return sum(losses) / max(len(losses), 1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_inter_is_the_loop_over_descriptors(classes, channels):
    torch.manual_seed(classes)
    embeddings, labels, images = unit(3, 5, 24, 24), blobs(3, classes=classes), torch.rand(3, channels, 24, 24)
    value = inter_patch_loss(embeddings, labels, images, classes, patch=8)
    expected = slow_inter(embeddings, labels, images.double(), classes, 8)
    assert expected > 0.01 and value.item() == pytest.approx(expected, abs=1e-3)


def test_descriptors_that_exist_are_compared_before_empty_ones():
    """A limit that all of them pass changes nothing, be there ever so many patches of one class."""
    torch.manual_seed(0)
    embeddings, labels, images = unit(3, 5, 24, 24), blobs(3), torch.rand(3, 3, 24, 24)
    whole, alone = (inter_patch_loss(embeddings, labels, images, 2, patch=8, limit=n).item() for n in (54, 1))
    mixed = (tile(labels, 8)[..., 0].eq(1).float().mean(1) >= 0.05) & (
        tile(labels, 8)[..., 0].eq(0).float().mean(1) >= 0.05
    )
    exist = 2 * int(mixed.sum())
    assert 2 < exist < 54 and whole > 0.01
    assert inter_patch_loss(embeddings, labels, images, 2, patch=8, limit=exist).item() == pytest.approx(
        whole, abs=1e-6
    )
    assert alone == 0  # one descriptor has nothing to follow, whichever it is


def losses_of(embeddings, labels, images, classes=2):
    return (
        intra_patch_loss(embeddings, labels, classes, patch=8, band=2, samples=16),
        inter_patch_loss(embeddings, labels, images, classes, patch=8),
    )


@pytest.mark.parametrize("value", [0, 1, IGNORE_INDEX])
def test_one_class_or_none_gives_zero_and_a_finite_gradient(value):
    embeddings = torch.randn(2, 5, 16, 16, requires_grad=True)
    labels = torch.full((2, 1, 16, 16), value)
    for loss in losses_of(F.normalize(embeddings, dim=1), labels, torch.rand(2, 3, 16, 16)):
        (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
        assert loss.item() == 0 and gradient.isfinite().all()


def test_separated_classes_give_exactly_zero():
    labels = blobs()
    embeddings = F.one_hot(labels[:, 0].clamp(max=1), 2).movedim(-1, 1).float()
    for loss in losses_of(embeddings, labels, torch.rand(2, 3, 24, 24)):
        assert loss.item() == 0


def test_equal_embeddings_have_a_finite_gradient():
    embeddings = torch.ones(2, 5, 24, 24, requires_grad=True)
    for loss in losses_of(F.normalize(embeddings, dim=1), blobs(), torch.rand(2, 3, 24, 24)):
        (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
        assert loss.item() > 0 and gradient.isfinite().all()


def test_intra_moves_only_pixels_beside_a_boundary():
    torch.manual_seed(0)
    embeddings, labels = unit(2, 5, 24, 24).requires_grad_(), blobs()
    intra_patch_loss(embeddings, labels, 2, patch=8, band=1, samples=64).backward()
    moved = embeddings.grad.abs().sum(1, keepdim=True) > 0
    assert moved.any() and not (moved & ~boundary_band(labels, 1)).any()


def test_lesions_of_high_contrast_are_the_reference():
    torch.manual_seed(0)
    labels = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    labels[:, :, 2:5, 2:6] = 1
    images = torch.rand(2, 1, 8, 8) * 0.2
    images[1] += (labels[1] == 1) * 0.8  # the second lesion is the clear one
    embeddings = unit(2, 5, 8, 8).requires_grad_()
    inter_patch_loss(embeddings, labels, images, 2, patch=8).backward()
    moved = embeddings.grad.abs().sum(1, keepdim=True)
    assert (moved[0][labels[0] == 1] > 0).all() and (moved[1][labels[1] == 1] == 0).all()
    alike = torch.ones_like(embeddings) / 5**0.5
    both, one = (inter_patch_loss(alike[:n], labels[:n], images[:n], 2, patch=8).item() for n in (2, 1))
    assert both > 0 and one == 0  # a single lesion has nothing to follow


def test_the_losses_part_the_classes():
    torch.manual_seed(0)
    embeddings, labels = torch.randn(2, 5, 24, 24, requires_grad=True), blobs()
    optimizer, seen = torch.optim.Adam([embeddings], 0.05), []
    for _ in range(40):
        loss = sum(losses_of(F.normalize(embeddings, dim=1), labels, torch.rand(2, 3, 24, 24)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.3 * seen[0]


def ranked(embeddings, labels, images):
    """Both losses and the gradient of each, of pixels that are embedded as they are."""
    found = []
    for loss in (
        lambda x: intra_patch_loss(x, labels, 2, patch=8, band=2, samples=64),
        lambda x: inter_patch_loss(x, labels, images, 2, patch=8),
    ):
        leaf = embeddings.clone().requires_grad_()
        value = loss(leaf)
        found.append((value.detach(), *torch.autograd.grad(value, leaf)))
    return found


def half(rank, batch, folder):
    """What one of two processes finds in its half of the batch."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(ranked(*(part.chunk(2)[rank] for part in batch)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_find_what_one_finds_in_the_whole_batch(tmp_path):
    """Also where one of them has no lesion: it must not count as half of the patches."""
    torch.manual_seed(5)
    labels = torch.cat([blobs()[:1], torch.zeros_like(blobs()[:1])])
    batch = (unit(2, 5, 24, 24), labels, torch.rand(2, 3, 24, 24, dtype=torch.float64))
    torch.multiprocessing.spawn(half, (batch, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for (value, gradient), (one, left), (two, right) in zip(ranked(*batch), first, second):
        assert value > 0 and one.item() == two.item() == pytest.approx(value.item(), rel=1e-5)
        # the trainer averages the gradients of the processes
        assert torch.allclose(torch.cat([left, right]) / 2, gradient, atol=1e-6)
