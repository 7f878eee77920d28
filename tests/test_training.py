# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Whole training runs through the bundle's configs: files, determinism, kill and resume, and MONAI's applications."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from scripts.handlers.checkpoint import load_checkpoint
from tests.folders import mask_of
from tests.tiny import ROOT, SMALL_UNET, workflow

FILES = {"latest.pt", "model.pt", "run.json", "history.csv", "curves.png"}
QUICK = {"image_size": 32, "epoch_length": 4, "batch_size": 2, "unlabelled_batch_size": 2, "label_ratio": 4}


def command(*arguments: str, **overrides) -> list[str]:
    """The bundle's command line; ``__`` in a name stands for ``#``."""
    pairs = [str(part) for key, value in overrides.items() for part in (f"--{key.replace('__', '#')}", value)]
    return [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *arguments, *pairs]


def train(folder, data, config="train.json", **overrides):
    """One run in this process; its folder."""
    made = workflow(config, dataset_dir=str(data), output_dir=str(folder), **overrides)
    made.run()
    return folder


def same_run(a, b) -> bool:
    """Whether two runs ended with equal weights, states and rows, times aside."""
    from tests.handlers.test_checkpoint import same

    contents = [load_checkpoint(folder / "latest.pt") for folder in (a, b)]
    for content in contents:
        for row in content["history"]:
            del row["seconds"]
    equal_best = same(*(load_checkpoint(folder / "model.pt") for folder in (a, b)))
    return same(*contents) and equal_best


def test_a_run_leaves_its_files_and_nothing_else(tmp_path, synthetic_set):
    before = sorted(synthetic_set.rglob("*"))
    folder = train(tmp_path / "run", synthetic_set)
    names = {path.name for path in folder.iterdir()}
    assert FILES <= names and all(name in FILES or name.startswith("events.") for name in names)
    assert sorted(synthetic_set.rglob("*")) == before and [path.name for path in tmp_path.iterdir()] == ["run"]
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for column in ("loss/supervised", "loss/consistency", "loss/contrast", "statistic/accepted", "val_mean_dice"):
        assert float(rows[1][column]) >= 0


@pytest.mark.parametrize("config", ["methods/supervised.yaml", "methods/mean_teacher.yaml", "methods/less_net.yaml"])
def test_every_overlay_trains(tmp_path, synthetic_set, config):
    train(tmp_path, synthetic_set, ["train.json", config], max_epochs=1)
    assert (tmp_path / "model.pt").is_file()


def test_the_default_network_trains(tmp_path, synthetic_set):
    config = json.loads((ROOT / "configs" / "train.json").read_text())
    train(tmp_path, synthetic_set, max_epochs=1, epoch_length=1, network_def=config["network_def"])
    assert sum(value.numel() for value in load_checkpoint(tmp_path / "model.pt").values()) > 500_000


def test_two_runs_with_one_seed_are_byte_equal_and_another_seed_differs(tmp_path, synthetic_set):
    weights = [
        (train(tmp_path / str(n), synthetic_set, seed=seed) / "model.pt").read_bytes()
        for n, seed in enumerate((5, 5, 6))
    ]
    assert weights[0] == weights[1] != weights[2]


