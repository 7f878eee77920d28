# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The bundle as others get it: a clone of the checkout, and its Model Zoo package unpacked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tiny import ROOT

METADATA = json.loads((ROOT / "configs" / "metadata.json").read_text())
NAME = METADATA["name"]
#: a copy of the schema that the metadata name, where there is one: LESSNET_SCHEMA, or its name in shared/schema beside
#: the repository
SHARED_SCHEMA = ROOT.parent / "shared" / "schema" / METADATA["schema"].rsplit("/", 1)[1]
SCHEMA = Path(os.environ.get("LESSNET_SCHEMA") or SHARED_SCHEMA)
AUTHOR = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    """What a git command in ``folder`` prints."""
    command = ["git", *AUTHOR, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def clone_of_the_checkout(folder: Path) -> Path:
    """A clone in ``folder``, in which what is not committed here is committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("a package is made of a commit, and this is no git checkout")
    git(ROOT, "clone", "-q", str(ROOT), str(folder))
    changed = git(ROOT, "diff", "--name-only", "-z", "HEAD") + git(ROOT, "ls-files", "-oz", "--exclude-standard")
    for name in filter(None, changed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        else:
            (folder / name).unlink()
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "as it is now", "--allow-empty")
    return folder


def version(folder: Path) -> str:
    """Version of the bundle in a folder."""
    return json.loads((folder / "configs" / "metadata.json").read_text())["version"]
