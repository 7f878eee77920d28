# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer: what it hands to the rule, how it steps, and what it puts out."""

import pytest
import torch
from ignite.engine import Events
from torch._dynamo.backends.registry import lookup_backend

from scripts.data.streams import TwoStreamLoader
from scripts.engines import SemiSupervisedTrainer
from scripts.engines.precision import LossScaler
from scripts.engines.trainer import enough_to_average
from scripts.errors import InputError
from scripts.methods import MeanTeacher, SigmoidRamp, Supervised
from scripts.networks import LESSNet
from scripts.transforms import WeakView
from tests.tiny import TinyNetwork, items, trainer


def test_the_loss_falls():
    engine, losses = trainer(max_epochs=20), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    engine.run()
    assert len(losses) == 60 and losses[-1] < 0.7 * losses[0]


def test_the_output_names_losses_statistics_and_files():
    engine = trainer(MeanTeacher, unlabelled=3)
    engine.run()
    output = engine.state.output
    assert set(output["losses"]) == {"supervised", "consistency"}
    assert not any(value.requires_grad for value in (output["loss"], *output["losses"].values()))
    assert len(output["keys"]) == 5 and "predicted_foreground" in output["statistics"]


def test_the_rule_gets_the_weak_view_of_both_streams_and_the_progress():
    seen = []

    class Spy(Supervised):
        def forward(self, network, batch, progress):
            seen.append((progress, batch))
            return super().forward(network, batch, progress)

    def view(image, label):
        return image + 1, None if label is None else torch.full_like(label, 255).index_fill_(0, torch.tensor([0]), 1)

    trainer(Spy, unlabelled=3, weak_view=view).run()
    assert [round(progress * 6) for progress, _ in seen] == list(range(6))
    assert all(batch["labelled"]["image"].min() >= 1 and batch["unlabelled"]["image"].min() >= 1 for _, batch in seen)
    assert all(batch["labelled"]["label"].dtype == torch.long for _, batch in seen)
    assert all("label" not in batch["unlabelled"] for _, batch in seen)


def test_a_part_of_a_training_counts_its_progress_over_all_planned_epochs():
    seen = []
    engine = trainer(planned_epochs=10)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(e.progress))
    engine.run()
    assert seen == pytest.approx([n / 30 for n in range(6)])


def test_every_iteration_puts_the_network_into_training_mode():
    """A validation leaves the network in evaluation mode."""
    engine, modes = trainer(), []
    engine.network.register_forward_pre_hook(lambda network, _: modes.append(network.training))
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: e.network.eval())
    engine.run()
    assert modes == [True] * 6


def test_one_image_too_small_to_be_averaged_is_told_with_the_mend():
    network = LESSNet()
    network.train()
    with pytest.raises(InputError, match="pass --batch_size 2"), enough_to_average():
        network(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="another"), enough_to_average():
        raise ValueError("another")


@pytest.mark.parametrize("amp", [False, "auto"])
def test_a_training_with_one_small_image_tells_the_mend(amp):
    class Averaging(TinyNetwork):
        def forward(self, image):
            return super().forward(torch.nn.BatchNorm2d(3)(image[:1, :, :1, :1]))

    with pytest.raises(InputError, match="pass --batch_size 2"):
        trainer(network=Averaging(), amp=amp).run()


def test_the_gradient_is_clipped():
    def step_length(max_norm, scaled=False):
        engine = trainer(max_norm=max_norm, max_epochs=1, epoch_length=1)
        engine.scaler = LossScaler("cpu", enabled=scaled)
        before = [p.detach().clone() for p in engine.network.parameters()]
        engine.run()
        return (
            torch.stack([(a - b).square().sum() for a, b in zip(before, engine.network.parameters())])
            .sum()
            .sqrt()
            .item()
        )

    for scaled in (False, True):  # the limit is for the gradient itself, not for that of the scaled loss
        assert step_length(1e-3, scaled) == pytest.approx(1e-4, rel=1e-3)
    assert step_length(None) > 1e-3


def test_mixed_precision_on_the_cpu_is_bfloat16():
    kinds = []

    class Spy(Supervised):
        def forward(self, network, batch, progress):
            kinds.append(network(batch["labelled"]["image"]).dtype)
            return super().forward(network, batch, progress)

    trainer(Spy, amp="true").run()
    trainer(Spy, amp="false").run()
    assert kinds == [torch.bfloat16] * 6 + [torch.float32] * 6


