# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m bundle info``: what is installed, what it runs on, and what there is to choose from."""

from __future__ import annotations

import argparse
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from monai.bundle import ConfigParser

from bundle.benchmark.suite import ROOT
from scripts.losses import PartialCrossEntropy
from scripts.run.environment import describe_device, installed, versions

HELP = "versions, devices, networks, learning rules and configs; add it to every question you ask"
#: kinds of rules, and what each needs
NEEDS = {
    "semi-supervised": "few masks and many unlabelled images",
    "masks": "masks",
    "scribbles": "scribbles (--annotation scribble)",
    "pretraining": "images alone; its model.pt then starts another rule (--initial_weights)",
    "clustering": "images alone (configs/clustering.json)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(arguments: argparse.Namespace) -> None:
    """Prints it."""
    found = collect(ROOT)
    print(json.dumps(found, indent=1) if arguments.json else in_words(found))


def collect(root: Path) -> dict[str, Any]:
    """All of it, as JSON knows it."""
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return {
        "bundle": {"name": metadata["name"], "version": metadata["version"], "folder": str(root)},
        "weights": weights(root / "models" / "model.pt"),
        "versions": versions() | {name: installed(name) for name in ("torchvision", "scipy", "matplotlib")},
        "optional": optional(root / "pyproject.toml"),
        "devices": devices(),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "networks": list(networks(root / "configs")),
        "rules": list(rules(root / "configs")),
        "configs": sorted(path.relative_to(root).as_posix() for path in (root / "configs").rglob("*.json"))
        + sorted(
            path.relative_to(root).as_posix()
            for part in ("data", "losses")
            for path in (root / "configs" / part).glob("*.yaml")
        ),
    }


def weights(path: Path) -> dict[str, Any] | None:
    """Size and checksum of the shared weights, None without."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    return {"path": str(path), "bytes": len(content), "sha256": sha256(content).hexdigest()}


def optional(project: Path) -> list[dict[str, str]]:
    """The packages that some parts need, as the project file lists them: what for, and the version that is there."""
    if not project.is_file():
        return []
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"].get("optional-dependencies", {})
    named = [(part, re.split(r"[\[<>=!~; ]", text)[0]) for part, texts in extras.items() for text in texts]
    return [{"for": part, "package": name, "version": installed(name)} for part, name in named]


def devices() -> list[dict[str, Any]]:
    """The processor and every graphics card that PyTorch sees, with its memory in bytes."""
    found = [{"device": "cpu", "name": describe_device("cpu")}]
    for index in range(torch.cuda.device_count()):
        total = torch.cuda.get_device_properties(index).total_memory
        found.append({"device": f"cuda:{index}", "name": torch.cuda.get_device_name(index), "memory": total})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU"})
    return found


def read(*files: Path) -> ConfigParser:
    """The configs, later ones over earlier ones."""
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    return parser


def networks(configs: Path) -> Iterator[dict[str, Any]]:
    """Overlay, class and number of parameters of each network, for the channels and classes of inference.json."""
    inference = configs / "inference.json"
    for overlay in (None, *sorted((configs / "networks").glob("*.yaml"))):
        parser = read(inference, *([overlay] if overlay else []))
        own = ConfigParser.load_config_file(overlay) if overlay else {}
        wrapper = next((k for k, v in own.items() if k != "network_def" and isinstance(v, dict)), "network_def")
        with torch.device("meta"):  # counted, not made
            network = parser.get_parsed_content(wrapper)
        yield {
            "name": overlay.stem if overlay else "default",
            "config": overlay.relative_to(configs.parent).as_posix() if overlay else "configs/train.json",
            "class": type(network).__name__,
            "about": first_line(type(network)),
            "parameters": sum(p.numel() for p in network.parameters()),
        }


def rules(configs: Path) -> Iterator[dict[str, Any]]:
    """Overlay, class, what it is, and what it needs of each learning rule and clustering."""
    default = read(configs / "train.json")["method"]["_target_"]
    for overlay in sorted((configs / "methods").glob("*.yaml")):
        clusters = "algorithm" in ConfigParser.load_config_file(overlay)
        parser = read(configs / ("clustering.json" if clusters else "train.json"), overlay)
        target = parser["algorithm" if clusters else "method"]["_target_"]
        rule = locate(target)
        if clusters:
            kind = "clustering"
        elif "supervised" not in rule.losses:
            kind = "pretraining"
        elif rule.default_loss is PartialCrossEntropy:
            kind = "scribbles"
        else:
            kind = "semi-supervised" if parser["unlabelled_batch_size"] else "masks"
        yield {
            "name": overlay.stem,
            "config": overlay.relative_to(configs.parent).as_posix(),
            "class": target.rsplit(".", 1)[1],
            "about": first_line(rule),
            "kind": kind,
            "needs": NEEDS[kind],
            "default": target == default,
        }


def first_line(thing: Any) -> str:
    """First line of the docstring, without the marks of its markup."""
    line = (thing.__doc__ or "").strip().splitlines()[0]
    return re.sub(r":\w+:`[.~]?(?:\w+\.)*(\w+)`", r"\1", line).replace("``", "").rstrip(".")


def in_words(found: Mapping[str, Any]) -> str:
    """The same for people."""
    bundle, kept = found["bundle"], found["weights"]
    lines = [f"{bundle['name']} {bundle['version']} in {bundle['folder']}"]
    lines += [f"weights   {kept['bytes'] / 1e6:.1f} MB, sha256 {kept['sha256'][:16]}..." if kept else "weights   none"]
    lines += ["versions  " + ", ".join(f"{name} {version}" for name, version in found["versions"].items())]
    for index, entry in enumerate(found["optional"]):
        missing = f"not installed: pip install {entry['package']}"
        state = missing if entry["version"] == "not installed" else entry["version"]
        lines.append(f"{'' if index else 'optional':<10}{entry['package']} (for {entry['for']}): {state}")
    for index, entry in enumerate(found["devices"]):
        memory = f", {entry['memory'] / 2**30:.0f} GiB" if "memory" in entry else ""
        lines.append(f"{'' if index else 'devices':<10}{entry['device']}: {entry['name']}{memory}")
    lines += [f"cores     {found['cores']}", "", "networks, with millions of parameters; overlays in configs/networks"]
    lines += [f"  {n['name']:<22}{n['parameters'] / 1e6:6.2f}  {n['about']}" for n in found["networks"]]
    for kind, needs in NEEDS.items():
        chosen = [rule for rule in found["rules"] if rule["kind"] == kind]
        if chosen:
            lines += ["", f"rules: {kind}, from {needs}; overlays in configs/methods"]
            lines += [f"  {r['name'] + (' *' if r['default'] else ''):<22}{r['about']}" for r in chosen]
    lines += ["", "* the default of configs/train.json", "", "configs", *(f"  {name}" for name in found["configs"])]
    return "\n".join(lines)
