# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The rules of the MONAI Model Zoo, held against the unpacked package; and it works alone, in an empty folder."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from itertools import product
from pathlib import Path

import jsonschema
import pytest
import yaml
from monai.bundle import ConfigParser, verify_net_in_out

from bundle import package
from bundle.__main__ import main
from tests.tiny import ROOT
from tests.zoo import NAME, SCHEMA, clone_of_the_checkout, version

#: what is imported under another name than it is installed under
DISTRIBUTIONS = {"PIL": "pillow", "ignite": "pytorch-ignite", "yaml": "pyyaml"}
#: versions with keys of their own in the metadata
OWN_KEYS = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
#: files of the bundle that only a run leaves there
LEFT = {"models/previous.pt"}
QUICK = {"image_size": 32, "max_epochs": 1, "epoch_length": 2, "batch_size": 2, "unlabelled_batch_size": 2}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The package, unpacked where nothing else is."""
    place = tmp_path_factory.mktemp("zoo")
    clone = clone_of_the_checkout(place / "clone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "ROOT", clone)
        assert main(["package", "--output", str(place / "dist")]) == 0
    with zipfile.ZipFile(place / "dist" / f"{NAME}_v{version(clone)}.zip") as archive:
        archive.extractall(place / "alone")
    shutil.rmtree(clone)
    return place / "alone" / NAME


@pytest.fixture(scope="module")
def metadata(bundle):
    return json.loads((bundle / "configs" / "metadata.json").read_text())


def texts(folder: Path):
    """(file, its text) of everything that people read or Python runs."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".md", ".json", ".yaml", ".yml", ".txt", ".conf") or path.name == "LICENSE":
            yield path, path.read_text(encoding="utf-8")


def test_the_folder_holds_what_the_zoo_asks_for_and_nothing_else(bundle):
    for name in package.NEEDED:
        assert (bundle / name).stat().st_size or name.endswith("__init__.py"), name
    assert {path.name for path in bundle.iterdir()} <= {*package.PARTS, package.LARGE_FILES}
    strange = [p for p in bundle.rglob("*") if p.name.startswith(".") or "__pycache__" in p.parts or p.is_symlink()]
    assert not strange and "Apache License" in (bundle / "LICENSE").read_text()
    assert all(path.stat().st_size <= package.LIMIT for path in bundle.rglob("*"))


def test_the_metadata_is_valid_against_the_schema(metadata):
    if not SCHEMA.is_file():
        pytest.skip(f"{SCHEMA} is no file: let LESSNET_SCHEMA name a copy of {metadata['schema']}")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(metadata, schema)
    assert SCHEMA.name == metadata["schema"].rsplit("/", 1)[1]
    assert "version" in schema["required"]  # it is a schema that asks for something
    for key in ("version", "network_data_format"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in metadata.items() if k != key}, schema)


def test_the_configs_have_the_keys_that_the_zoo_checks(bundle):
    train, infer = (json.loads((bundle / "configs" / f"{name}.json").read_text()) for name in ("train", "inference"))
    assert {"bundle_root", "device", "dataset_dir", "output_dir", "network_def", "val_interval"} <= set(train)
    assert {"trainer", "dataset", "handlers", "preprocessing", "inferer"} <= set(train["train"])
    assert {"evaluator", "handlers", "dataset", "preprocessing", "inferer", "key_metric"} <= set(train["validate"])
    assert "max_epochs" in train["train"]["trainer"] and "data" in train["train"]["dataset"]
    assert "data" in train["validate"]["dataset"]
    validation = next(h for h in train["train"]["handlers"] if "ValidationHandler" in h["_target_"])
    assert validation["interval"] == "@val_interval"
    assert {"bundle_root", "device", "network_def", "inferer", "output_dir"} <= set(infer)


def test_the_network_answers_in_the_shape_that_the_metadata_promises(bundle):
    files = {"meta_file": str(bundle / "configs/metadata.json"), "config_file": str(bundle / "configs/inference.json")}
    verify_net_in_out(net_id="network_def", device="cpu", bundle_root=str(bundle), **files)


