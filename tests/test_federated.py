# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Rounds of sites that train together over MONAI's client, a federation that is cut, and what is compared."""

import csv
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from bundle.__main__ import main
from bundle.demo import bundle as train_command
from bundle.federate import check_plan, parse_settings, rounds
from bundle.federate.comparison import compare, markdown, row
from bundle.federate.flare import federate_in_flare
from bundle.federate.rounds import Plan, average, federate
from bundle.federate.sites import Site, write_sites
from scripts.errors import InputError
from scripts.files import load_checkpoint
from scripts.handlers import RoundCheckpoints
from scripts.handlers.history import rows_to_csv
from scripts.metrics import distance_scores, overlap_scores
from scripts.transforms import WeakView
from tests.handlers.test_checkpoint import same
from tests.tiny import ROOT, SMALL_UNET, trainer

SETTINGS = {"image_size": 32, "epoch_length": 2, "batch_size": 2, "unlabelled_batch_size": 2, "device": "cpu"}
SETTINGS |= {"network_def": SMALL_UNET, "method#threshold": 0.5, "method#trust": False}


@pytest.fixture
def two_sites(tmp_path, synthetic_set):
    """A site with the masks of one of its two patients, and one without any."""
    return write_sites(["7:0.5", "3:0"], str(synthetic_set), tmp_path / "sites", SETTINGS)[0]


def plan(folder, number=3, **changes):
    arguments = {"files": ("configs/train.json",), "settings": SETTINGS, "rounds": number, "local_epochs": 1}
    return Plan(**arguments | {"unlabelled_weight": 0.5, "output": folder} | changes)


def test_flare_is_not_given_a_path_that_it_would_split(tmp_path):
    with pytest.raises(InputError, match="a run has a space in its path"):
        federate_in_flare([], plan(tmp_path / "a run" / "federated"))


def test_the_seed_of_a_federation_may_stand_in_a_config(tmp_path):
    overlay = tmp_path / "seed.yaml"
    overlay.write_text("seed: 5")
    assert plan(tmp_path).seed == 0 and plan(tmp_path, files=("configs/train.json", str(overlay))).seed == 5
    assert plan(tmp_path, files=("configs/train.json", str(overlay)), settings={"seed": 7}).seed == 7


def test_the_average_is_weighted_by_images():
    first = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    second = {"w": torch.tensor([4.0, 6.0]), "n": torch.tensor(9)}
    mean = average([(first, 3.0), (second, 1.0)])
    assert mean["w"].tolist() == [1.0, 3.0] and mean["w"].dtype == torch.float32 and mean["n"].item() == 3


def a_site(validation=0):
    return Site("a", None, {"training": 2, "unlabeled": 0, "validation": validation, "test": 0})


def test_validation_is_weighted_by_images_and_sites_without_any_do_not_count():
    clients = [
        SimpleNamespace(evaluate=lambda _, dice=dice: SimpleNamespace(metrics={"val_mean_dice": dice}))
        for dice in (0.2, 0.6, 0.9)
    ]
    sites = [a_site(3), a_site(1), a_site(0)]
    assert rounds.validate(clients, sites, {}) == pytest.approx((3 * 0.2 + 0.6) / 4)
    assert rounds.validate(clients[2:], sites[2:], {}) is None


def three_rounds(folder):
    """The state after three rounds of one site, whose weights are the number of the round."""
    client = SimpleNamespace(train=lambda _: None, trainer=SimpleNamespace(history=[{"loss": 0.0}]))
    state = {"round": 0, "best": -1.0, "rows": [], "weights": {"w": torch.zeros(1)}}
    for number in (1, 2, 3):
        client.get_weights = lambda number=number: SimpleNamespace(weights={"w": torch.tensor([float(number)])})
        state = rounds.one_round(number, [client], [a_site()], plan(folder), state)
    return state


def test_the_model_is_that_of_the_best_round(tmp_path, monkeypatch):
    scores = iter([0.2, 0.9, 0.4])
    monkeypatch.setattr(rounds, "validate", lambda *_: next(scores))
    state = three_rounds(tmp_path)
    assert load_checkpoint(tmp_path / "model.pt")["w"].item() == 2
    assert state["best"] == 0.9 and state["weights"]["w"].item() == 3


def test_without_a_validation_image_the_model_is_that_of_the_last_round(tmp_path, capsys):
    """As a training keeps its last weights where nothing validates."""
    three_rounds(tmp_path)
    assert load_checkpoint(tmp_path / "model.pt")["w"].item() == 3
    assert "no validation image" in capsys.readouterr().out
    assert "val_mean_dice" not in (tmp_path / "rounds.csv").read_text()


