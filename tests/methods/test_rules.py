# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What every rule owes the loop: finite named losses that reach the parameters, a teacher, a state that saves."""

import inspect

import pytest
import torch

import scripts.methods
from scripts.errors import InputError
from scripts.losses import IGNORE_INDEX, PartialCrossEntropy, SegmentationLoss
from scripts.methods import (
    DMPLS,
    USTM,
    BidirectionalCopyPaste,
    ClassContrast,
    CriiNet,
    CrossPseudoSupervision,
    EntropyMinimisation,
    FixMatch,
    LearningRule,
    LessNet,
    MeanTeacher,
    MultiscaleContrast,
    PartialCE,
    ScribSDPlus,
    SigmoidRamp,
    SimilarityContrast,
    Supervised,
    UncertaintyAwareMeanTeacher,
    UniMatch,
)
from scripts.networks import CoarseRefined, LESSNet, MultiScale, TwoDecoders, UNet
from scripts.overrides import parameters
from scripts.transforms import StrongView


def unet(classes=2):
    return UNet(3, classes, (8, 8, 16, 16, 32))


def less_net(network, classes=2, **arguments):
    contrast = SimilarityContrast(network.feature_channels, classes, samples=16)
    return LessNet(network, num_classes=classes, contrast=contrast, strong_view=StrongView(), **arguments)


def multiscale_contrast(network, classes=2, **arguments):
    own = {"num_classes": classes, "samples": 16, "dim": 8, "memory": 8, "confidence": 0.2, "foreground": 0.1}
    peer = LESSNet(3, classes) if isinstance(network, LESSNet) else unet(classes)
    return MultiscaleContrast(network, peer, strong_view=StrongView(), **own | {"background": 0.5} | arguments)


def scribsd_plus(network, classes=2, **arguments):
    contrast = ClassContrast(network.fused_channels, dim=8, threshold=0.0, stride=2)
    return ScribSDPlus(network, strong_view=StrongView(), **{"contrast": contrast, **arguments})


RULES = {
    "supervised": lambda n, k: Supervised(n, strong_view=StrongView()),
    "mean_teacher": lambda n, k: MeanTeacher(n, strong_view=StrongView()),
    "less_net": less_net,
    "less_net_bare": lambda n, k: LessNet(n, num_classes=k),
    "less_net_soft": lambda n, k: less_net(n, k, soft=True, threshold=0.0),
    "less_net_all": lambda n, k: less_net(
        n, k, align=True, trust=True, adaptive=True, cutmix=0.8, flips=1, feature_perturbation=0.5
    ),
    "ua_mt": lambda n, k: UncertaintyAwareMeanTeacher(n, strong_view=StrongView(), passes=2),
    "cps": lambda n, k: CrossPseudoSupervision(n, unet(k), strong_view=StrongView()),
    "fixmatch": lambda n, k: FixMatch(n, strong_view=StrongView(), threshold=0.2),
    "unimatch": lambda n, k: UniMatch(n, strong_view=StrongView(), threshold=0.2),
    "bcp": lambda n, k: BidirectionalCopyPaste(n, strong_view=StrongView()),
    "crii_net": lambda n, k: CriiNet(n, num_classes=k, strong_view=StrongView(), threshold=0.2, patch=16, dim=8),
    "crii_net_same_view": lambda n, k: CriiNet(n, num_classes=k, perturbed="false", intra=False, inter=False),
    "crii_net_bare": lambda n, k: CriiNet(n, consistency="false", intra="false", inter="false"),
    "multiscale_contrast": multiscale_contrast,
    "multiscale_contrast_clean": lambda n, k: multiscale_contrast(n, k, perturbation="false", patch="false"),
    "partial_ce": lambda n, k: PartialCE(n, strong_view=StrongView()),
    "entropy_minimisation": lambda n, k: EntropyMinimisation(n, strong_view=StrongView()),
    "ustm": lambda n, k: USTM(n, strong_view=StrongView(), passes=2),
    "dmpls": lambda n, k: DMPLS(n, strong_view=StrongView()),
    "scribsd_plus": scribsd_plus,
    "scribsd_plus_one_scale": lambda n, k: scribsd_plus(n, k, scales=1, contrast=None),
    "scribsd_plus_bare": lambda n, k: scribsd_plus(n, k, scales=0, contrast=None),
}