@pytest.mark.parametrize(
    "command",
    [
        ("isort", "--check", "--profile", "black", "--line-length", "120"),
        ("black", "--check", "--quiet", "--line-length", "120"),
        ("flake8", "--max-line-length", "120", "--extend-ignore", "E203"),
    ],
    ids=lambda command: command[0],
)
def test_lint(bundle, command):
    done = subprocess.run([sys.executable, "-m", *command, "scripts"], cwd=bundle, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("tool", [("isort", "--check"), ("black", "--check", "--quiet"), ("flake8",)], ids=" ".join)
def test_lint_of_the_whole_repository(tool):
    command = [sys.executable, "-m", *tool, "bundle", "scripts", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_text_names_somebodys_folder(bundle):
    roots = "|".join("home Users root mnt media scratch work tmp".split())
    personal = re.compile(rf"(?<![\w.])(/(?:{roots})/|[A-Z]:\\\\?Users)")
    found = [f"{path.name}: {match[0]}" for path, text in texts(bundle) for match in personal.finditer(text)]
    assert not found
    weights = (bundle / "models" / "model.pt").read_bytes()
    assert not re.search(rb"/(home|Users|root|tmp)/", weights)


def imports(folder: Path) -> tuple[set[str], set[str]]:
    """Packages that the code imports at once, and those that it imports when they are needed."""
    always, later = set(), set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text())
        inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            (later if id(node) in inside else always).update(name.split(".")[0] for name in names)
    known = {"__future__", "scripts"} | sys.stdlib_module_names
    named = [{DISTRIBUTIONS.get(name, name) for name in names - known} for names in (always, later)]
    return named[0], named[1] - named[0]


def test_the_code_of_the_bundle_imports_nothing_of_the_repository(bundle):
    always, later = imports(bundle / "scripts")
    assert not {"bundle", "tests"} & (always | later) and {"torch", "monai", "timm"} <= always


def test_every_import_is_listed(bundle, metadata):
    always, later = imports(bundle / "scripts")
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=]", text)[0] for text in project["dependencies"]}
    extras = {re.split(r"[<>=]", t)[0] for texts in project["optional-dependencies"].values() for t in texts}
    assert always <= {*OWN_KEYS, *metadata["required_packages_version"]}
    assert always <= pinned and always <= needed
    assert later <= needed | extras
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == metadata["version"] == cited["version"]


def test_every_part_of_the_configs_comes_from_a_listed_package(bundle, metadata):
    listed = {*OWN_KEYS, *metadata["required_packages_version"], "scripts"}
    for path in (bundle / "configs").rglob("*"):
        if path.suffix in (".json", ".yaml"):
            text = path.read_text()
            targets = re.findall(r'_target_"?: "?([A-Za-z_]\w*)\.', text)
            assert {DISTRIBUTIONS.get(name, name) for name in targets} <= listed, path


def expand(text: str) -> list[str]:
    """``a{b,c}`` as ``ab`` and ``ac``."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)] if "{" in text else [[text]]
    return ["".join(choice) for choice in product(*parts)]


def test_the_files_that_the_documents_name_exist(bundle):
    named, folders = 0, "bundle|configs|docs|models|scripts|tests"
    named_file = re.compile(rf"(?<![\w/.<>-])(?:{folders})/[\w./{{}},*-]*\w[\w}}*]*")
    written = re.compile(r"--(?:filepath|output|output_dir|publish|results) \S+")  # by the command
    for path, text in texts(bundle / "docs"):
        for word in named_file.findall(written.sub("", text)):
            for name in expand(word.split("::")[0].rstrip(".,")):
                named += 1
                assert name in LEFT or list(ROOT.glob(name)), f"{path.name} names {name}"
        for link in re.findall(r"\]\(((?!https?://)[^)#]+)", text):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"
    assert named > 20


def test_every_config_that_the_documents_pass_is_in_the_package(bundle):
    for path, text in texts(bundle / "docs"):
        for name in re.findall(r"configs/[\w/]+\.(?:json|yaml)", text):
            assert (bundle / name).is_file(), f"{path.name} names {name}"


def run(place: Path, run_id: str, config: str, bundle: Path, **values) -> str:
    """``python -m monai.bundle run`` as a stranger types it: nothing of the repository in reach."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", config]
    command += ["--bundle_root", str(bundle)]
    command += [str(part) for key, value in values.items() for part in (f"--{key}", value)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_trains_evaluates_and_predicts_alone(bundle, synthetic_set, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    train, evaluate, infer = (str(bundle / "configs" / f"{n}.json") for n in ("train", "evaluate", "inference"))
    data = {"dataset_dir": synthetic_set, "device": "cpu", "image_size": 32, "output_dir": "out"}
    run(place, "training", train, bundle, **data | QUICK, label_ratio=4)
    run(place, "evaluating", f"['{train}','{evaluate}']", bundle, **data, ckpt_path="out/model.pt")
    scores = json.loads((place / "out" / "evaluation" / "metrics.json").read_text())["scores"]
    assert 0 <= scores["mean_dice"] <= 1
    images = {"dataset_dir": synthetic_set / "images", "output_dir": "masks", "device": "cpu"}
    said = run(place, "inferring", infer, bundle, **images)  # with the weights of the package
    assert "masks are in" in said
    assert len(list((place / "masks").rglob("*.png"))) == len(list((synthetic_set / "images").iterdir()))


def test_the_shared_weights_are_those_of_the_configs_network(bundle):
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    assert parser["ckpt_path"] == "$@bundle_root + '/models/model.pt'"
    package.check_weights(bundle)