def test_a_site_without_masks_takes_part(tmp_path, two_sites):
    """It changes the weights it was sent, by its unlabelled images alone, and its teacher starts from them."""
    weights = federate(two_sites, plan(tmp_path / "run"))
    state = load_checkpoint(tmp_path / "run" / "global.pt")
    rows = list(csv.DictReader((tmp_path / "run" / "rounds.csv").open()))
    assert [row["round"] for row in rows] == ["1", "2", "3"] and weights.is_file()
    history = list(csv.DictReader((tmp_path / "run" / "site2" / "history.csv").open()))
    assert all(float(row["loss/supervised"]) == 0 for row in history)
    assert float(history[-1]["loss/consistency"]) > 0 and float(history[-1]["weight/consistency"]) > 0
    assert len(list((tmp_path / "run" / "site2").glob("round_*.pt"))) == 2
    local = [load_checkpoint(tmp_path / "run" / site.name / "round_00003.pt")["network"] for site in two_sites]
    shares = [site.weight(0.5) for site in two_sites]
    expected = average(list(zip(local, shares)))
    assert same(state["weights"], expected)
    assert not same(local[0], local[1])


def test_a_site_that_starts_anew_keeps_what_it_has_just_written(tmp_path):
    for epoch in (7, 8):  # left by a longer federation, whose global weights were removed
        (tmp_path / f"round_{epoch:05d}.pt").touch()
    trainer(train_handlers=[RoundCheckpoints(str(tmp_path))], max_epochs=1).run()
    assert load_checkpoint(tmp_path / "round_00001.pt")["epoch"] == 1


@pytest.mark.parametrize("join", [1, 2])
def test_a_federation_that_is_cut_goes_on_to_the_same_weights(tmp_path, two_sites, monkeypatch, join):
    federate(two_sites, plan(tmp_path / "whole", join=join))
    assert (tmp_path / "whole" / "site2" / f"round_{4 - join:05d}.pt").is_file()

    class Cut(Exception):
        pass

    def cut(clients, *arguments):
        if clients[0].trainer.state.epoch == 2:  # both sites have trained the second round, nothing is written
            raise Cut
        return validate(clients, *arguments)

    validate = rounds.validate
    monkeypatch.setattr(rounds, "validate", cut)
    with pytest.raises(Cut):
        federate(two_sites, plan(tmp_path / "cut", join=join))
    assert load_checkpoint(tmp_path / "cut" / "global.pt")["round"] == 1
    monkeypatch.setattr(rounds, "validate", validate)
    federate(two_sites, plan(tmp_path / "cut", join=join))
    whole, resumed = (load_checkpoint(tmp_path / name / "global.pt") for name in ("whole", "cut"))
    assert resumed["round"] == 3 and same(whole["weights"], resumed["weights"])
    scores = [[row["val_mean_dice"] for row in state["rows"]] for state in (whole, resumed)]
    assert scores[0] == scores[1]


def test_views_grow_over_the_whole_federation(tmp_path, two_sites, monkeypatch):
    """At the site without masks too, whose labelled stream is empty."""
    seen, forward = {}, WeakView.forward

    def watched(self, *arguments):
        view = forward(self, *arguments)
        seen.setdefault(id(self), []).append(view[0].shape[-1])
        return view

    monkeypatch.setattr(WeakView, "forward", watched)
    federate(two_sites, plan(tmp_path / "run", settings={**SETTINGS, "image_size": 64, "progressive_size": 0.5}))
    # three rounds of two iterations, two streams
    assert list(seen.values()) == [[32] * 6 + [48] * 4 + [64] * 2] * 2


def test_a_rule_that_needs_masks_says_so(tmp_path, two_sites):
    settings = {key: value for key, value in SETTINGS.items() if not key.startswith("method#")}
    supervised = plan(tmp_path, files=("configs/train.json", "configs/methods/supervised.yaml"), settings=settings)
    with pytest.raises(InputError, match="no image here is labelled, and Supervised learns nothing without"):
        federate(two_sites, supervised)


def test_what_a_site_cannot_do_is_told_before_anything_else_is_trained(tmp_path, two_sites):
    settings = {key: value for key, value in SETTINGS.items() if not key.startswith("method#")}
    files = ("configs/train.json", "configs/methods/supervised.yaml")
    supervised = plan(tmp_path / "run" / "federated", number=1, files=files, settings=settings)
    with pytest.raises(InputError, match="no image here is labelled"):
        compare(two_sites, two_sites[0], supervised, tmp_path / "run", federate)
    assert not (tmp_path / "run" / "alone").exists()


def test_a_part_that_the_settings_switch_off_is_off_in_the_trainings_beside_the_rounds(capfd):
    with pytest.raises(InputError, match="stopped with exit code 1"):  # the number of epochs is what is refused
        train_command("training", ["configs/train.json"], {"method#contrast": None, "max_epochs": 0})
    error = capfd.readouterr().err
    assert "max_epochs is 0: give a whole number of at least 1" in error and "method#contrast" not in error


def test_a_rule_that_wraps_the_network_is_refused(tmp_path, two_sites):
    settings = {key: value for key, value in SETTINGS.items() if not key.startswith("method#")}
    wrapped = plan(tmp_path, files=("configs/train.json", "configs/methods/dmpls.yaml"), settings=settings)
    with pytest.raises(InputError, match="DMPLS trains a network with additional heads around the one"):
        federate(two_sites, wrapped)


