# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""First use: ``info``, help and completion of the command line, as a user meets them."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from monai.bundle import ConfigParser

from bundle import info
from bundle.__main__ import COMMANDS, EXAMPLES, main, make_parser
from tests.tiny import ROOT


@pytest.fixture(scope="module")
def found():
    return info.collect(ROOT)


def by_name(entries) -> dict:
    return {entry["name"]: entry for entry in entries}


def test_info_is_one_json_object(capsys, found):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_the_text_says_what_the_json_says(capsys, found):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for name in [*by_name(found["rules"]), *by_name(found["networks"]), *found["configs"], torch.__version__]:
        assert name.split("+")[0] in text
    assert "less_net *" in text and "{" not in text


def test_versions_devices_and_weights_are_those_of_this_machine(found):
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text())
    assert found["bundle"]["version"] == metadata["version"] and found["bundle"]["name"] == metadata["name"]
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["devices"][0]["device"] == "cpu" and len(found["devices"]) >= 1 + torch.cuda.device_count()
    assert found["threads"] == torch.get_num_threads()
    weights = (ROOT / "models" / "model.pt").read_bytes()
    assert found["weights"]["sha256"] == hashlib.sha256(weights).hexdigest()


def test_optional_packages_are_named_with_what_they_are_for(found, tmp_path):
    named = {entry["package"]: entry["for"] for entry in found["optional"]}
    assert named["mlflow"] == "mlflow" and named["pydicom"] == "dicom" and named["shtab"] == "completion"
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\n[project.optional-dependencies]\nmagic = ["no-such-package[all]>=1"]\n')
    assert info.optional(project) == [{"for": "magic", "package": "no-such-package", "version": "not installed"}]


def test_every_config_is_named(found):
    named = {entry["config"] for part in ("networks", "rules") for entry in found[part]} | set(found["configs"])
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*") if path.suffix != ".conf"}
    assert named == {name for name in there if (ROOT / name).is_file()}


def test_every_network_is_counted(found):
    networks = by_name(found["networks"])
    assert set(networks) == {"default"} | {path.stem for path in (ROOT / "configs" / "networks").glob("*.yaml")}
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / "inference.json"), str(ROOT / "configs" / "networks" / "unet.yaml")])
    real = sum(p.numel() for p in parser.get_parsed_content("network_def").parameters())
    assert networks["unet"]["parameters"] == real and networks["unet"]["class"] == "UNet"
    assert networks["coarse_refined"]["parameters"] > networks["default"]["parameters"] > 1e6


def test_every_rule_is_told_with_what_it_needs(found):
    rules = by_name(found["rules"])
    assert set(rules) == {path.stem for path in (ROOT / "configs" / "methods").glob("*.yaml")}
    kinds = {name: rule["kind"] for name, rule in rules.items()}
    assert kinds["supervised"] == "masks" and kinds["mean_teacher"] == kinds["less_net"] == "semi-supervised"
    assert kinds["partial_ce"] == kinds["ustm"] == kinds["dmpls"] == "scribbles" and kinds["kmeans"] == "clustering"
    assert kinds["cluster_pretraining"] == "pretraining"
    assert [name for name, rule in rules.items() if rule["default"]] == ["less_net"]
    for rule in rules.values():
        assert len(rule["about"]) > 20 and not re.search(r"[`\n]|:\w+:", rule["about"])
        assert (ROOT / rule["config"]).is_file()


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_reads_well(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"] if command else ["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert text.startswith(f"usage: python -m bundle{f' {command}' if command else ''} ")
    assert max(map(len, text.splitlines())) <= 100
    if command:
        described = text.split("\n\n")[1].strip()
        assert described[0].isupper() and re.search(r"[^.]\.$", described) and len(described.split()) > 4
    else:
        assert all(re.search(rf"^ +{name}\s+\S+", text, flags=re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_each_command_is_understood(name):
    words = EXAMPLES[name].split(" > ")[0].split()
    assert make_parser().parse_args(words).command == name == words[0]


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request, tmp_path_factory):
    """A shell, and the file that it reads to complete the bundle's commands."""
    pytest.importorskip("shtab", reason="shtab is optional and not installed")
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    path = tmp_path_factory.mktemp("completion") / request.param
    command = [sys.executable, "-W", "ignore", "-m", "bundle", "completion", request.param]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    return request.param, path


def test_the_shell_reads_the_script(shell):
    name, path = shell
    done = subprocess.run([name, "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


BASH = """
source {path}
COMP_WORDS=({words} "{last}")
COMP_CWORD={place}
_bundle_of_python
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    "typed, last, offered, hidden",
    [
        ("python -m bundle", "", {"prepare", "check", "info", "completion"}, {"--json"}),
        ("python -m bundle", "ex", {"export"}, {"info"}),
        ("python -m bundle info", "--", {"--json", "--help"}, {"--output"}),
        ("python -m bundle package", "--o", {"--output", "--overwrite"}, {"--url"}),
        ("python -m bundle completion", "", {"bash", "zsh"}, {"info"}),
    ],
)
def test_bash_completes_commands_and_options(shell, typed, last, offered, hidden):
    name, path = shell
    if name != "bash":
        pytest.skip("for bash")
    script = BASH.format(path=path, words=typed, last=last, place=len(typed.split()))
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True)
    words = {word.strip() for word in done.stdout.split()}
    assert offered <= words and not hidden & words, done.stderr


def test_bash_completes_other_uses_of_python_as_before(shell):
    name, path = shell
    if name != "bash":
        pytest.skip("for bash")
    script = BASH.format(path=path, words="python", last="scr", place=1)
    assert not subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True).stdout.strip()


def test_without_shtab_a_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == "error: completion: shtab is not installed: run pip install shtab\n"
