# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The rules for scribbles: nothing learned off the stroke, views that invent no label, each formula of their own."""

import math

import pytest
import torch

from scripts.errors import InputError
from scripts.losses import IGNORE_INDEX, class_vectors, cross_entropy, distillation_loss, soft_dice_loss
from scripts.methods import DMPLS, USTM, ClassContrast, EntropyMinimisation, PartialCE, ScribSDPlus
from scripts.methods.scribbles import annotated
from scripts.networks import MultiScale, TwoDecoders, UNet
from scripts.transforms import WeakView
from scripts.transforms.noise import noisy

CLASSES = 4


def unet():
    return UNet(1, CLASSES, (4, 4, 8, 8, 8))


def scribbles(images=2, size=32):
    """Thin strokes of every class, background among them, on nothing."""
    label = torch.full((images, 1, size, size), IGNORE_INDEX)
    for k in range(CLASSES):
        label[:, :, 4 + 6 * k, 3:-3] = k
    return label


def batch(label=None, unlabelled=0):
    label = scribbles() if label is None else label
    found = {"labelled": {"image": torch.rand(len(label), 1, *label.shape[2:]), "label": label}}
    return found | ({"unlabelled": {"image": torch.rand(unlabelled, 1, *label.shape[2:])}} if unlabelled else {})


MAKERS = {
    "partial_ce": lambda: (n := unet(), PartialCE(n)),
    "entropy_minimisation": lambda: (n := unet(), EntropyMinimisation(n)),
    "ustm": lambda: (n := unet(), USTM(n, passes=2)),
    "dmpls": lambda: (n := TwoDecoders(unet(), 1), DMPLS(n)),
    "scribsd_plus": lambda: (
        n := MultiScale(unet(), 1, CLASSES),
        ScribSDPlus(n, contrast=ClassContrast(n.fused_channels, dim=8)),
    ),
}


@pytest.fixture(params=MAKERS)
def made(request):
    torch.manual_seed(0)
    network, rule = MAKERS[request.param]()
    return network.train(), rule.train()


def test_images_without_a_stroke_give_a_supervised_loss_of_zero(made):
    network, rule = made
    losses = rule(network, batch(torch.full((2, 1, 32, 32), IGNORE_INDEX)), 0.5)
    assert losses["supervised"].item() == 0 and all(value.isfinite() for value in losses.values())
    gradients = torch.autograd.grad(losses["supervised"], list(network.parameters()), None, True, allow_unused=True)
    assert all(g is None or (g == 0).all() for g in gradients)
    rule.total(losses, 0.9).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in [*network.parameters(), *rule.parameters()])


def test_unlabelled_images_join_without_a_stroke():
    images, labels = annotated(batch(unlabelled=3))
    assert images.shape[0] == labels.shape[0] == 5 and (labels[2:] == IGNORE_INDEX).all()
    assert labels.dtype == torch.long and torch.equal(labels[:2], scribbles())
    assert len(annotated(batch())[0]) == 2


