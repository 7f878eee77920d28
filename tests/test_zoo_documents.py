# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the documents tell people to type is understood, and what they say the software says is in the software."""

import ast
import re
import shlex

import pytest
from monai.bundle import ConfigParser

from bundle.__main__ import make_parser
from tests.tiny import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: arguments of MONAI's own command line
OF_MONAI = {"config_file", "bundle_root", "args_file", "meta_file", "logging_file", "tracking", "tracking_uri"}
#: messages that docs/troubleshooting.md quotes, without the values in them
MESSAGES = [
    "holds the value",
    "but the classes are 0 to",
    "correct num_classes, pass --ignore_value if the value marks pixels without a label",
    "is a JPEG, whose compression has blurred the classes: save masks as PNG",
    "pixels, but its",
    "the loss or its gradient became NaN or infinite at iteration",
    "check these images, or lower learning_rate",
    "already holds a run",
    "holds no",
    "did you mean",
    "is not a readable checkpoint",
    "mlflow is not installed: run pip install mlflow",
]


def commands(start: str) -> list[tuple[str, list[str]]]:
    """(document, words after ``start``) of every command of that kind, in blocks and in running text."""
    found = []
    for path in DOCUMENTS:
        text = re.sub(r"\\\n\s*", " ", path.read_text())
        lines = re.findall(rf"(?:^|`| )python -m {re.escape(start)} ([^`\n]*)", text, flags=re.MULTILINE)
        found += [(path.name, words(line)) for line in lines]
    return found


def words(line: str) -> list[str]:
    """The words of a line as the shell sees them; ``<data>`` is one word, comments and dots are none."""
    plain = re.sub(r"<[\w /.-]+>", "x", line.split("  #")[0]).replace("...", "").rstrip(").,;: ")
    return shlex.split(plain)


def test_every_command_of_the_tools_is_understood(capsys):
    found = [(name, line) for name, line in commands("bundle") if len(line) > 1]
    assert len(found) > 10
    for name, line in found:
        try:
            make_parser().parse_args(line)
        except SystemExit as ended:
            if ended.code == 0:  # --help
                continue
            pytest.fail(f"{name}: python -m bundle {' '.join(line)}: {capsys.readouterr().err}")


def test_every_key_that_a_training_or_inference_is_given_exists():
    checked = 0
    for name, line in commands("monai.bundle run"):
        if "--config_file" not in line:
            continue
        given = re.findall(r"configs/[\w/]+\.(?:json|yaml)", line[line.index("--config_file") + 1])
        files = [file for file in given if not file.endswith("/x.yaml")]  # <rule>
        if not files or "$" in " ".join(line):  # variables of the shell
            continue
        parser = ConfigParser()
        parser.read_config([str(ROOT / file) for file in files])
        assert line[0].startswith("--") or line[0] in parser, f"{name}: {line[0]} is in none of {files}"
        for key in (word[2:] for word in line if word.startswith("--")):
            assert key in OF_MONAI or key in parser, f"{name}: --{key} is in none of {files}"
            checked += 1
    assert checked > 30


def strings() -> str:
    """Every text in the code, f-strings without their values."""
    found = []
    for folder in ("bundle", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            found += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(found)


def test_the_messages_that_are_explained_are_those_of_the_software():
    software = strings()
    explained = " ".join((ROOT / "docs" / "troubleshooting.md").read_text().split())
    for message in MESSAGES:
        assert message in software and message in explained, message
