# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`make demo` runs the three bundle commands, says where everything is, and stops at the first that fails."""

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