def test_the_rules_take_an_unlabelled_stream(made):
    network, rule = made
    losses = rule(network, batch(unlabelled=2), 0.5)
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize("size", [(32, 32), (48, 33)], ids=str)
def test_the_weak_view_never_invents_a_label(size):
    """Turned, flipped, scaled and shifted strokes: no class where there was none, background no more than others."""
    torch.manual_seed(0)
    for k in range(CLASSES):
        label = torch.full((8, 1, *size), IGNORE_INDEX)
        label[:, :, size[0] // 2 - 1 : size[0] // 2 + 1, 4:-4] = k
        # the picture is bright on the stroke: what the moved label holds must lie on the moved brightness
        image = (label == k).float()
        for _ in range(4):
            moved, strokes = WeakView(rotate=45, scale=1.5, shift=0.3, probability=1.0)(image, label)
            assert set(strokes.unique().tolist()) <= {k, IGNORE_INDEX}
            assert (moved[strokes == k] >= 0.24).all()  # a nearest neighbour weighs at least a quarter
            assert (strokes == k).sum() <= 2.5 * 1.5**2 * (label == k).sum()


def test_input_noise_is_clipped_and_drawn_apart():
    torch.manual_seed(0)
    images = torch.zeros(2, 1, 64, 64)
    first, second = noisy(images, 0.1), noisy(images, 0.1)
    assert first.abs().max() == pytest.approx(0.2) and first.std() == pytest.approx(0.096, abs=0.005)
    assert not torch.equal(first, second) and noisy(images, 0) is images


def test_the_pseudo_label_is_the_argmax_of_the_convex_mixture():
    torch.manual_seed(0)
    rule = DMPLS(TwoDecoders(unet(), 1))
    answers = [torch.randn(1, CLASSES, 3, 3, requires_grad=True) for _ in range(2)]
    for share in (0.0, 0.3, 1.0):
        found = rule.mixture(answers, share)
        for x in range(3):
            for y in range(3):
                p = [[math.exp(v) for v in a[0, :, x, y].tolist()] for a in answers]
                p = [[v / sum(row) for v in row] for row in p]
                mixed = [share * a + (1 - share) * b for a, b in zip(*p)]
                assert found[0, x, y].item() == mixed.index(max(mixed))


def test_both_decoders_learn_from_scribble_and_mixture():
    torch.manual_seed(0)
    network = TwoDecoders(unet(), 1, dropout=0.0)
    rule, data = DMPLS(network), batch()
    losses = rule(network.train(), data, 0.5)
    for value in losses.values():
        heads = [part.unet.final_conv.weight for part in (network.network, network.second)]
        found = torch.autograd.grad(value, heads, retain_graph=True)
        assert all(g.abs().sum() > 0 for g in found)
    torch.manual_seed(5)
    losses = rule(network, data, 0.5)
    torch.manual_seed(5)
    share = float(torch.rand(()))
    answers = network(data["labelled"]["image"], return_heads=True)[0]
    pseudo = rule.mixture(answers, share)
    expected = sum(soft_dice_loss(a, pseudo).item() for a in answers) / 2
    assert losses["pseudo"].item() == pytest.approx(expected, abs=1e-4)
    expected = sum(cross_entropy(a, data["labelled"]["label"]).item() for a in answers) / 2
    assert losses["supervised"].item() == pytest.approx(expected, abs=1e-4)


def test_the_turned_teacher_is_compared_with_the_students_turned_answer():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, CLASSES, 1)  # blind to the turn: the turned answer is the answer on the turned image
    for seed in range(4):
        torch.manual_seed(seed)
        rule = USTM(network, passes=1, noise=0.0, certain=1.0)
        assert rule(network, batch(), 1.0)["consistency"].item() == pytest.approx(0.0, abs=1e-9)
    rule = USTM(network, passes=1, noise=0.3, certain=1.0)
    assert rule(network, batch(), 1.0)["consistency"].item() > 0


def test_scribsd_distils_as_many_scales_as_asked():
    torch.manual_seed(0)
    network = MultiScale(unet(), 1, CLASSES)
    data = batch()
    network.eval()  # so that student and teacher differ by the weights alone
    with torch.no_grad():
        network.heads[1].weight.add_(1)
        network.network.unet.final_conv.bias[0] += 1
    for scales in (1, 2, 4):
        rule = ScribSDPlus(MultiScale(unet(), 1, CLASSES), scales=scales, noise=0.0)
        found = rule(network, data, 0.5)["distillation"].item()
        answers, targets = (n(data["labelled"]["image"], return_heads=True)[0] for n in (network, rule.teacher.module))
        weights = (0.4, 0.2, 0.2, 0.2)[:scales]
        terms = [w * distillation_loss(s, t, 2.0).item() for w, s, t in zip(weights, answers, targets)]
        assert found == pytest.approx(sum(terms) / sum(weights), abs=1e-5)
    assert set(ScribSDPlus(network, scales=0)(network, data, 0.5)) == {"supervised"}


