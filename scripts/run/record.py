# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Records a run in ``run.json``, and compares a resumed one with what it was."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from scripts import distributed, overrides
from scripts.data import check_datalist
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.hosting import hosted
from scripts.losses import SegmentationLoss
from scripts.methods import LearningRule
from scripts.run.environment import describe_device, versions
from scripts.run.folder import RUN_FILE, this_process
from scripts.run.parameters import check_annotation
from scripts.switches import as_bool

logger = logging.getLogger("less_net")

#: parameters that may differ when a run is resumed: where, how fast and how exactly, not what is computed; the default
#: of amp follows the device, so that a run begun on a GPU can end on a CPU
FREE_ON_RESUME = {
    "amp",
    "bundle_root",
    "class_names",
    "dataset_dir",
    "output_dir",
    "resume",
    "initial_weights",
    "device",
    "num_workers",
    "patience",
    "save_interval",
}
#: sections that are recorded otherwise, or say where results go
NOT_OF_THE_RUN = {"datalist", "tensorboard"}


class RunRecord:
    """Checks the data, compares a resumed run with what it was, writes ``run.json`` and tells the user what runs.

    Stands second in the run list: its arguments are the first thing for which data is listed.

    Args:
        output_dir: folder of ``run.json``.
        datalist: the lists of :func:`scripts.data.load_datalist`.
        parameters: the user's parameters by name.
        network: counted.
        resume: compare with the ``run.json`` of the run that is continued.
        rule: the learning rule; None: whether it suits the annotation is not looked at.

    Raises:
        InputError: bad data, or a resumed run that would be another one.
    """

    def __init__(
        self,
        output_dir: str,
        datalist: Mapping[str, Sequence[Mapping[str, Any]]],
        parameters: Mapping[str, Any],
        network: torch.nn.Module,
        resume: bool = False,
        rule: LearningRule | None = None,
    ) -> None:
        check_annotation(parameters.get("annotation"), rule)
        distributed.from_main(lambda: self.write(output_dir, datalist, parameters, network, resume, rule))

    @staticmethod
    def write(
        output_dir: str,
        datalist: Mapping[str, Sequence[Mapping[str, Any]]],
        parameters: Mapping[str, Any],
        network: torch.nn.Module,
        resume: bool,
        rule: LearningRule | None = None,
    ) -> None:
        """In one process of a distributed run, while the others wait."""
        path = Path(output_dir) / RUN_FILE
        workflow = overrides.running_workflow()
        if workflow is None or not hosted(workflow.parser):
            sizes = (int(parameters[name]) for name in ("num_classes", "in_channels"))
            check_datalist(datalist, *sizes, int(parameters.get("ignore_value", 255)))
        record = {
            "parameters": plain(parameters),
            "definitions": definitions(workflow) | built(rule),
            "data": {name: summary(items) for name, items in datalist.items()},
            "network_parameters": sum(p.numel() for p in network.parameters()),
            "versions": versions(),
            "process": this_process(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        if as_bool(resume, "resume") and path.is_file():
            kept = read_record(path)
            compare(kept, record, output_dir)
            kept |= {"process": record["process"]}  # the one that is at it now
        else:
            kept = record
        atomic_write(path, json.dumps(kept, indent=1).encode())
        if not datalist.get("unlabeled") and parameters.get("unlabelled_batch_size"):
            logger.info(
                "no training image is without a mask: the unlabelled stream shows the same images again "
                "(configs/methods/supervised.yaml does without that stream)"
            )
        logger.info(
            "%s parameters, on %s; the run is written to %s",
            *(
                parameter_count(record["network_parameters"]),
                describe_device(parameters.get("device")),
                Path(output_dir).resolve(),
            ),
        )


def read_record(path: Path) -> dict[str, Any]:
    """What a run wrote down when it started.

    Raises:
        InputError: the file is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record | {part: dict(record[part]) for part in ("parameters", "definitions", "data")}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({error}), so it cannot be told whether this would be the same run: put it back from a "
            "copy, or train anew in another output_dir"
        ) from error


def parameter_count(count: int) -> str:
    """A number of parameters in millions, below 10 000 in thousands: ``1.36 M``, ``0.06 k``."""
    return f"{count / 1e6:.2f} M" if count >= 10_000 else f"{count / 1e3:.2f} k"


def definitions(workflow: Any) -> dict[str, Any]:
    """The sections of the config that are components: network, method, optimiser, schedule, views.

    A key that only stands for another, as ``student`` for ``@network``, is named as that other.
    """
    config = workflow.parser.get() if workflow is not None else {}
    parts = {
        name: section
        for name, section in config.items()
        if isinstance(section, dict) and "_target_" in section and name not in NOT_OF_THE_RUN
    }
    text = json.dumps(parts, default=str)
    for name, value in config.items():
        if isinstance(value, str) and re.fullmatch(r"@\w+", value):
            text = re.sub(rf"@{name}\b", value, text)
    return json.loads(text)


def built(rule: LearningRule | None) -> dict[str, Any]:
    """What the configs leave to the code, and what another version may therefore do otherwise."""
    loss = getattr(rule, "loss", None)
    return {"supervised_loss": {"batch_dice": loss.batch_dice}} if isinstance(loss, SegmentationLoss) else {}


def summary(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count and fingerprint of a list of images."""
    names = sorted(str(item.get("key", item.get("image"))) for item in items)
    return {"count": len(names), "fingerprint": sha256("\n".join(names).encode()).hexdigest()[:16]}


def compare(old: Mapping[str, Any], new: Mapping[str, Any], folder: str) -> None:
    """Refuse to resume what would be another run.

    Raises:
        InputError: naming the first key that differs, with both values.
    """
    for part in ("parameters", "definitions", "data"):
        for name in sorted((old[part].keys() | new[part].keys()) - FREE_ON_RESUME):
            if part == "parameters" and name not in old[part]:
                continue  # recorded since; what it decides, the lists of images among it, is compared below
            was, now = old[part].get(name), new[part].get(name)
            if was != now:
                what = f"the list of {name} images" if part == "data" else name
                if part == "definitions":
                    what, was, now = first_difference(what, was, now)
                raise InputError(
                    f"{what} was {brief(was)} in the run in {folder} and is {brief(now)} now: resume with what it was, "
                    "or give another output_dir"
                )


def first_difference(name: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """Key, old and new value of the first difference within two sections, as ``method#cutmix``."""
    if isinstance(was, dict) and isinstance(now, dict):
        key = next(key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key))
        return first_difference(f"{name}#{key}", was.get(key), now.get(key))
    return name, was, now


def brief(value: Any) -> str:
    """A value in at most some 80 characters."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(value: Any) -> Any:
    """The value as JSON knows it; what JSON does not know, as its text."""
    return json.loads(json.dumps(value, default=str))
