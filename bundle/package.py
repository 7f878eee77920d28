# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle package --output DIR``: the folder and the zip that the MONAI Model Zoo takes, bit for bit."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from bundle.benchmark.suite import ROOT
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers import StrictCheckpointLoader

HELP = "write the Model Zoo folder and zip of the committed bundle; the same commit gives the same bytes"
PARTS = ("LICENSE", "configs", "docs", "models", "scripts")
METADATA, WEIGHTS, LARGE_FILES = "configs/metadata.json", "models/model.pt", "large_files.yml"
#: what the Zoo's checks, MONAI Label and federated clients look for
NEEDED = ("LICENSE", METADATA, "configs/train.json", "configs/evaluate.json", "configs/inference.json")
NEEDED += ("configs/logging.conf", "docs/README.md", "docs/data_license.txt", "scripts/__init__.py", WEIGHTS)
LIMIT = 25_000_000  # bytes of a file in the Zoo's repository; the larger ones are downloaded from elsewhere
EPOCH = 315_532_800  # 1980-01-01, the earliest time that a zip can hold
LATEST = 4_354_819_198  # 2107-12-31, the latest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--output", required=True, metavar="DIR", help="where the folder and the zip go")
    parser.add_argument(
        "--url", default="", help=f"web folder of the files above {LIMIT // 10**6} MB, if there are any"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier package of the same name")


def run(arguments: argparse.Namespace) -> None:
    """Checks what is committed, then writes the folder, the zip and, apart, the files too large for the folder.

    Raises:
        InputError: no git checkout, something is not committed, missing or does not fit, or the output is taken.
    """
    epoch = source_date()
    files = committed_files(ROOT)
    metadata = check(files)
    check_weights(ROOT)
    large = {path: content for path, content in files.items() if len(content) > LIMIT}
    if large:
        files[LARGE_FILES] = listing(large, arguments.url)
    name, output = metadata["name"], Path(arguments.output)
    archive = output / f"{name}_v{metadata['version']}.zip"
    make_room(output / name, archive, arguments.overwrite)
    write_folder(output / name, {path: content for path, content in files.items() if path not in large}, epoch)
    if large:
        write_folder(output / "large_files", large, epoch)
    content = zipped(name, files, epoch)
    atomic_write(archive, content)
    print(f"{output / name}: the folder of a pull request to the Model Zoo, {len(files) - len(large)} files")
    for path in large:
        print(f"{output / 'large_files' / path}: too large for it, lay it at {arguments.url.rstrip('/')}/{path}")
    print(f"{archive}: the whole bundle, {len(content) / 1e6:.1f} MB\nsha256 {sha256(content).hexdigest()}")


def source_date() -> int:
    """The time that every file gets: SOURCE_DATE_EPOCH, or 1980.

    Raises:
        InputError: not a number of seconds that a zip can hold.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "") or str(EPOCH)
    if not (text.isdigit() and EPOCH <= int(text) <= LATEST):
        raise InputError(f"SOURCE_DATE_EPOCH is {text!r}: give seconds since 1970, of a time between 1980 and 2107")
    return int(text)


def git(root: Path, *arguments: str) -> bytes:
    """What a git command prints.

    Raises:
        InputError: no git, or no checkout.
    """
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise InputError("package takes what is committed, and git is not installed: install it") from None
    except subprocess.CalledProcessError as error:
        raise InputError(
            f"package takes what is committed, and {root} is no git checkout with a commit "
            f"({error.stderr.decode(errors='replace').strip()}): clone the repository"
        ) from None


def committed_files(root: Path) -> dict[str, bytes]:
    """Path and content of every file of the bundle in the last commit, in the order of their paths.

    Raises:
        InputError: a file among them is changed, or not in the commit at all.
    """
    parts = [part for part in PARTS if (root / part).exists()]
    changed = git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--", *PARTS).decode().split("\0")[0]
    if changed:
        raise InputError(f"{changed[3:]} is not as committed: commit it, or undo it, since a package is of a commit")
    # as stored, whatever line ends this machine's checkout has
    options = ("-c", "core.autocrlf=false", "-c", "core.eol=lf")
    listed = {path.split("/")[0] for path in git(root, "ls-tree", "--name-only", "HEAD").decode().splitlines()}
    archive = git(root, *options, "archive", "--format=tar", "HEAD", "--", *(part for part in parts if part in listed))
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        for entry in content:
            if entry.isfile():
                files[entry.name] = content.extractfile(entry).read()  # type: ignore[union-attr]
            elif not entry.isdir():
                raise InputError(f"{entry.name} is a link, which a zip would lose: commit the file itself")
    return dict(sorted(files.items()))


def check(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The metadata of a bundle that is fit to be shared.

    Raises:
        InputError: a file is missing, or name, version or changelog are not as the Zoo wants them.
    """
    missing = [path for path in NEEDED if path not in files]
    if missing:
        mend = "train them with 'make weights' and commit them" if missing[0] == WEIGHTS else "add and commit it"
        raise InputError(f"{missing[0]} is missing, which every Model Zoo bundle has: {mend}")
    try:
        metadata = json.loads(files[METADATA])
    except ValueError as error:
        raise InputError(f"{METADATA} is not valid JSON ({error}): correct it") from None
    name, version = str(metadata.get("name", "")), str(metadata.get("version", ""))
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*_segmentation", name):
        raise InputError(f"{METADATA}: name is '{name}': give <organ>_<modality>_segmentation, in lower case")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise InputError(f"{METADATA}: version is '{version}': give three numbers, such as 1.0.0")
    if version not in metadata.get("changelog", {}):
        raise InputError(f"{METADATA}: changelog says nothing of version {version}: add what changed in it")
    return metadata


def check_weights(root: Path) -> None:
    """Refuses weights that the inference config cannot load.

    Raises:
        InputError: they are damaged or of another network.
    """
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    expected = {key: parser.get_parsed_content(key) for key in ("image_size", "in_channels", "num_classes")}
    StrictCheckpointLoader(str(root / WEIGHTS), parser.get_parsed_content("network_def"), expected)()


def listing(large: Mapping[str, bytes], url: str) -> bytes:
    """The Zoo's list of files to be downloaded, with checksums.

    Raises:
        InputError: nobody said from where.
    """
    if not re.match(r"https?://", url):
        path, content = next(iter(large.items()))
        raise InputError(
            f"{path} has {len(content) / 1e6:.1f} MB, the Model Zoo takes {LIMIT // 10**6}: pass --url with the "
            "http address of the web folder from which such files will be downloaded"
        )
    entries = [
        {
            "path": path,
            "url": f"{url.rstrip('/')}/{path}",
            "hash_val": sha256(content).hexdigest(),
            "hash_type": "sha256",
        }
        for path, content in large.items()
    ]
    return yaml.safe_dump({"large_files": entries}, sort_keys=False).encode()


def make_room(folder: Path, archive: Path, overwrite: bool) -> None:
    """Removes an earlier package, and nothing else.

    Raises:
        InputError: something is in the way.
    """
    held = [path for path in (folder, archive) if path.exists()]
    if held and not overwrite:
        raise InputError(f"{held[0]} already exists: pass --overwrite or another --output")
    if folder.exists():
        # a checkout that is named as the bundle has the metadata too, and history, data and runs beside them
        extra = {path.name for path in folder.iterdir()} - {*PARTS, LARGE_FILES}
        if extra or not (folder / METADATA).is_file():
            what = f" (it holds {min(extra)})" if extra else ""
            raise InputError(f"{folder} is no earlier package{what} and is left alone: give another --output")
        shutil.rmtree(folder)


def write_folder(folder: Path, files: Mapping[str, bytes], epoch: int) -> None:
    """Writes the files with fixed permissions and times."""
    for path, content in files.items():
        atomic_write(folder / path, content)
        (folder / path).chmod(0o644)
        os.utime(folder / path, (epoch, epoch))


def zipped(name: str, files: Mapping[str, bytes], epoch: int) -> bytes:
    """The zip: sorted, every time and permission fixed, stored and not deflated.

    Weights hardly shrink, and the two zlib that Python comes with deflate to different bytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(f"{name}/{path}", time.gmtime(epoch)[:6])
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix, a file, rw-r--r--
            archive.writestr(entry, files[path])
    return buffer.getvalue()