def test_scribsds_student_sees_a_noisy_strong_view_and_its_teacher_the_image_with_other_noise():
    torch.manual_seed(0)
    network = MultiScale(unet(), 1, CLASSES)
    rule = ScribSDPlus(
        network,
        contrast=ClassContrast(network.fused_channels, dim=8),
        strong_view=torch.nn.Hardtanh(0.4, 0.6),
        noise=0.1,
    )
    data, seen, given = batch(), [], []
    for one in (network, rule.teacher.module):
        one.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        one.register_forward_hook(lambda *call: seen.append(call[-1][1]))
    rule.contrast.register_forward_pre_hook(lambda _, inputs: given.extend(inputs))
    rule(network, data, 0.5)
    student, features, teacher, teacher_features = seen
    image = data["labelled"]["image"]
    noises = [student - rule.strong_view(image), teacher - image]
    for noise in noises:
        assert noise.std() == pytest.approx(0.096, abs=0.01) and noise.abs().max() <= 0.2 + 1e-6
    assert not torch.allclose(*noises, atol=1e-3)
    assert torch.equal(given[0], features) and torch.equal(given[1], teacher_features)
    assert torch.equal(given[2], data["labelled"]["label"])


def test_features_are_averaged_over_squares_and_small_regions_left_out():
    torch.manual_seed(0)
    labels = torch.full((1, 1, 8, 8), IGNORE_INDEX)
    labels[..., :4, :], labels[..., 4:, :4], labels[..., 6:, 6:] = 0, 1, 2  # 32, 16 and 4 pixels
    student, teacher = torch.randn(2, 1, 3, 8, 8)
    nothing_sure = torch.full((1, CLASSES, 8, 8), 1 / CLASSES)
    for least, kept in ((3.0, 3), (10.0, 2)):
        contrast = ClassContrast(3, dim=4, stride=2, least=least).eval()
        contrast.projection = contrast.teacher.module = torch.nn.Identity()
        vectors = []
        for features in (student, teacher):
            blocks = features.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
            blocks = blocks / blocks.norm(dim=1, keepdim=True)
            own = [blocks[0, :, :2].flatten(1), blocks[0, :, 2:, :2].flatten(1), blocks[0, :, 3:, 3:].flatten(1)]
            means = [each.mean(1) for each in own[:kept]]
            vectors.append(torch.stack([mean / mean.norm() for mean in means]))
        scores = vectors[0] @ vectors[1].T / 0.1
        expected = -scores.log_softmax(1).diagonal().mean()
        assert contrast(student, teacher, labels, nothing_sure).item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_coarse_answers_of_scribsd_learn_the_strokes_at_full_size():
    torch.manual_seed(0)
    network, data = MultiScale(unet(), 1, CLASSES), batch()
    answers, _ = network(data["labelled"]["image"], return_heads=True)
    labels = data["labelled"]["label"]
    enlarged = [torch.nn.functional.interpolate(z, (32, 32), mode="bilinear") for z in answers]
    terms = [cross_entropy(z, labels).item() for z in enlarged]
    for scales, deep, shares in (
        (4, True, (0.4, 0.2, 0.2, 0.2)),
        (1, True, (1.0,)),
        (4, False, (1.0,)),
        (0, True, (1.0,)),
    ):
        rule = ScribSDPlus(network, scales=scales, deep=deep, noise=0.0)
        loss = rule(network, data, 0.5)["supervised"]
        assert loss.item() == pytest.approx(sum(w * t for w, t in zip(shares, terms)) / sum(shares), abs=1e-5)
        heads = [head.weight for head in network.heads]
        found = torch.autograd.grad(loss, heads, allow_unused=True)
        assert all((g is not None and g.abs().sum() > 0) == (len(shares) == 4) for g in found)


