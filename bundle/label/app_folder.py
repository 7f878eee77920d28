# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The app folder of a MONAI Label server: our app, and a copy of the bundle that its trainings write to."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ReferenceResolver

from bundle.assignments import yaml_assignments
from scripts.class_names import class_names_or_default
from scripts.errors import InputError
from scripts.files import atomic_save, load_checkpoint
from scripts.handlers.weights import StrictCheckpointLoader, first_difference, wrappers
from scripts.overrides import ELSEWHERE, MONAI_KEYS, referenced
from scripts.run.folder import RUN_FILE

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "app"
PARTS = ("configs", "scripts", "LICENSE")
CONFIGS = ("train.json", "evaluate.json", "inference.json")
#: a training between two images to label: 10 epochs of 50 iterations, instead of 60 of 100
QUICK = ["epoch_length=50"]
FROM_RUN = ("image_size", "in_channels", "num_classes")

logger = logging.getLogger("less_net")


@dataclass
class Settings:
    """What a new app is made from.

    Attributes:
        weights: ``model.pt`` of a training; where its ``run.json`` lies beside it, size, channels, classes with their
            names and network are those of the run. None: the weights of this bundle, or random ones for another
            network or other classes than theirs.
        classes: names of the foreground classes, which clients show; empty: those of run or overlay.
        overlays: config files laid over ``train.json``, and over ``inference.json`` as far as it reads their keys.
        values: ``key=value`` for the configs that have the key; the value is read as YAML.
    """

    weights: Path | None = None
    classes: list[str] = field(default_factory=list)
    overlays: list[Path] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def refuse_for(self, app: Path) -> None:
        """An app that is there is used as it is.

        Raises:
            InputError: a setting is given all the same.
        """
        if self.weights or self.classes or self.overlays or self.values:
            raise InputError(
                f"{app} is an app already, which keeps the settings it was made with: leave out --weights, --classes, "
                "--overlay and --set, or name another --app"
            )


def build_app(app: Path, settings: Settings) -> None:
    """Makes the folder: ``main.py``, ``lib/`` and ``model/<name>/`` with configs, scripts and weights.

    Raises:
        InputError: the folder is in use, a setting is wrong, or the weights cannot be read or do not fit.
    """
    if app.exists() and (not app.is_dir() or any(app.iterdir())):
        raise InputError(f"--app {app} exists and is no app of this bundle: name another folder")
    part = app.with_name(app.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(APP, part, ignore=shutil.ignore_patterns("__pycache__"))
        name = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))["name"]
        model = part / "model" / name
        copy_bundle(model, settings.weights)
        write_configs(model / "configs", settings)
        fit_weights(model, settings.weights)
        if app.exists():
            app.rmdir()
        part.rename(app)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def model_name(app: Path) -> str:
    """The name under which the server has the bundle."""
    return next(path.name for path in sorted((app / "model").iterdir()) if path.is_dir())


def copy_bundle(model: Path, weights: Path | None) -> None:
    """Copies what a server needs of this bundle.

    Raises:
        InputError: the weights cannot be read.
    """
    weights = weights or ROOT / "models" / "model.pt"
    load_checkpoint(weights)
    (model / "models").mkdir(parents=True)
    shutil.copyfile(weights, model / "models" / "model.pt")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, model / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, model / name)


def write_configs(folder: Path, settings: Settings) -> None:
    """Lays settings and overlays over the configs, and puts the names of the classes into the metadata.

    Raises:
        InputError: a key is in no config, a value is not YAML, an overlay is missing or belongs to another config, or
            the classes do not match, or the weights belong to a network that an overlay makes.
    """
    values = {
        **yaml_assignments(QUICK, "--set"),
        **values_of_run(settings.weights),
        **({"class_names": ["background", *settings.classes]} if settings.classes else {}),
        **yaml_assignments(settings.values, "--set"),
    }
    if values.get("plane", "auto") != "auto":
        raise InputError(
            "--set plane: the server cuts volumes by their spacing, in training and inference: leave it out"
        )
    configs = {name: ConfigParser.load_config_file(folder / name) for name in CONFIGS}
    lay_overlays(configs, settings.overlays)
    check_wrapper(configs["inference.json"], settings.weights)
    for key, value in values.items():
        if not lay_over(configs, {key: value}, CONFIGS):
            raise InputError(f"--set {key}: no config has {root_of(key)}; see configs/train.json for the keys")
    for name, config in configs.items():
        write_json(folder / name, config)
    metadata = ConfigParser.load_config_file(folder / "metadata.json")
    describe(metadata, configs["train.json"], settings.classes)
    write_json(folder / "metadata.json", metadata)


