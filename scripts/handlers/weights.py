# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Loading of trained weights for evaluation and inference: strict, and clear about what does not fit."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts import distributed
from scripts.data.datalist import ALL, UNLABELED
from scripts.errors import InputError
from scripts.files import load_checkpoint
from scripts.overrides import argument
from scripts.run.folder import LATEST, RUN_FILE
from scripts.switches import as_bool

logger = logging.getLogger("less_net")

State = Mapping[str, Tensor]
SPLIT = ("group_pattern", "volume_pattern")
LABELLED = ("annotation", "label_ratio", "label_seed", "seed")  # what chose the images that were trained on with masks


class StrictCheckpointLoader:
    """Loads the weights of ``path`` into ``network`` when the engine starts; every tensor must fit.

    Where the run's ``run.json`` lies beside the weights, the parameters in ``expected`` are compared with it first,
    so that weights trained at another image size are not evaluated silently at this one. ("CheckpointLoader" in the
    name lets MONAI's federated client recognise and disable it.)

    Args:
        path: file with the network's state dict, as training writes it (``model.pt``); None loads nothing.
        network: the network to load into.
        expected: parameters of this run by config key, for example image_size, in_channels, num_classes.
            ``dataset_dir`` among them is not compared, but where it is that of the training, so must be the patterns
            that decide the split: a test image could have been trained on.
        own: weights that the user may have meant; where they exist and others are loaded, a warning says so.
        part: of the data that is scored; a warning says where it is all of those that the weights were trained on.
        output_dir: folder of the run that begins with the weights.
        resume: go on with that run: nothing is loaded where it has a ``latest.pt``, which brings its own weights.

    Raises (at the start of the engine):
        InputError: no such file, not readable, other classes, another network, or trained with other parameters.
    """

    def __init__(
        self,
        path: str | None,
        network: nn.Module,
        expected: Mapping[str, Any] | None = None,
        own: str | None = None,
        part: str | None = None,
        output_dir: str | None = None,
        resume: bool | str = False,
    ) -> None:
        self.path, self.network, self.expected, self.own = path, network, dict(expected or {}), own
        self.part = part
        self.latest = Path(output_dir) / LATEST if output_dir and as_bool(resume, "resume") else None

    def attach(self, engine: Engine) -> None:
        """Loads at the start of ``engine``."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        if self.path is None:
            return
        if self.latest and distributed.from_main(self.latest.is_file):
            return  # the file that the run began with may be gone by now
        state = load_checkpoint(self.path)
        check_parameters(self.path, self.expected, self.part)
        data = self.expected.get("dataset_dir")
        if self.part == ALL and is_trained_on(run_of(self.path).get("parameters", {}), data):
            logger.warning("part all holds the images that %s was trained on: the scores will be too good.", self.path)
        if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
            raise InputError(
                f"{self.path} holds no network weights alone: give the model.pt that training wrote beside it"
            )
        difference = first_difference(state, self.network.state_dict(), self.expected)
        if difference:
            raise InputError(f"{self.path} does not fit the network: {difference}{trained_network(self.path)}")
        self.network.load_state_dict(state)
        logger.info("weights of %s", self.path)
        if self.own and Path(self.own).is_file() and not Path(self.own).samefile(self.path):
            logger.warning("%s is there too: to use it, pass --ckpt_path %s", self.own, self.own)


def check_parameters(path: str, expected: Mapping[str, Any], part: str | None = None) -> None:
    """Compares ``expected`` with the parameters in ``run.json`` beside ``path``, where there is one.

    What tells the lists of images apart counts where they are of the data that was trained on: :data:`SPLIT`, and for
    the ``part`` of the images without a mask :data:`LABELLED`.

    Raises:
        InputError: a parameter differs; the sentence says which value to pass.
    """
    parameters = run_of(path).get("parameters", {})
    same_data = is_trained_on(parameters, expected.get("dataset_dir"))
    for key, value in expected.items():
        if key == "dataset_dir" or (key in (*SPLIT, *LABELLED) and not same_data):
            continue
        if key in LABELLED and part != UNLABELED:
            continue
        trained = parameters.get(key, value)
        if _plain(trained) != _plain(value):
            mend = f"pass --{key} {shlex.quote(argument(trained))}"
            raise InputError(f"{path} was trained with {key} {trained}, but {key} is {value} here: {mend}")


def is_trained_on(parameters: Mapping[str, Any], dataset_dir: Any) -> bool:
    """Whether a run with these parameters read this data set; an empty name is the embedded one."""
    return "dataset_dir" in parameters and _folder(parameters["dataset_dir"]) == _folder(dataset_dir)


def run_of(path: str) -> dict[str, Any]:
    """The ``run.json`` beside weights; empty where there is none.

    Raises:
        InputError: it is damaged.
    """
    run = Path(path).with_name(RUN_FILE)
    try:
        content = json.loads(run.read_text(encoding="utf-8")) if run.is_file() else {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run} is damaged ({error}): restore it, or remove it to go without the comparison"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{run} is damaged (no record of a run): restore it, or remove it to go without the comparison"
        )
    return content


def patterns_of(path: str | Path | None, dataset_dir: str, group_pattern: str | None = None) -> dict[str, str]:
    """The patterns that split a data set as in the training of weights, as arguments of ``load_datalist``.

    Args:
        path: of the weights; ``run.json`` beside them tells the patterns.
        dataset_dir: the data set; for another one than that of the training its patterns say nothing.
        group_pattern: what the user gave, which counts more.

    Raises:
        InputError: ``run.json`` is damaged.
    """
    parameters = run_of(str(path)).get("parameters", {}) if path else {}
    known = {key: parameters.get(key) for key in SPLIT if is_trained_on(parameters, dataset_dir)}
    known["group_pattern"] = group_pattern or known.get("group_pattern")
    return {key: value for key, value in known.items() if value}


def trained_network(path: str) -> str:
    """What ``run.json`` beside weights says of their network, as the end of a sentence."""
    inner = (run_of(path).get("definitions") or {}).get("network_def")
    parts = (inner if isinstance(inner, dict) else None, *wrappers(path).values())
    targets = [str(part.get("_target_")) for part in parts if part]
    return f" ({' in '.join(targets)}: add the overlay of configs/networks that holds it)" if targets else ""


def wrappers(path: str) -> dict[str, dict[str, Any]]:
    """The parts around ``network_def`` by name, by ``run.json`` beside weights."""
    definitions = run_of(path).get("definitions") or {}
    return {
        n: part for n, part in definitions.items() if isinstance(part, dict) and part.get("network") == "@network_def"
    }


def _folder(path: Any) -> str:
    return str(Path(str(path)).resolve()) if path else ""


def _plain(value: Any) -> Any:
    """One form for sizes that mean the same: 256, "256", [256, 256]."""
    if isinstance(value, (list, tuple)):
        parts = [str(part) for part in value]
        return parts[0] if len(set(parts)) == 1 else parts
    return str(value)


def first_difference(found: State, wanted: State, expected: Mapping[str, Any] | None = None) -> str | None:
    """What keeps the tensors ``found`` in a file from being loaded as ``wanted``, with the mend; None if they fit.

    ``expected`` may hold num_classes and in_channels of the network, for the numbers in the sentence.
    """
    missing = [key for key in wanted if key not in found]
    extra = [key for key in found if key not in wanted]
    if missing or extra:
        verb, keys = ("lacks", missing) if missing else ("has the unknown entry", extra)
        counts = f"{len(missing)} missing, {len(extra)} unknown"
        return f"the file {verb} '{keys[0]}' ({counts}): use the network_def it was trained with"
    shapes = {key: (tuple(found[key].shape), tuple(wanted[key].shape)) for key in wanted}
    unequal = {key: pair for key, pair in shapes.items() if pair[0] != pair[1]}
    if not unequal:
        return None
    for axis, (what, name) in enumerate((("classes", "num_classes"), ("input channels", "in_channels"))):
        ratios, here = {_ratio(axis, *pair) for pair in unequal.values()}, (expected or {}).get(name)
        ratio = ratios.pop()
        # a layer may hold several values a class or channel, so the ratio counts, not the size
        if not ratios and ratio is not None and here and (ratio * here).denominator == 1:
            mend = f"pass --{name} {ratio * here}, or weights for {here}"  # where the data have as many as the network
            return f"the file has {ratio * here} {what}, the network {here}: {mend}"
    key, (there, here) = next(iter(unequal.items()))
    shapes_differ = f"'{key}' is {list(there)} in the file and {list(here)} in the network"
    return f"{shapes_differ}: use the network_def it was trained with"


def _ratio(axis: int, found: tuple[int, ...], wanted: tuple[int, ...]) -> Fraction | None:
    """The ratio of the sizes along ``axis`` if the shapes differ there alone."""
    same_rank = len(found) == len(wanted) > axis
    if not same_rank or found[:axis] != wanted[:axis] or found[axis + 1 :] != wanted[axis + 1 :]:
        return None
    return Fraction(found[axis], wanted[axis])
