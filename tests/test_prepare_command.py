# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The command line of `prepare`: what it prints and its exit codes; and a kill in the middle."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
from fire.parser import DefaultParseValue

from bundle.__main__ import COMMANDS, main
from bundle.training_command import names_setting
from scripts.data.prepare import Options, prepare
from scripts.data.prepare.writing import THREADS
from tests.folders import mixed_folder, pairs, save, save_volume, volumes
from tests.tiny import ROOT


def test_the_report_for_people(tmp_path, capsys, caplog):
    source = mixed_folder(tmp_path / "a folder", pairs(10))
    with caplog.at_level("INFO", logger="less_net"):
        assert main(["prepare", str(source), "--output", str(tmp_path / "the set")]) == 0
    assert f"{source} is read as images and masks by their names (10 images, 10 with a mask)." in caplog.text
    printed = capsys.readouterr().out
    assert "7 training, 0 unlabeled, 1 validation, 2 test" in printed
    assert "class 1: in the masks of 7 training, 1 validation, 2 test images" in printed
    words = shlex.split(printed.splitlines()[-1])
    settings = dict(zip(words[5::2], words[6::2]))
    assert words[:5] == ["python", "-m", "monai.bundle", "run", "training"]
    assert settings == {
        "--config_file": "configs/train.json",
        "--dataset_dir": str(tmp_path / "the set"),
        "--num_classes": "2",
        "--in_channels": "3",
        "--output_dir": "output/the set",
    }


def coco_folder(root, names):
    """Ten images, on each a square of every category."""
    content = {"images": [], "annotations": [], "categories": [{"id": k, "name": n} for k, n in enumerate(names, 1)]}
    for number, (image, mask) in enumerate(pairs(10)):
        save(root / f"images/{number}.png", image)
        height, width = mask.shape
        facts = {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        content["images"].append(facts)
        for k in range(len(names)):
            square = [6 * k, 2, 6 * k + 4, 2, 6 * k + 4, 6, 6 * k, 6]
            drawn = {"id": 9 * number + k, "image_id": number, "category_id": k + 1, "segmentation": [square]}
            content["annotations"].append(drawn)
    (root / "annotations.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("names", [["wound", 'it\'s a "scar" / Narbe, älter'], ["wound"]])
def test_the_names_of_the_classes_reach_training(tmp_path, capsys, names):
    source = coco_folder(tmp_path / "src", names)
    assert main(["prepare", str(source), "--output", str(tmp_path / "out")]) == 0
    *_, heading, command = capsys.readouterr().out.splitlines()
    words = shlex.split(command)
    assert heading == "Train with (evaluating and inference take the same --class_names)"
    assert DefaultParseValue(words[words.index("--class_names") + 1]) == ["background", *names]


def test_names_that_are_none_or_that_monai_would_take_for_a_reference_are_left_out():
    assert names_setting({}, 3) == names_setting({0: "background", 1: "lesion"}, 2) == {}
    assert names_setting({1: "vessel", 7: "more"}, 3) == {"class_names": ["background", "vessel", "class 2"]}
    assert all(names_setting({1: name}, 2) == {} for name in ("@disc", "$disc", "%disc", "disc #1"))


def test_the_report_for_machines(tmp_path, capsys):
    source = mixed_folder(tmp_path / "src", pairs(10))
    assert main(["prepare", str(source), "--output", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == {"training": 7, "unlabeled": 0, "validation": 1, "test": 2}
    assert report["num_classes"] == 2 and report["command"].startswith("python -m monai.bundle run training")


def test_broken_files_end_with_exit_code_2(tmp_path, capsys):
    source = mixed_folder(tmp_path / "src", pairs(10))
    (source / "case03.png").write_bytes(b"x")
    assert main(["prepare", str(source), "--output", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert "error: 1 file cannot be used" in printed.err and "case03.png" in printed.err and not printed.out
    assert not (tmp_path / "out").exists()


def test_a_killed_run_leaves_no_half_set_and_the_next_one_is_whole(tmp_path):
    for index, (image, mask) in enumerate(volumes(8, (64, 64, 40))):
        save_volume(tmp_path / f"src/images/v{index}.nii.gz", image)
        save_volume(tmp_path / f"src/masks/v{index}.nii.gz", mask)
    output = tmp_path / "out"
    words = ["prepare", str(tmp_path / "src"), "--output", str(output), "--json"]
    process = subprocess.Popen([sys.executable, "-m", "bundle", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not any((tmp_path / "out.part").glob("images/*")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists() and (tmp_path / "out.part").exists()
    assert main(words) == 0
    assert len(list((output / "images").iterdir())) == 320 and not (tmp_path / "out.part").exists()


def test_the_keyboard_while_a_thread_is_started_leaves_nothing(tmp_path, monkeypatch):
    for index, (image, mask) in enumerate(volumes(8, (32, 32, 12))):
        save_volume(tmp_path / f"src/images/v{index}.nii.gz", image)
        save_volume(tmp_path / f"src/masks/v{index}.nii.gz", mask)
    start, begun = threading.Thread.start, []

    def interrupted(thread):
        start(thread)
        if thread.name.startswith(THREADS):
            begun.append(thread)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "src", tmp_path / "out", Options())
    assert len(begun) == 1 and not begun[0].is_alive()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_the_keyboard_ends_it_without_a_traceback_and_without_leftovers(tmp_path):
    for index, (image, mask) in enumerate(volumes(8, (96, 96, 40))):
        save_volume(tmp_path / f"src/images/v{index}.nii.gz", image)
        save_volume(tmp_path / f"src/masks/v{index}.nii.gz", mask)
    command = [sys.executable, "-m", "bundle", "prepare", str(tmp_path / "src"), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out.part/masks").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped by the keyboard" in printed and "Traceback" not in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


@pytest.mark.parametrize("words, told", [(["prepare", "a", "--output", "b"], ""), (["benchmark", "a.yaml"], "goes on")])
def test_the_keyboard_and_whether_the_same_command_goes_on(monkeypatch, capsys, words, told):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS[words[0]], "run", interrupted)
    words += ["--data", "d", "--output", "o"] if words[0] == "benchmark" else []
    assert main(words) == 130
    assert capsys.readouterr().err == f"error: stopped by the keyboard{told and '; the same command goes on'}\n"
