# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what they hold, that they resume exactly, and that a failing disk leaves the previous one."""

import random

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.handlers import LrScheduleHandler, ValidationHandler

from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers import Checkpoints, History, TeacherUpdate
from scripts.handlers.checkpoint import random_state, set_random_state
from scripts.methods import MeanTeacher
from scripts.transforms import WeakView
from tests.tiny import TinyNetwork, full_disk, trainer, validator

CPU = torch.device("cpu")


def same(a, b):
    """Whether two contents of a checkpoint are equal bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


class Killed(Exception):
    """Stands for a kill at this moment."""


def run(folder, resume=False, die_in_epoch=None, max_epochs=5, interval=1, epoch_length=3, **changes):
    """A whole run with teacher, schedule, validation and random views; the loader's epochs have three iterations."""
    torch.manual_seed(3)
    network = changes.pop("network", None) or TinyNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=15)
    rule = MeanTeacher(network)
    judge = validator(rule.deployed)
    handlers = [
        TeacherUpdate(),
        LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
        ValidationHandler(1, judge),
        History(str(folder), judge, plot_every=0),
        Checkpoints(str(folder), interval, judge, schedule, resume),
    ]
    engine = trainer(
        lambda _: rule,
        unlabelled=2,
        max_epochs=max_epochs,
        network=network,
        optimizer=optimizer,
        weak_view=WeakView(),
        train_handlers=handlers,
    )
    engine.state.epoch_length = epoch_length
    torch.manual_seed(4)
    if die_in_epoch is not None:

        def die(e):
            if e.state.epoch == die_in_epoch and e.state.iteration % 3 == 2:
                raise Killed

        engine.add_event_handler(Events.ITERATION_COMPLETED, die)
    engine.run()
    return engine


def test_the_latest_checkpoint_holds_tensors_and_plain_values_only(tmp_path):
    run(tmp_path)
    content = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert {"network", "rule", "optimizer", "scaler", "lr_scheduler", "epoch", "iteration", "random"} <= set(content)
    assert (content["epoch"], content["iteration"], len(content["history"])) == (5, 15, 5)


def test_the_best_weights_are_those_of_the_deployed_network(tmp_path):
    engine = run(tmp_path)
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(best) == set(engine.rule.deployed.state_dict())
    scores = [row["val_mean_dice"] for row in engine.history]
    content = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert content["best_metric"] == max(scores) and content["best_metric_epoch"] == 1 + scores.index(max(scores))


def test_without_validation_the_last_weights_are_kept(tmp_path):
    engine = trainer(train_handlers=[TeacherUpdate(), Checkpoints(str(tmp_path))])
    engine.run()
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    assert torch.equal(best["weight"], engine.rule.deployed.weight)