def test_a_pass_without_gradient_leaves_no_weights_without_one_in_mixed_precision():
    """Some releases of torch kept the casts of such a pass, which know no gradient, for the one that learns."""
    seen = []

    class LabelsItself(Supervised):
        def forward(self, network, batch, progress):
            seen.append(torch.is_autocast_cache_enabled())
            with torch.no_grad():
                network(batch["labelled"]["image"])
            return super().forward(network, batch, progress)

    engine = trainer(LabelsItself, amp=True)
    engine.run()
    assert engine.network.weight.grad.abs().sum() > 0 and seen == [False] * 6


def test_a_second_run_keeps_the_scale_of_the_losses():
    engine = trainer(amp=True, max_epochs=1)
    engine.run()
    first, engine.state.max_epochs = engine.scaler, 2
    engine.run()
    assert engine.scaler is first


def test_channels_last_trains_the_same_network():
    engines = [trainer(channels_last=flag) for flag in (False, True)]
    for engine in engines:
        engine.run()
    for a, b in zip(*(engine.network.parameters() for engine in engines)):
        assert torch.allclose(a, b, atol=1e-6)


def test_one_seed_gives_equal_weights():
    def weights():
        engine = trainer(MeanTeacher, unlabelled=3, weak_view=WeakView())
        torch.manual_seed(7)
        engine.run()
        return torch.cat([value.flatten() for value in engine.rule.state_dict().values()])

    assert torch.equal(weights(), weights())


class Outer(torch.nn.Module):
    """A network around a layer: torch 2.8 does not compile one of its own layers alone."""

    def __init__(self):
        super().__init__()
        self.layer = TinyNetwork()

    def forward(self, image):
        return self.layer(image)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_network_trains_and_keeps_its_names(backend):
    graphs, losses = [], []

    def compiled(graph, inputs):
        graphs.append(graph)
        return lookup_backend(backend)(graph, inputs)

    for flag in (False, "true"):
        torch.manual_seed(0)
        settings = {"network": Outer(), "compile": flag, "compile_kwargs": {"backend": compiled}}
        engine = trainer(MeanTeacher, unlabelled=2, **settings)
        engine.run()
        losses.append(float(engine.state.output["loss"]))
        assert engine.student is engine.network and set(engine.network.state_dict()) == {"layer.weight", "layer.bias"}
        assert bool(graphs) == (flag == "true")
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())
def test_mixed_precision_with_clipping_trains(device):
    network = TinyNetwork().to(device)
    engine = SemiSupervisedTrainer(
        device=device,
        max_epochs=3,
        train_data_loader=TwoStreamLoader(items(4), items(5), 2, 2, 5),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=MeanTeacher(network),
        weak_view=WeakView(),
        max_norm=1.0,
        amp=True,
    )
    engine.run()
    assert engine.scaler.is_enabled() == (device == "cuda")
    assert torch.isfinite(engine.state.output["loss"])


@pytest.mark.parametrize("flag, kept", [("true", True), (False, False)])
def test_images_and_weights_are_channels_last_where_it_is_asked(flag, kept):
    seen = []

    class Spy(Supervised):
        def forward(self, network, batch, progress):
            seen.append(batch["labelled"]["image"])
            return super().forward(network, batch, progress)

    engine = trainer(Spy, channels_last=flag, max_epochs=1)
    engine.run()
    for tensor in (*seen, engine.network.weight, engine.rule.deployed.weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == kept


def test_the_total_weighs_every_loss_by_the_progress():
    engine = trainer(lambda n: MeanTeacher(n, weights={"consistency": SigmoidRamp(2.0, end=1.0)}), unlabelled=3)
    seen = []

    @engine.on(Events.ITERATION_COMPLETED)
    def check(e):
        weights = e.rule.weights_at(e.progress)
        seen.append(weights["consistency"])
        expected = sum(weights[name] * float(loss) for name, loss in e.state.output["losses"].items())
        assert float(e.state.output["loss"]) == pytest.approx(expected)

    engine.run()
    assert seen == sorted(seen) and len(set(seen)) == 6


def test_the_labels_follow_the_weak_view():
    seen = []

    class Spy(Supervised):
        def forward(self, network, batch, progress):
            seen.append(batch["labelled"]["label"])
            return super().forward(network, batch, progress)

    trainer(Spy, weak_view=lambda image, label: (image + 1, 1 - label)).run()
    before, seen[:] = list(seen), []
    trainer(Spy).run()
    assert len(before) == len(seen) == 6 and all(torch.equal(a, 1 - b) for a, b in zip(before, seen))