SCRIBBLES = {"partial_ce", "entropy_minimisation", "ustm", "dmpls"} | {n for n in RULES if n.startswith("scribsd")}


def student(name, network, classes):
    """What the rule trains: the network, or a wrapper that gives it several heads."""
    if name.startswith("crii_net"):
        return CoarseRefined(network, 3, classes)
    if name == "dmpls":
        return TwoDecoders(network, 3)
    return MultiScale(network, 3, classes) if name.startswith("scribsd_plus") else network


def batch(classes=2, size=(48, 40), labelled=2, unlabelled=3):
    label = torch.randint(0, classes, (labelled, 1, *size))
    label[..., :4] = IGNORE_INDEX
    return {
        "labelled": {"image": torch.rand(labelled, 3, *size), "label": label},
        "unlabelled": {"image": torch.rand(unlabelled, 3, *size)},
    }


@pytest.mark.parametrize("make_network", [unet, lambda k=2: LESSNet(3, k)], ids=["unet", "lessnet"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("classes", [2, 7])
def test_every_named_loss_is_finite_and_reaches_a_parameter(name, classes, make_network):
    torch.manual_seed(0)
    network = student(name, make_network(classes), classes)
    rule = RULES[name](network, classes)
    network.train()
    for _ in range(2):
        losses = rule(network, batch(classes), 0.5)
    assert set(losses) <= set(rule.losses) and "supervised" in losses
    own = [p for p in rule.parameters() if p.requires_grad]
    for key, value in losses.items():
        assert value.ndim == 0 and value.isfinite(), key
        if value.item() == 0:
            assert key == "consistency"  # nothing accepted yet from an untrained teacher
            continue
        gradients = torch.autograd.grad(value, [*network.parameters(), *own], retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in gradients), key
    assert not any(p.requires_grad for p in rule.teacher.parameters())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", RULES)
def test_losses_are_finite_and_in_full_precision_under_mixed_precision(name, kind):
    """bfloat16 is what a CPU trains in, float16 what a GPU does; both casts can be tried without one."""
    torch.manual_seed(0)
    network = student(name, unet(3), 3).train()
    rule = RULES[name](network, 3)
    with torch.autocast("cpu", kind):
        losses = rule(network, batch(3), 0.5)
    for key, value in (losses | rule.statistics).items():
        assert value.dtype == torch.float32 and value.isfinite(), key
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", RULES)
def test_state_round_trip_and_update(name):
    torch.manual_seed(0)
    network = student(name, unet(), 2)
    rule, other = RULES[name](network, 2), RULES[name](student(name, unet(), 2), 2)
    rule(network, batch(), 0.5)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    rule.update(network, 2)
    assert not torch.equal(next(rule.deployed.parameters()), next(network.parameters()))
    other.load_state_dict(rule.state_dict())
    for key, value in rule.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    rule.sync(network)
    assert torch.equal(next(rule.deployed.parameters()), next(network.parameters()))


@pytest.mark.parametrize("name", sorted(set(RULES) - {"supervised", "crii_net_bare"} - SCRIBBLES))
def test_a_run_without_unlabelled_images_is_refused_with_the_mend(name):
    rule = RULES[name](network := student(name, unet(), 2), 2)
    with pytest.raises(InputError, match="unlabelled_batch_size is 0, but .* give 1 or more"):
        rule(network, {"labelled": batch()["labelled"]}, 0.0)


def test_total_is_the_weighted_sum_and_unknown_weights_are_refused():
    rule = MeanTeacher(unet(), weights={"consistency": SigmoidRamp(3.0, 0.2, 0.4)})
    losses = {"supervised": torch.tensor(2.0), "consistency": torch.tensor(5.0)}
    assert rule.total(losses, 0.1).item() == 2.0 and rule.total(losses, 0.9).item() == 17.0
    with pytest.raises(InputError, match="Supervised has no loss contrast"):
        Supervised(unet(), weights={"contrast": 1.0})


COMMON = {"network", "weights", "loss", "strong_view", "decay"}
CLASSES = [c for c in vars(scripts.methods).values() if inspect.isclass(c) and issubclass(c, LearningRule)]
CLASSES.remove(LearningRule)


def known(rule):
    """What the overrides of the command line may name."""
    return parameters(rule) - {"self"}


@pytest.mark.parametrize("rule", CLASSES, ids=lambda rule: rule.__name__)
def test_a_rule_declares_what_is_its_own_and_takes_what_all_have(rule):
    assert COMMON <= known(rule) and "treshold" not in known(rule)
    if "__init__" in vars(rule):
        declared = set(inspect.signature(rule).parameters) - {"network", "common"}
        assert declared and not declared & COMMON


def test_the_overrides_know_inherited_parameters_and_no_others():
    assert known(Supervised) == known(DMPLS) == COMMON
    assert known(USTM) == known(UncertaintyAwareMeanTeacher) == COMMON | {"passes", "noise", "certain"}
    assert known(UniMatch) == COMMON | {"threshold", "cutmix", "dice"}
    assert known(ScribSDPlus) == COMMON | {"scales", "scale_weights", "deep", "temperature", "noise", "contrast"}


@pytest.mark.parametrize("name", RULES)
def test_the_common_parameters_arrive_and_others_are_refused(name):
    network = student(name, unet(), 2)
    rule = type(RULES[name](network, 2))
    own = {"peer": unet()} if "peer" in known(rule) else {}
    common = {"weights": {"supervised": 2.0}, "loss": torch.nn.L1Loss(), "strong_view": torch.nn.Tanh(), "decay": 0.5}
    made = rule(network, **own, **common)
    assert made.weights == common["weights"] and made.teacher.decay == common["decay"]
    assert made.loss is common["loss"] and made.strong_view is common["strong_view"]
    with pytest.raises(TypeError, match="treshold"):
        rule(network, **own, treshold=0.5)


def test_the_supervised_loss_is_the_partial_one_where_labels_are_scribbles():
    assert isinstance(Supervised(unet()).loss, SegmentationLoss)
    for rule in (PartialCE(unet()), EntropyMinimisation(unet()), USTM(unet()), DMPLS(TwoDecoders(unet()))):
        assert isinstance(rule.loss, PartialCrossEntropy)


def confident_teacher(rule, value):
    """Let the teacher answer with given logits."""
    rule.teacher.module = torch.nn.Module()
    rule.teacher.module.forward = lambda x: value
    return rule


def test_class_wise_acceptance_keeps_a_less_certain_lesion():
    torch.manual_seed(0)
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 0] = 5.0  # background: confidence 0.993
    logits[:, :, 2:4, 2:4] = torch.tensor([0.0, 1.5]).view(1, 2, 1, 1)  # lesion: 0.82
    naive = confident_teacher(LessNet(unet(), adaptive=False, threshold=0.95, align=False, trust=False), logits)
    _, accepted = naive.pseudo_label(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    assert accepted[0, 0, 2:4, 2:4].sum() == 0 and accepted.sum() == 60
    adaptive = confident_teacher(LessNet(unet(), adaptive=True, threshold=0.95, align=False, trust=False), logits)
    for _ in range(500):  # the running confidence of each class settles
        target, accepted = adaptive.pseudo_label(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    assert accepted.sum() == 64 and target[0, 1].sum() == 4
    assert adaptive.statistics["predicted_foreground"].item() == pytest.approx(4 / 64)


def test_mixing_carries_image_target_and_weight_together():
    torch.manual_seed(0)
    rule = LessNet(unet(), cutmix=1.0, mix_labelled=0.5)
    # every image is a constant, its target and weight are functions of that constant
    constants = torch.arange(1, 7).float() / 10
    unlabelled = constants[:4].view(4, 1, 1, 1).expand(4, 3, 16, 16)
    labelled = constants[4:].view(2, 1, 1, 1).expand(2, 3, 16, 16)
    target = torch.cat([1 - unlabelled[:, :1], unlabelled[:, :1]], 1)
    label = torch.stack([torch.zeros(1, 16, 16), torch.full((1, 16, 16), IGNORE_INDEX)]).long()
    mixed, mixed_target, weight = rule.mix(labelled, label, unlabelled, target, torch.full((4, 1, 16, 16), 0.5))
    value = mixed[:, :1]
    own = value < 0.45
    assert torch.allclose(mixed_target[:, 1:][own], value[own]) and (weight[own] == 0.5).all()
    for constant, true_weight in ((0.5, 1.0), (0.6, 0.0)):
        pasted = (value - constant).abs() < 1e-6
        assert pasted.any() and (mixed_target[:, :1][pasted] == 1).all() and (weight[pasted] == true_weight).all()


def test_contrast_rejects_pseudo_labels_that_disagree_with_their_prototype():
    torch.manual_seed(0)
    contrast = SimilarityContrast(4, 2, dim=4, samples=8, hardness=0.0)
    contrast.projection = torch.nn.Identity()
    contrast.prototypes.copy_(torch.eye(4)[:2])
    features = torch.zeros(2, 4, 8, 8)
    features[:, 0] = 1  # all pixels look like class 0
    features.requires_grad_()
    labels = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    labels[1] = 1  # the unlabelled image is called class 1
    contrast(features, labels, 1).backward()
    assert features.grad[1].abs().sum() == 0 and features.grad[0].abs().sum() > 0


def test_contrast_keeps_labelled_pixels_that_disagree_with_their_prototype():
    torch.manual_seed(0)
    contrast = SimilarityContrast(4, 2, dim=4, samples=64, hardness=0.0, momentum=0.0)
    contrast.projection = torch.nn.Identity()
    contrast.prototypes.copy_(torch.eye(4)[:2])
    features = torch.tensor([0.995, 0.1, 0, 0]).view(1, 4, 1, 1).repeat(1, 1, 8, 8).requires_grad_()
    labels = torch.zeros(1, 1, 8, 8, dtype=torch.long)
    labels[..., 4:] = 1  # though they look like class 0
    contrast(features, labels, 1).backward()
    assert features.grad[..., 4:].abs().sum() > 0


def test_contrast_trusts_pseudo_labels_of_a_class_without_prototype():
    """A federated site without masks never has one, and a rare class has none until its first labelled pixel."""
    torch.manual_seed(0)
    contrast = SimilarityContrast(4, 3, dim=4, samples=128, hardness=0.0)
    contrast.projection = torch.nn.Identity()
    features = torch.nn.functional.normalize(torch.rand(2, 4, 8, 8), dim=1).requires_grad_()
    labels = torch.arange(3).repeat_interleave(2)[torch.randint(0, 6, (2, 1, 8, 8))]
    assert contrast(features, labels, 0).item() > 0  # nothing is labelled, so no class has one
    contrast.prototypes.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 0]]))
    [grad] = torch.autograd.grad(contrast(features, labels, 0), features)
    moved = grad.abs().sum(dim=1, keepdim=True) > 0
    nearest = features[:, :2].argmax(dim=1, keepdim=True)
    assert torch.equal(moved, (labels == 2) | (nearest == labels))