@pytest.mark.parametrize("epoch, interval", [(2, 1), (4, 1), (5, 2)])
def test_a_resumed_run_ends_exactly_like_the_uninterrupted_one(tmp_path, epoch, interval):
    whole = run(tmp_path / "whole", interval=interval)
    with pytest.raises(Killed):
        run(tmp_path / "cut", die_in_epoch=epoch, interval=interval)
    resumed = run(tmp_path / "cut", resume=True, interval=interval)
    for a, b in ((whole.network, resumed.network), (whole.rule, resumed.rule)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    for name in ("latest.pt", "model.pt"):
        files = [torch.load(tmp_path / kind / name, weights_only=True) for kind in ("whole", "cut")]
        [content.pop("history", None) for content in files]
        assert same(*files)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in e.history] for e in (whole, resumed)]
    assert rows[0] == rows[1]
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4, 5]
    assert len((tmp_path / "cut" / "history.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize("epoch_length, interval", [(3, 1), (3, 2), (2, 2), (4, 3)])
def test_a_finished_run_resumes_to_nothing(tmp_path, epoch_length, interval):
    """Whatever epochs the trainer counts on its loader, and however seldom it saves."""
    settings = {"epoch_length": epoch_length, "interval": interval}
    run(tmp_path, **settings)
    assert torch.load(tmp_path / "latest.pt", weights_only=True)["iteration"] == 5 * epoch_length
    before = (tmp_path / "model.pt").read_bytes()
    assert run(tmp_path, resume=True, **settings).state.iteration == 5 * epoch_length
    assert (tmp_path / "model.pt").read_bytes() == before


def test_a_finished_run_whose_best_weights_are_gone_gets_the_last_ones_and_says_so(tmp_path, caplog):
    run(tmp_path)
    (tmp_path / "model.pt").unlink()
    engine = run(tmp_path, resume=True)
    written = torch.load(tmp_path / "model.pt", weights_only=True)
    assert torch.equal(written["weight"], engine.rule.deployed.weight)
    assert "model.pt, the weights of the best epoch, is gone: it gets those of the last one" in caplog.text


def test_another_network_or_a_damaged_file_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(InputError, match="does not fit this network .*resume with the network"):
        run(tmp_path, resume=True, network=torch.nn.Conv2d(3, 2, 5, padding=2))
    content = (tmp_path / "latest.pt").read_bytes()
    (tmp_path / "latest.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="latest.pt is not a readable checkpoint"):
        run(tmp_path, resume=True)


def test_a_run_whose_checkpoint_is_lost_is_not_begun_anew_over_its_weights(tmp_path):
    """The mend that a damaged checkpoint calls for must not cost the weights."""
    run(tmp_path, max_epochs=2)
    (tmp_path / "latest.pt").unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="2 epochs of a run, but no latest.pt .* --initial_weights .*model.pt"):
        run(tmp_path, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_where_no_checkpoint_was_written_yet_a_resumed_run_starts_from_the_beginning(tmp_path):
    assert run(tmp_path / "elsewhere", resume=True).state.iteration == 15


@pytest.mark.parametrize("interval", [1, 2])
def test_a_run_cut_between_its_history_and_its_first_checkpoint_starts_from_the_beginning(tmp_path, interval):
    whole = run(tmp_path, max_epochs=interval, interval=interval)
    (tmp_path / "latest.pt").unlink()
    resumed = run(tmp_path, resume=True, max_epochs=interval, interval=interval)
    assert torch.equal(resumed.network.weight, whole.network.weight)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + interval


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    run(tmp_path, max_epochs=2)
    before = (tmp_path / "latest.pt").read_bytes()
    with full_disk(), pytest.raises(InputError, match=r"cannot write .*model\.pt \(.*free space.*--resume true"):
        run(tmp_path, resume=True)
    assert (tmp_path / "latest.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write .*file/latest.pt"):
        atomic_write(tmp_path / "file" / "latest.pt", b"content")


def test_the_random_generators_come_back():
    state = random_state(CPU)
    first = random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist()
    set_random_state(state, CPU)
    assert (random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist()) == first


@pytest.fixture
def generators(monkeypatch):
    """CUDA's generators of a machine with three GPUs, and the number of each as its state."""
    kept = {number: torch.tensor([number]) for number in range(3)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: kept[device.index or 0])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: kept.update({device.index or 0: state}))
    return kept


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:2"])
def test_a_run_goes_on_with_its_random_numbers_on_another_gpu(generators, device):
    set_random_state(random_state(torch.device("cuda:1")), torch.device(device))
    assert int(generators.pop(torch.device(device).index or 0)) == 1
    assert all(number == int(state) for number, state in generators.items())


def test_a_run_of_a_gpu_goes_on_without_one(generators):
    state = random_state(torch.device("cuda"))
    generators.clear()
    set_random_state(state, CPU)
    assert not generators and random_state(CPU)["cuda"] == []


@pytest.mark.parametrize("device, taken", [("cuda:0", 7), ("cuda:1", 8), ("cuda:2", 8)])
def test_files_with_the_generators_of_all_gpus_are_read(generators, device, taken):
    """As they were once written: each GPU takes its own; where there are more than there were, that of the last."""
    state = random_state(CPU) | {"cuda": [torch.tensor([7]), torch.tensor([8])]}
    set_random_state(state, torch.device(device))
    assert int(generators[torch.device(device).index]) == taken