def test_regions_are_the_stroke_or_what_the_teacher_is_sure_of():
    contrast = ClassContrast(4, threshold=0.8)
    labels = torch.tensor([[2, IGNORE_INDEX, IGNORE_INDEX]]).view(1, 1, 1, 3)
    probabilities = torch.tensor([[0.9, 0.05, 0.05], [0.85, 0.1, 0.05], [0.5, 0.3, 0.2]]).T.view(1, 3, 1, 3)
    regions = contrast.regions(labels, probabilities)[0, :, 0].T
    assert torch.allclose(regions, torch.tensor([[0, 0, 1], [0.85, 0.1, 0.05], [0, 0, 0]]))
    sure = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 2]]]), 3).movedim(-1, 1).float()
    alone = ClassContrast(4, threshold=1.0).regions(labels, sure)[0, :, 0].T
    assert torch.equal(alone, torch.tensor([[0.0, 0, 1], [0, 0, 0], [0, 0, 0]]))


def test_class_contrast_equals_the_plain_python_version():
    torch.manual_seed(0)
    contrast = ClassContrast(3, dim=4, least=1.0).eval()
    labels = torch.randint(0, CLASSES, (2, 1, 6, 6))
    student, teacher = torch.randn(2, 2, 3, 6, 6)
    loss = contrast(student, teacher, labels, torch.full((2, CLASSES, 6, 6), 1 / CLASSES))
    regions = torch.nn.functional.one_hot(labels[:, 0], CLASSES).movedim(-1, 1).float()
    vectors = [
        class_vectors(torch.nn.functional.normalize(contrast.projection(f), dim=1), regions, 1.0)[0]
        for f in (student, teacher)
    ]
    total = 0.0
    for row in range(2 * CLASSES):
        s = [(vectors[0][row] @ key).item() / 0.1 for key in vectors[1]]
        positives = [s[i] for i in range(len(s)) if i % CLASSES == row % CLASSES]
        negatives = sum(math.exp(s[i]) for i in range(len(s)) if i % CLASSES != row % CLASSES)
        total -= sum(math.log(math.exp(p) / (math.exp(p) + negatives)) for p in positives) / len(positives)
    assert loss.item() == pytest.approx(total / (2 * CLASSES), abs=1e-4)


def test_contrast_pulls_to_the_own_class_and_pushes_from_the_others():
    torch.manual_seed(0)
    contrast = ClassContrast(CLASSES, least=1.0)
    contrast.projection = contrast.teacher.module = torch.nn.Identity()
    labels = torch.arange(CLASSES).repeat_interleave(4).view(1, 1, CLASSES, 4)
    teacher = torch.nn.functional.one_hot(labels[:, 0], CLASSES).movedim(-1, 1).float()
    student = torch.full_like(teacher, 0.5, requires_grad=True)
    contrast(student, teacher, labels, torch.zeros(1, CLASSES, CLASSES, 4)).backward()
    own = teacher.bool()
    assert (student.grad[own] < 0).all() and (student.grad[~own] > 0).all()


def test_contrast_of_one_class_or_none_is_finite():
    for value in (0, 3, IGNORE_INDEX):
        contrast = ClassContrast(3, dim=4)
        features = torch.randn(2, 3, 8, 8, requires_grad=True)
        labels = torch.full((2, 1, 8, 8), value)
        loss = contrast(features, torch.randn(2, 3, 8, 8), labels, torch.full((2, CLASSES, 8, 8), 1 / CLASSES))
        loss.backward()
        assert loss.item() == pytest.approx(0.0, abs=1e-6) and features.grad.isfinite().all()


def test_the_teachers_projection_follows_and_is_not_trained():
    torch.manual_seed(0)
    network, rule = MAKERS["scribsd_plus"]()
    with torch.no_grad():
        rule.contrast.projection[0].weight.add_(1)
    before = rule.contrast.teacher.module[0].weight.clone()
    rule.update(network, 2)
    assert torch.allclose(rule.contrast.teacher.module[0].weight, before + 0.5)
    assert not any(p.requires_grad for p in rule.contrast.teacher.parameters())


def test_the_plain_network_is_deployed_and_a_plain_network_is_refused():
    for name in ("dmpls", "scribsd_plus"):
        network, rule = MAKERS[name]()
        assert type(rule.deployed) is UNet and rule.deployed.state_dict().keys() == network.network.state_dict().keys()
    with pytest.raises(InputError, match="method#network: ScribSDPlus needs a network with several heads"):
        ScribSDPlus(unet())
