# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Files are replaced whole or not at all, and switches mean what was typed."""

import ast
from pathlib import Path

import pytest
import torch

from bundle.__main__ import main
from scripts.errors import InputError
from scripts.files import atomic_save, atomic_write, check_writable, fitting, load_checkpoint
from scripts.switches import as_bool, as_share

ROOT = Path(__file__).parents[1]


def test_a_file_is_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second"):
        atomic_write(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_killed_write_is_cleaned_up_by_the_next(tmp_path):
    (tmp_path / "file.tmp").write_bytes(b"half")
    atomic_write(tmp_path / "file", b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("letter", ["a", "é", "眼"])
def test_names_as_long_as_the_file_system_takes(tmp_path, letter):
    name = letter * (251 // len(letter.encode())) + ".png"
    atomic_write(tmp_path / name, b"whole")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    cut = fitting(name, room=20)
    assert 232 < len(cut.encode()) <= 235 and name.startswith(cut) and fitting("short.png", 20) == "short.png"


def test_a_folder_is_looked_at_without_being_made(tmp_path):
    check_writable(tmp_path / "a" / "b", "output", make=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="output .*file.* cannot be written .*another --output"):
            check_writable(place, "output", make=False)


@pytest.mark.parametrize("held", [False, True])
def test_what_cannot_be_replaced_ends_in_a_sentence(tmp_path, monkeypatch, held):
    """A folder stands in the way; with ``held`` another program has the file that was begun open, as on Windows."""
    (tmp_path / "file" / "inside").mkdir(parents=True)
    if held:
        monkeypatch.setattr(Path, "unlink", lambda path, **more: (_ for _ in ()).throw(PermissionError(13, "in use")))
    with pytest.raises(InputError, match="cannot write .*file .*what was there before is unharmed"):
        atomic_write(tmp_path / "file", b"whole")
    assert (tmp_path / "file" / "inside").is_dir() and (tmp_path / "file.tmp").is_file() is held


def test_tensors_come_back_and_code_does_not(tmp_path):
    atomic_save(tmp_path / "good.pt", {"a": torch.ones(2), "b": 1.5})
    assert load_checkpoint(tmp_path / "good.pt")["b"] == 1.5
    torch.save({"path": tmp_path}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="bad.pt is not a readable checkpoint"):
        load_checkpoint(tmp_path / "bad.pt")


@pytest.mark.parametrize("word, value", [("true", True), ("True", True), (True, True), (1, True), ("false", False)])
def test_switches_from_the_command_line(word, value):
    assert as_bool(word, "resume") is value


def test_other_words_are_refused_by_name():
    with pytest.raises(InputError, match="resume is 'maybe'"):
        as_bool("maybe", "resume")


@pytest.mark.parametrize("value", [90, -0.1, "0,5", True, None, float("nan")])
def test_a_share_is_a_number_from_0_to_1(value):
    assert as_share(0, "method#cutmix") == 0 and as_share(0.5, "method#cutmix") == 0.5
    with pytest.raises(InputError, match="method#cutmix is .*: give a number from 0 to 1"):
        as_share(value, "method#cutmix")


def test_texts_are_read_and_written_in_utf8_whatever_the_locale():
    """Results hold names in UTF-8; without an encoding Windows, and a C locale, would read them as something else."""
    found = []
    for path in (path for name in ("scripts", "bundle") for path in (ROOT / name).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or any(keyword.arg == "encoding" for keyword in call.keywords):
                continue
            *owner, name = ast.unparse(call.func).split(".")
            binary = any(getattr(argument, "value", None) in ("rb", "wb") for argument in call.args)
            opens = name == "open" and not binary and owner[-1:] not in (["Image"], ["tarfile"], ["av"], ["opener"])
            if opens or owner and name in ("read_text", "write_text"):
                found.append(f"{path.relative_to(ROOT)}:{call.lineno} {ast.unparse(call)}")
    assert not found


@pytest.mark.parametrize(
    "words",
    [
        ["benchmark", "suite.yaml", "--output"],
        ["benchmark", "suite.yaml", "--output", "new", "--publish"],
        ["bench", "--quick", "--output"],
        ["federate", "--sites", "set", "--output"],
    ],
)
def test_a_file_in_place_of_a_folder_is_told_before_hours_of_work(words, suite, tmp_path, monkeypatch, capsys):
    suite()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert main([*words, "notes.txt"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words[-1][2:]} ") and "notes.txt cannot be written" in error