def test_settings_and_plan_are_checked(tmp_path):
    assert parse_settings(["image_size=128", "amp=false", "learning_rate=0.001"])["image_size"] == 128
    assert parse_settings(["learning_rate=1e-3", "class_names=[a, 1e3x]"]) == {
        "learning_rate": 0.001,
        "class_names": ["a", "1e3x"],
    }
    with pytest.raises(InputError, match="give KEY=VALUE"):
        parse_settings(["image_size"])
    with pytest.raises(InputError, match="max_epochs is given by --rounds"):
        parse_settings(["max_epochs=3"])
    with pytest.raises(InputError, match="a federation begins with random weights"):
        parse_settings(["initial_weights=model.pt"])
    check_plan(tmp_path / "run", {"rounds": 3})  # a new folder
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "federation.json").write_text('{"rounds": 3}')
    (tmp_path / "run" / "round_00001.pt").touch()
    check_plan(tmp_path / "run", {"rounds": 4})  # a site was refused in the first round, after another's
    (tmp_path / "run" / "global.pt").touch()
    check_plan(tmp_path / "run", {"rounds": 3})
    with pytest.raises(InputError, match="holds a federation with --rounds 3, not 4"):
        check_plan(tmp_path / "run", {"rounds": 4})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(InputError, match="holds other files: give a new folder"):
        check_plan(tmp_path / "other", {"rounds": 3})


def test_a_start_that_was_refused_binds_nobody(tmp_path):
    """A misspelt site, then the right one: the second call is no other federation."""
    arguments = ["federate", "--sites", str(tmp_path / "nowhere"), "--output", str(tmp_path / "run")]
    assert main(arguments) != 0
    assert not (tmp_path / "run").exists()


def test_the_table_has_the_scores_that_an_evaluation_has(two_sites):
    confusion = torch.tensor([[[90, 2], [3, 5]], [[95, 0], [5, 0]]])
    scores = overlap_scores(confusion) | distance_scores(torch.tensor([[4.0], [math.nan]]), torch.ones(2, 1))
    rows = [row(name, two_sites[0], {"scores": scores, "images": 2}) for name in ("site1 alone", "centralised")]
    lines = markdown(rows).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") and "cluster" not in lines[0]
    dice = 100 * (10 / 15 + 0) / 2
    assert lines[3].startswith(f"| centralised | 5 | 2 | {dice:.1f} |") and "| 4.0 |" in lines[3]
    assert rows_to_csv(rows).splitlines()[0].startswith("training,labelled,unlabelled,mean_dice,")
    without = scores | {"hd95": None}  # no image had a distance
    assert "| - |" in markdown([row("centralised", two_sites[0], {"scores": without, "images": 2})])


@pytest.mark.slow
def test_the_command_compares_a_site_alone_the_federation_and_all_in_one(tmp_path, synthetic_set):
    overlay = tmp_path / "unet.yaml"
    overlay.write_text(json.dumps({"network_def": SMALL_UNET}))
    sites = ["--data", str(synthetic_set), "--sites", "7:0.5", "3:0", "--rounds", "2"]
    settings = [f"{key}={value}" for key, value in SETTINGS.items() if isinstance(value, (int, str))]
    command = [sys.executable, "-W", "ignore", "-m", "bundle", "federate", *sites, "--output", str(tmp_path / "run")]
    command += ["--configs", str(overlay), "--settings", *settings]
    for _ in range(2):  # the second time everything is there
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
        assert done.returncode == 0, done.stderr[-3000:]
    rows = list(csv.DictReader((tmp_path / "run" / "table.csv").open()))
    assert [row["training"] for row in rows] == ["site1 alone", "2 sites federated", "centralised"]
    assert [(row["labelled"], row["unlabelled"]) for row in rows] == [("5", "2"), ("5", "5"), ("5", "5")]
    assert len({row["test_images"] for row in rows}) == 1 and "| centralised |" in done.stdout
    assert "round 1/2" not in done.stdout


@pytest.mark.slow
def test_the_rounds_run_in_nvidia_flares_simulator(tmp_path, synthetic_set):
    pytest.importorskip("nvflare", reason="NVIDIA FLARE is not installed: pip install nvflare")
    overlay = tmp_path / "unet.json"
    overlay.write_text(json.dumps({"network_def": SMALL_UNET}))
    settings = [f"{key}={value}" for key, value in SETTINGS.items() if isinstance(value, (int, str))]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "bundle",
        "federate",
        "--flare",
        "--federation-only",
        "--rounds",
        "2",
    ]
    command += ["--data", str(synthetic_set), "--sites", "7:0.5", "3:0", "--output", str(tmp_path / "run")]
    command += ["--configs", str(overlay), "--settings", *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ}, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "run" / "federated"
    start, end = load_checkpoint(folder / "start.pt"), load_checkpoint(folder / "model.pt")
    assert start.keys() == end.keys() and not same(start, end)
    for site in ("site1", "site2"):
        assert len(list(csv.DictReader((folder / site / "history.csv").open()))) == 2
    assert "2 sites federated" in done.stdout