def test_masks_of_unlabelled_images_are_never_opened(tmp_path, synthetic_set):
    data = shutil.copytree(synthetic_set, tmp_path / "data")
    splits = json.loads((data / "splits.json").read_text())
    whole = train(tmp_path / "whole", data)
    for key in splits["train"][4:]:
        mask_of(data, key).write_bytes(b"no image")
    assert (train(tmp_path / "run", data) / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()


def test_only_unlabelled_images_that_the_method_uses_are_read(tmp_path, synthetic_set):
    made = workflow(dataset_dir=str(synthetic_set), output_dir=str(tmp_path), unlabelled_batch_size=0)
    assert len(made.parser.get_parsed_content("train#unlabelled_dataset")) == 0


def test_a_rectangle_of_grey_images_and_three_classes(tmp_path, synthetic_set):
    data = shutil.copytree(synthetic_set, tmp_path / "data")
    for path in (data / "masks").iterdir():
        mask = Image.open(path).convert("L").point(lambda value: value // 255)
        mask.paste(2, (0, 0, 4, 4))
        mask.save(path)
    train(tmp_path / "run", data, num_classes=3, in_channels=1, image_size=[48, 33], max_epochs=1)
    assert load_checkpoint(tmp_path / "run" / "model.pt")["unet.final_conv.weight"].shape[0] == 3


def kill_during(folder, data, moment: float, **overrides) -> None:
    """Train in another process and kill it ``moment`` seconds after its first checkpoint."""
    overrides |= {"dataset_dir": data, "output_dir": folder, "bundle_root": ROOT, "device": "cpu"}
    arguments = ["training", "--config_file", str(ROOT / "configs" / "train.json")]
    process = subprocess.Popen(
        command(*arguments, **QUICK, network_def=SMALL_UNET, **overrides), stdout=subprocess.PIPE
    )
    while not (folder / "latest.pt").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    "moments", [[0.3]] + [pytest.param([random.random() * 3 for _ in range(6)], marks=pytest.mark.slow)], ids=len
)
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(tmp_path, synthetic_set, moments):
    settings = {**QUICK, "max_epochs": 24}
    whole = train(tmp_path / "whole", synthetic_set, **settings)
    for number, moment in enumerate(moments):
        cut = tmp_path / f"cut {number}"
        kill_during(cut, synthetic_set, moment, max_epochs=24)
        done = load_checkpoint(cut / "latest.pt")["epoch"]
        print(f"killed {moment:.3f} s after the first checkpoint, in epoch {done + 1}")
        train(cut, synthetic_set, resume="true", **settings)
        assert same_run(whole, cut)
        assert len((cut / "history.csv").read_text().splitlines()) == 25
        assert not list(cut.glob("*.tmp"))


def test_training_from_another_folder_with_the_bundle_root_alone(tmp_path, synthetic_set):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    place = tmp_path / "with a space"
    place.mkdir()
    arguments = ["training", "--config_file", str(ROOT / "configs" / "train.json"), "--bundle_root", str(ROOT)]
    quick = {**QUICK, "max_epochs": 1, "network_def": SMALL_UNET, "device": "cpu"}
    full = command(*arguments, **quick, dataset_dir=synthetic_set, output_dir="out")
    done = subprocess.run(full, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (place / "out" / "model.pt").is_file()
    lines = done.stdout.splitlines()
    assert any("4 training" in line for line in lines) and any(" parameters, on cpu" in line for line in lines)
    assert any("epoch 1/1  loss" in line for line in lines) and "model.pt" in lines[-1]
    assert "monai.bundle" not in done.stdout and "Engine run" not in done.stdout


def test_training_from_the_arguments_file_alone(tmp_path, synthetic_set):
    quick = {**QUICK, "max_epochs": 1, "network_def": SMALL_UNET, "device": "cpu"}
    full = command("--args_file", "configs/args.json", **quick, dataset_dir=synthetic_set, output_dir=tmp_path / "out")
    done = subprocess.run(full, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.pt").is_file()


def items_of(data, names) -> list[dict]:
    """Images and masks as MONAI Label hands them over."""
    images = {path.stem: path for path in (data / "images").iterdir()}
    return [{"image": str(images[name]), "label": str(mask_of(data, name))} for name in names]


def test_what_monai_label_overrides_is_accepted_also_for_a_second_training(tmp_path, synthetic_set):
    splits = json.loads((synthetic_set / "splits.json").read_text())
    config = json.loads((ROOT / "configs" / "train.json").read_text())
    weights = tmp_path / "given.pt"
    torch.save(
        train(tmp_path / "first", synthetic_set, max_epochs=1) and load_checkpoint(tmp_path / "first/model.pt"), weights
    )
    loader = {"_target_": "CheckpointLoader", "load_path": str(weights), "load_dict": {"model": "@network"}}
    handlers = [{**loader, "map_location": "cpu", "strict": True}, *config["train"]["handlers"]]
    for epochs in (1, 2):
        train(
            tmp_path / "label",
            "",
            train__trainer__max_epochs=epochs,
            train__dataset__data=items_of(synthetic_set, splits["train"][:4]),
            train__handlers=handlers,
            validate__dataset__data=items_of(synthetic_set, splits["val"]),
            bundle_root=str(tmp_path / "bundle"),  # where the weights are published
        )
        assert load_checkpoint(tmp_path / "label" / "latest.pt")["epoch"] == epochs


def test_a_federated_client_trains_round_after_round(tmp_path, synthetic_set):
    made = workflow(dataset_dir=str(synthetic_set), output_dir=str(tmp_path))
    made.bundle_root, made.max_epochs = str(ROOT), 1
    made.initialize()
    trainer = made.trainer
    for total in (1, 2):
        trainer.state.max_epochs = total
        with torch.no_grad():
            for parameter in trainer.network.parameters():
                parameter.mul_(0.9)
        trainer.run()
        assert trainer.state.epoch == total
    assert isinstance(made, ConfigWorkflow) and len(trainer.history) == 2
