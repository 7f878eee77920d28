# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The Model Zoo package: the same bytes anywhere, nothing that is not committed, and clear refusals."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from bundle import package
from bundle.__main__ import main
from scripts.errors import InputError
from tests.zoo import NAME, clone_of_the_checkout, git, version


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of this checkout, with its changes committed."""
    return clone_of_the_checkout(tmp_path_factory.mktemp("package") / "clone")


@pytest.fixture
def broken(clone, tmp_path):
    """A clone that a test may spoil, and commit."""
    git(clone, "clone", "-q", str(clone), str(tmp_path / "broken"))
    return tmp_path / "broken"


def commit(folder: Path) -> Path:
    """Everything in the clone, committed."""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "spoiled")
    return folder


def packaged(monkeypatch, folder: Path, output: Path, *options: str) -> int:
    """The exit code of the command, on another checkout than the one that is tested."""
    monkeypatch.setattr(package, "ROOT", folder)
    return main(["package", "--output", str(output), *options])


def refused(monkeypatch, capsys, folder: Path, output: Path, *options: str) -> str:
    """The one sentence of a refusal, after which nothing is there."""
    assert packaged(monkeypatch, folder, output, *options) == 2
    sentence = capsys.readouterr().err.strip()
    assert "\n" not in sentence and not (output / NAME).exists() and not list(output.glob("*.zip"))
    return sentence


def test_two_packages_of_two_clones_are_equal_bit_for_bit(clone, tmp_path):
    other = tmp_path / "another place" / "clone"
    other.parent.mkdir()
    git(clone, "clone", "-q", str(clone), str(other))
    (other / "scripts" / "__pycache__").mkdir()
    (other / "scripts" / "__pycache__" / "export.pyc").write_bytes(b"left over")
    (other / "scripts" / "export.py").chmod(0o700)
    git(other, "config", "core.fileMode", "false")
    sums = []
    for folder, zone in ((clone, "UTC"), (other, "Asia/Tokyo")):
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SOURCE_DATE_EPOCH")}
        command = [sys.executable, "-W", "ignore", "-m", "bundle", "package", "--output", str(tmp_path / zone)]
        done = subprocess.run(command, cwd=folder, env=environment | {"TZ": zone}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        sums.append(hashlib.sha256((tmp_path / zone / f"{NAME}_v{version(clone)}.zip").read_bytes()).hexdigest())
        assert done.stdout.splitlines()[-1] == f"sha256 {sums[-1]}"
    assert sums[0] == sums[1]


def test_the_zip_holds_the_committed_files_in_order_with_fixed_times_and_permissions(clone, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000001")
    assert packaged(monkeypatch, clone, tmp_path) == 0
    tracked = git(clone, "ls-files", *package.PARTS).splitlines()
    with zipfile.ZipFile(tmp_path / f"{NAME}_v{version(clone)}.zip") as archive:
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == sorted(f"{NAME}/{path}" for path in tracked)
        assert {entry.date_time for entry in entries} == {(2023, 11, 14, 22, 13, 20)}  # to two seconds, in UTC
        assert {entry.external_attr >> 16 for entry in entries} == {stat.S_IFREG | 0o644}
        assert archive.testzip() is None
        for entry in entries:
            path = tmp_path / entry.filename
            assert path.read_bytes() == archive.read(entry) == (clone / path.relative_to(tmp_path / NAME)).read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) == 0o644 and path.stat().st_mtime == 1700000001


@pytest.mark.parametrize("text", ["yesterday", "0", "-5", "99999999999"])
def test_a_time_that_no_zip_can_hold_is_refused(text, clone, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert f"SOURCE_DATE_EPOCH is '{text}'" in refused(monkeypatch, capsys, clone, tmp_path / "out")


def add_file(folder):
    (folder / "scripts" / "experiment.py").write_text("")
    return "scripts/experiment.py is not as committed"


def change_file(folder):
    (folder / "docs" / "README.md").write_text("changed")
    return "docs/README.md is not as committed"


def lose_weights(folder):
    (folder / "models" / "model.pt").unlink()
    commit(folder)
    return "models/model.pt is missing, which every Model Zoo bundle has: train them with 'make weights'"


def lose_licence(folder):
    (folder / "LICENSE").unlink()
    commit(folder)
    return "LICENSE is missing"


def damage_weights(folder):
    (folder / "models" / "model.pt").write_bytes(b"no weights")
    commit(folder)
    return "model.pt is not a readable checkpoint"


def metadata(folder, **values):
    path = folder / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    commit(folder)


def forget_the_changelog(folder):
    metadata(folder, version="9.0.0")
    return "changelog says nothing of version 9.0.0"


def loose_version(folder):
    metadata(folder, version="9.0", changelog={"9.0": "all new"})
    return "version is '9.0': give three numbers"


def nameless(folder):
    metadata(folder, name="LESS-Net")
    return "name is 'LESS-Net': give <organ>_<modality>_segmentation"


def other_classes(folder):
    path = folder / "configs" / "inference.json"
    path.write_text(path.read_text().replace('"num_classes": 2', '"num_classes": 3'))
    commit(folder)
    return "num_classes 2"


def broken_json(folder):
    (folder / "configs" / "metadata.json").write_text("{")
    commit(folder)
    return "configs/metadata.json is not valid JSON"


def link(folder):
    (folder / "docs" / "link.md").symlink_to("README.md")
    commit(folder)
    return "docs/link.md is a link"


def no_git(folder):
    shutil.rmtree(folder / ".git")
    return "is no git checkout with a commit"


SPOILERS = [add_file, change_file, lose_weights, lose_licence, damage_weights, forget_the_changelog, loose_version]
SPOILERS += [nameless, other_classes, broken_json, link, no_git]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda function: function.__name__)
def test_what_is_not_fit_is_refused_in_a_sentence(spoil, broken, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert spoil(broken) in refused(monkeypatch, capsys, broken, tmp_path / "out")


def test_an_earlier_package_stays_unless_it_is_to_be_replaced(clone, tmp_path, monkeypatch, capsys):
    assert packaged(monkeypatch, clone, tmp_path) == 0
    (tmp_path / NAME / "docs" / "README.md").write_text("older")
    assert packaged(monkeypatch, clone, tmp_path) == 2
    assert "already exists: pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / NAME / "docs" / "README.md").read_text() == "older"
    assert packaged(monkeypatch, clone, tmp_path, "--overwrite") == 0
    assert (tmp_path / NAME / "docs" / "README.md").read_bytes() == (clone / "docs" / "README.md").read_bytes()


def test_a_folder_that_is_no_package_is_never_removed(clone, tmp_path, monkeypatch, capsys):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "thesis.txt").write_text("years of work")
    assert packaged(monkeypatch, clone, tmp_path, "--overwrite") == 2
    assert "is left alone" in capsys.readouterr().err and (tmp_path / NAME / "thesis.txt").is_file()


def test_a_checkout_that_is_named_as_the_bundle_is_never_removed(clone, tmp_path, monkeypatch, capsys):
    git(clone, "clone", "-q", str(clone), str(tmp_path / NAME))
    (tmp_path / NAME / "output").mkdir()
    assert packaged(monkeypatch, tmp_path / NAME, tmp_path, "--overwrite") == 2
    assert "is no earlier package (it holds ." in capsys.readouterr().err
    assert (tmp_path / NAME / ".git").is_dir() and (tmp_path / NAME / "output").is_dir()


def test_files_above_the_limit_are_listed_with_address_and_checksum(clone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(package, "LIMIT", 1_000_000)
    weights = {f"models/{path.name}": path.read_bytes() for path in sorted((clone / "models").glob("*.pt"))}
    assert "models/model.pt" in weights and all(len(content) > 1_000_000 for content in weights.values())
    assert f"{next(iter(weights))} has" in refused(monkeypatch, capsys, clone, tmp_path / "refused")
    assert packaged(monkeypatch, clone, tmp_path, "--url", "https://example.org/files/") == 0
    listed = yaml.safe_load((tmp_path / NAME / "large_files.yml").read_text())["large_files"]
    address = "https://example.org/files/"
    assert listed == [
        {"path": path, "url": address + path, "hash_val": hashlib.sha256(content).hexdigest(), "hash_type": "sha256"}
        for path, content in weights.items()
    ]
    assert not list((tmp_path / NAME).rglob("*.pt"))
    assert all((tmp_path / "large_files" / path).read_bytes() == content for path, content in weights.items())
    with zipfile.ZipFile(tmp_path / f"{NAME}_v{version(clone)}.zip") as archive:
        assert all(archive.read(f"{NAME}/{path}") == content for path, content in weights.items())
        assert f"{NAME}/large_files.yml" in archive.namelist()
    printed = capsys.readouterr().out
    assert all(address + path in printed for path in weights)


def test_listed_addresses_are_of_the_web():
    with pytest.raises(InputError, match="--url"):
        package.listing({"models/model.pt": b"0" * 2_000_000}, "/srv/files")