def test_contrast_with_one_class_or_nothing_is_finite():
    contrast = SimilarityContrast(4, 2, dim=4, samples=8)
    for value in (0, 1, IGNORE_INDEX):
        features = torch.randn(2, 4, 8, 8, requires_grad=True)
        loss = contrast(features, torch.full((2, 1, 16, 16), value), 1)
        loss.backward()
        assert loss.isfinite() and features.grad.isfinite().all()


def test_the_mirror_ensemble_is_the_mean_of_mirrored_answers():
    torch.manual_seed(0)
    network = unet()
    rule, images = LessNet(network, flips=3), torch.rand(2, 3, 32, 48)
    expected = torch.stack(
        [torch.softmax(rule.teacher(images.flip(a)), dim=1).flip(a) for a in ([], [-1], [-2], [-1, -2])]
    ).mean(0)
    assert torch.allclose(rule.teach(images), expected, atol=1e-5)


def test_a_distrusted_image_gives_the_student_nothing():
    torch.manual_seed(0)
    logits = torch.zeros(2, 2, 8, 8)
    logits[:, 0] = 9.0
    logits[1, 1, :2, :2] = 18.0  # the teacher finds a lesion in the second image only
    rule = confident_teacher(LessNet(unet(), align="false", trust=True), logits)
    labels = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    labels[:, :, 0] = 1  # every labelled image has one
    _, weight = rule.pseudo_label(torch.rand(2, 3, 8, 8), labels)
    assert (weight[0] == 0).all() and (weight[1] == 1).all()


def test_switches_take_the_words_of_the_command_line():
    network = unet()
    rule = LessNet(network, align="false", trust="False", adaptive="true", soft="0")
    assert (rule.align, rule.trust, rule.adaptive, rule.soft) == (False, False, True, False)
    assert not SimilarityContrast(network.feature_channels, reject_noise="false").reject_noise
    assert all(fusion.gate is None for fusion in LESSNet(gated="false").fusions)
    with pytest.raises(InputError, match="method#trust is 'maybe': give true or false"):
        LessNet(network, trust="maybe")
