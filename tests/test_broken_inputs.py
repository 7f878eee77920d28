# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every broken input ends in a clear line that names the file: no traceback, no hang, nothing changed or left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bundle.__main__ import main
from tests.broken import CASES, good_set, image, mask
from tests.tiny import ROOT, error_text, workflow

SECONDS = 60  # far more than any of these takes: what is not over by then hangs


@pytest.fixture(autouse=True)
def no_hang():
    """An alarm that ends what waits for ever, on a pipe for example."""

    def stop(*_):
        raise TimeoutError("hangs")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder with its size and time of change, links not followed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(Path(root) / name)
            found[os.path.relpath(Path(root) / name, folder)] = (status.st_size, status.st_mtime_ns)
    return found


def run(command: str, source: Path, output: Path) -> tuple[int, str]:
    """The exit code of a command on the set, by the functions that the command line calls."""
    if command == "prepare":
        return main(["prepare", str(source), "--output", str(output)]), ""
    if command == "check":
        return main(["check", str(source), "--num-classes", "2", "--in-channels", "3"]), ""
    channels = 1 if any(path.suffix == ".gz" for path in source.glob("images/*")) else 3
    made = workflow(dataset_dir=str(source), output_dir=str(output), in_channels=channels, label_ratio=1.0)
    try:
        made.run()
    except Exception as error:
        return 1, error_text(error)
    return 0, ""


@pytest.mark.parametrize(
    "broken, command",
    [pytest.param(broken, command, id=f"{broken.name}-{command}") for broken in CASES for command in broken.commands],
)
def test_broken_input_ends_in_a_clear_line(tmp_path, capsys, broken, command):
    source, output = tmp_path / "hospital", tmp_path / "output"
    good_set(source)
    named = broken.spoil(source)
    before = tree(tmp_path)
    code, message = run(command, source, output)
    shown = capsys.readouterr()
    text = message + shown.out + shown.err
    assert code in (1, 2)
    assert named in text
    assert "Traceback" not in text
    assert max(map(len, text.splitlines())) < 1200
    assert {name: facts for name, facts in tree(tmp_path).items() if not name.startswith("output")} == before
    assert not output.exists() or command == "train", "a refused folder leaves no output"


def test_the_good_set_is_good(tmp_path, capsys):
    source = good_set(tmp_path / "hospital")
    assert [run(command, source, tmp_path / command)[0] for command in ("check", "prepare", "train")] == [0, 0, 0]


@pytest.mark.parametrize("name", ["Müller Ärztin 鼻血 №3", "a" * 200, "with space.and.dots", "quote'and\"and$and;"])
def test_unusual_names_work(tmp_path, capsys, name):
    source = good_set(tmp_path / "hospital")
    image(source).rename(source / f"images/{name}.png")
    mask(source).rename(source / f"masks/{name}.png")
    assert [run(command, source, tmp_path / command)[0] for command in ("check", "prepare", "train")] == [0, 0, 0]


def test_a_loop_of_folders_ends(tmp_path, capsys):
    source = good_set(tmp_path / "hospital")
    (source / "images" / "loop").symlink_to(source)
    assert [run(command, source, tmp_path / command)[0] for command in ("check", "prepare")] == [0, 0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("command", ["prepare", "check", "train"])
def test_no_permission(tmp_path, capsys, command):
    source = good_set(tmp_path / "hospital")
    image(source).chmod(0)
    code, message = run(command, source, tmp_path / "output")
    shown = capsys.readouterr()
    assert code and image(source).name in message + shown.out + shown.err


@pytest.mark.parametrize("output", ["hospital", "hospital/images", "full", "file"])
def test_prepare_never_writes_where_something_is(tmp_path, capsys, output):
    source = good_set(tmp_path / "hospital")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("the only copy")
    (tmp_path / "file").write_text("a file")
    before = tree(tmp_path)
    assert main(["prepare", str(source), "--output", str(tmp_path / output)]) == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize("run_id, config", [("training", "train.json"), ("inferring", "inference.json")])
def test_the_command_line_ends_in_one_line_and_a_code(tmp_path, run_id, config):
    source = good_set(tmp_path / "hospital")
    image(source).write_bytes(image(source).read_bytes()[:90])
    folder = source if run_id == "training" else source / "images"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "monai.bundle",
        "run",
        run_id,
        "--config_file",
        f"configs/{config}",
    ]
    command += ["--dataset_dir", str(folder), "--output_dir", str(tmp_path / "out"), "--image_size", "32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert image(source).name in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_table_is_long_enough():
    assert len(CASES) >= 40
    assert len({broken.name for broken in CASES}) == len(CASES)


def test_the_bomb_is_one():
    """Otherwise its case would only test a damaged file."""
    assert 30_000 * 30_000 > Image.MAX_IMAGE_PIXELS
