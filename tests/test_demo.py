# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`make demo` runs the three bundle commands, says where everything is, and stops at the first that fails."""

import shutil

import pytest

from bundle import demo
from bundle.__main__ import main

TINY = {"image_size": 32, "max_epochs": 1, "epoch_length": 2, "val_interval": 1}


@pytest.mark.slow
def test_demo_on_a_folder_of_ones_own(tmp_path, synthetic_set, monkeypatch, capsys):
    monkeypatch.setattr(demo, "QUICK", TINY)
    output = tmp_path / "a folder"
    assert main(["demo", "--data", str(synthetic_set), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    for place in ("model.pt", "curves.png", "evaluation/metrics.json", "evaluation/overlays", "evaluation/report.html"):
        assert (output / place).exists() and str(output / place) in printed
    images = sorted(path.stem for path in (synthetic_set / "images").iterdir())
    assert sorted(path.stem for path in (output / "predictions").iterdir() if path.is_file()) == images
    assert printed.count("python -m monai.bundle run") == 3


def test_demo_stops_at_the_first_command_that_fails(tmp_path, capfd):
    assert main(["demo", "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    out, err = capfd.readouterr()
    assert "nowhere" in err and "exit code 1" in err and "Traceback" not in err
    assert out.count("python -m monai.bundle run") == 1


def test_a_folder_of_images_alone_is_predicted_as_it_is(tmp_path, synthetic_set):
    assert demo.image_folder(str(synthetic_set), 2, tmp_path / "links") == synthetic_set / "images"
    assert not (tmp_path / "links").exists()


def test_images_among_masks_or_in_several_folders_are_linked(tmp_path, synthetic_set):
    mixed = tmp_path / "mixed"
    for image in sorted((synthetic_set / "images").iterdir()):
        patient = mixed / "images" / image.stem[-1]
        patient.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, patient / image.name)
        (mixed / "masks" / patient.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(
            synthetic_set / "masks" / f"{image.stem}.png", mixed / "masks" / patient.name / f"{image.stem}.png"
        )
    assert main(["prepare", str(mixed), "--output", str(tmp_path / "made")]) == 0
    folder = demo.image_folder(str(tmp_path / "made"), 2, tmp_path / "links")
    assert folder == tmp_path / "links"
    linked = sorted(path.resolve().read_bytes() for path in folder.iterdir())
    assert linked == sorted(path.read_bytes() for path in (mixed / "images").glob("*/*"))


def test_options_are_spelt_as_the_sentences_of_a_training_name_them(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(demo, "bundle", lambda run_id, config, overrides: calls.append((run_id, overrides)))
    monkeypatch.setattr(demo, "image_folder", lambda *arguments: calls.append(("images", arguments)))
    monkeypatch.setattr(demo, "summarise", lambda *arguments: None)
    words = ["--group_pattern", "^(P)", "--num_classes", "3", "--in_channels", "1", "--label_ratio", "0.5"]
    assert main(["demo", "--data", str(tmp_path), "--output", str(tmp_path / "out"), *words]) == 0
    found = {name: overrides for name, overrides in calls}
    for name in ("training", "evaluating"):  # else the run's split would not be the one that is evaluated
        assert found[name]["group_pattern"] == "^(P)" and found[name]["num_classes"] == 3
    assert found["images"] == (str(tmp_path), 3, tmp_path / "out" / "images", "^(P)")
    assert "group_pattern" not in found["inferring"] and found["inferring"]["in_channels"] == 1