def lay_overlays(configs: dict[str, dict], overlays: Sequence[Path]) -> None:
    """Lays overlays over training and inference.

    A key that neither has goes into the training, and into inference where something there refers to it by then.

    Raises:
        InputError: an overlay is missing, or nothing refers to a key that it adds.
    """
    known, added = {*configs["train.json"], *configs["inference.json"]}, {}
    for overlay in overlays:
        if not overlay.is_file():
            raise InputError(f"--overlay {overlay} is not a file: give a config such as configs/networks/unet.yaml")
        content = part_by_part(ConfigParser.load_config_file(overlay), overlay)
        for key in map(root_of, content):
            if key not in known:
                added.setdefault(key, overlay)
                configs["train.json"].setdefault(key, {})
        lay_over(configs, content, ("train.json", "inference.json"))
    train, inference = configs["train.json"], configs["inference.json"]
    while wanted := [key for key in train if key not in inference and referenced(key, inference)]:
        inference |= {key: train[key] for key in wanted}  # which may refer to others
    for key, overlay in added.items():
        if key not in MONAI_KEYS and not referenced(key, [train, inference]):
            raise InputError(
                f"--overlay {overlay}: nothing in train.json or inference.json reads its {key}: leave it out, "
                f"{ELSEWHERE}"
            )


def part_by_part(content: dict[str, Any], overlay: Path) -> dict[str, Any]:
    """The content of an overlay with its ``+section: {part: ...}``, which adds to a section, as ``section#part: ...``.

    Raises:
        InputError: what is added are no named parts, but the entries of a list.
    """
    parts: dict[str, Any] = {}
    for key, value in content.items():
        if not key.startswith("+"):
            parts[key] = value
        elif isinstance(value, dict):
            parts |= {f"{key[1:]}#{name}": part for name, part in value.items()}
        else:
            raise InputError(
                f"--overlay {overlay}: {key} adds to a list, which an app cannot do: give the whole list as {key[1:]}"
            )
    return parts


def lay_over(configs: dict[str, dict], values: dict[str, Any], names: Sequence[str]) -> bool:
    """Sets the values in those of the named configs that have the first part of their key.

    Returns:
        Whether any config has them.
    """
    found = False
    for key, value in values.items():
        for name in names:
            if root_of(key) in configs[name]:
                parser = ConfigParser(configs[name])
                parser.set(value, key)
                configs[name] = parser.config
                found = True
    return found


def root_of(key: str) -> str:
    """The first part of a key such as ``train#trainer#network``."""
    return ReferenceResolver.split_id(key)[0]


def values_of_run(weights: Path | None) -> dict[str, Any]:
    """Size, channels, classes and network that weights were trained with, where their ``run.json`` tells."""
    record = weights.with_name(RUN_FILE) if weights else None
    if record is None or not record.is_file():
        return {}
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        known = {key: content["parameters"][key] for key in FROM_RUN}
        if content["parameters"].get("class_names"):
            known["class_names"] = content["parameters"]["class_names"]
        return known | {"network_def": content["definitions"]["network_def"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record} is damaged ({error}): remove it to go without") from error


def check_wrapper(inference: dict, weights: Path | None) -> None:
    """Refuses weights of a network with a part around it, where the app has no such part.

    Raises:
        InputError: naming the part.
    """
    for name, part in wrappers(str(weights)).items() if weights else ():
        if name not in inference:
            raise InputError(
                f"{weights} was trained with {part.get('_target_')} around the network: add the --overlay of "
                f"configs/networks that holds {name}"
            )


def fit_weights(model: Path, given: Path | None) -> None:
    """Sees to it that the server's network can load the app's weights; where none were given and those of the bundle
    are of another network or other classes, it starts with random ones.

    Raises:
        InputError: the given weights do not fit.
    """
    parser = ConfigParser(ConfigParser.load_config_file(model / "configs" / "inference.json"))
    parser.update({"bundle_root": str(model), "device": "cpu"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = parser.get_parsed_content("network")
    if given:
        sizes = {key: parser.get_parsed_content(key) for key in ("num_classes", "in_channels")}
        try:
            StrictCheckpointLoader(str(given), network, sizes)()
        except InputError as error:  # it names the option of a run
            text = str(error)
            for key in sizes:
                text = text.replace(f"--{key} ", f"--set {key}=")
            raise InputError(text) from error
        return
    path = model / "models" / "model.pt"
    if first_difference(load_checkpoint(path), network.state_dict()):
        atomic_save(path, network.state_dict())
        logger.warning(
            "the bundle has no weights of this network: it starts with random ones, whose masks mean nothing before "
            "a training; --weights <run>/model.pt starts with yours"
        )


def describe(metadata: dict, train: dict, classes: Sequence[str]) -> None:
    """Puts sizes and the names of the classes into the metadata, from which MONAI Label takes the labels.

    Raises:
        InputError: there are more or fewer names than classes.
    """
    count = train["num_classes"]
    if classes and len(classes) + 1 != count:
        raise InputError(f"--classes names {len(classes)} classes, but num_classes is {count} with the background")
    names = class_names_or_default(train["class_names"], count)
    size = train["image_size"]
    size = list(size) if isinstance(size, (list, tuple)) else [size, size]
    formats = metadata["network_data_format"]
    formats["outputs"]["pred"] |= {"channel_def": dict(zip(map(str, range(count)), names)), "num_channels": count}
    count = train["in_channels"]
    if count != formats["inputs"]["image"]["num_channels"]:
        formats["inputs"]["image"] |= {"format": "magnitude", "num_channels": count}
        if isinstance(count, int):  # else a reference to another key
            formats["inputs"]["image"]["channel_def"] = {str(index): f"channel {index}" for index in range(count)}
    for side in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        side["spatial_shape"] = size


def write_json(path: Path, content: dict) -> None:
    """Writes a config."""
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")
