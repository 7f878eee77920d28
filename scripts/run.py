# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Guards a run: unknown keys and bad values are refused, no run is overwritten, and errors end in one sentence."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from scripts import distributed, overrides
from scripts.data import check_datalist
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.hosting import hosted
from scripts.switches import as_bool

logger = logging.getLogger("less_net")

RUN_FILE, LATEST, HISTORY = "run.json", "latest.pt", "history.csv"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
PACKAGES = ("torch", "monai", "pytorch-ignite", "timm", "numpy", "pillow", "nibabel")
#: parameters that may differ when a run is resumed: where and how fast, not what is computed
FREE_ON_RESUME = {
    "bundle_root",
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


def install_excepthook() -> None:
    """Make an :class:`InputError` anywhere in the chain of an uncaught exception end the program with its sentence.

    MONAI wraps whatever a component raises, so the chain is walked. Everything else keeps its traceback.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        known = next((e for e in chain(error) if isinstance(e, InputError)), None)
        full = next((e for e in chain(error) if isinstance(e, OSError) and e.errno in DISK_FULL), None)
        if isinstance(known, distributed.ToldElsewhere):
            return
        if known is not None:
            print(f"error: {known}", file=sys.stderr)
        elif full is not None:
            print(f"error: {full}: free space, then start again (a training with --resume true)", file=sys.stderr)
        elif any(isinstance(e, KeyboardInterrupt) for e in chain(error)):
            print("interrupted; a training continues with --resume true, a clustering as it is", file=sys.stderr)
        elif distributed.active() and any(distributed.is_lost_connection(e) for e in chain(error)):
            print(
                f"error: process {distributed.rank()} lost the others: one of them has ended, its message, if it had "
                "any, is above; a training continues with --resume true",
                file=sys.stderr,
            )
        else:
            previous(kind, error, traceback)

    hook.for_input_errors = True  # type: ignore[attr-defined]
    if not getattr(previous, "for_input_errors", False):
        sys.excepthook = hook


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that it came from, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class RunGuard:
    """Stands first in a config's run list, before anything reads data.

    Installs the exception hook, refuses override keys that nothing would read (:mod:`scripts.overrides`) and values out
    of range, and, where ``output_dir`` is given, protects what is in that folder.

    Args:
        output_dir: folder the run writes to; None: not looked at.
        dataset_dir: folder the run reads from.
        resume: continue the run in ``output_dir``; None: the folder may hold a finished run (evaluation).
        parameters: the user's parameters by name, checked by :func:`check_parameters`.

    Raises:
        InputError: with the key or folder and the mend.
    """

    def __init__(
        self,
        output_dir: str | None = None,
        dataset_dir: str | None = None,
        resume: bool | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        install_excepthook()
        distributed.quiet_others()
        # with pydicom installed, MONAI says at its first reader that a GPU decoder nothing here asks for is missing
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        distributed.from_main(lambda: self.check(output_dir, dataset_dir, resume, parameters or {}))

    @staticmethod
    def check(
        output_dir: str | None, dataset_dir: str | None, resume: bool | None, parameters: Mapping[str, Any]
    ) -> None:
        """Everything that can be told before the data are read."""
        workflow = overrides.running_workflow()
        if workflow is not None:
            overrides.check(workflow)
            if "tracking_uri" in workflow.parser and find_spec("mlflow") is None:
                raise InputError("tracking: mlflow is not installed: run pip install mlflow")
            if "tracking_uri" in workflow.parser and distributed.active():
                raise InputError("tracking: each of the processes would record a run of its own: leave --tracking out")
        check_parameters(parameters)
        if output_dir is not None:
            check_folders(output_dir, dataset_dir)
            if resume is not None and not (workflow is not None and hosted(workflow.parser)):
                check_output(Path(output_dir), as_bool(resume, "resume"))


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse values that cannot be meant.

    Raises:
        InputError: naming the parameter, its value, and what it takes.
    """
    least = {"max_epochs": 1, "epoch_length": 1, "batch_size": 1, "unlabelled_batch_size": 0, "val_interval": 1}
    least |= {"in_channels": 1, "num_classes": 2, "num_workers": 0, "seed": 0, "save_interval": 1}
    for name, value in parameters.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if name in least and not (whole and value >= least[name]):
            raise InputError(f"{name} is {value!r}: give a whole number of at least {least[name]}")
        if name == "learning_rate" and not (isinstance(value, (int, float)) and 0 < value < 100):
            raise InputError(f"{name} is {value!r}: give a number above 0")
        if name == "weight_decay" and not (isinstance(value, (int, float)) and value >= 0):
            raise InputError(f"{name} is {value!r}: give a number of at least 0")
        if name == "device":
            check_device(value)
        if name == "resume" or (name == "amp" and str(value).lower() != "auto"):
            as_bool(value, name)
        if name == "image_size":
            sizes = list(value) if isinstance(value, (list, tuple)) else [value]
            if len(sizes) > 2 or not all(isinstance(size, int) and size >= 32 for size in sizes):
                raise InputError(f"image_size is {value!r}: give one whole number, or [width, height], of at least 32")


def check_device(value: Any) -> None:
    """Refuse a device that PyTorch does not know or see.

    Raises:
        InputError: naming it.
    """
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError):
        raise InputError(f"device is '{value}': give cpu, cuda or cuda:<number>") from None
    seen = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= seen:
        raise InputError(f"device is '{value}', but PyTorch sees {seen} GPUs here: leave it out, or pass --device cpu")


def check_folders(output_dir: str, dataset_dir: str | None) -> None:
    """Refuse an output folder that is, or lies in, the folder of the images.

    Raises:
        InputError: naming both.
    """
    output = Path(output_dir).resolve()
    if output.is_file():
        raise InputError(f"output_dir {output_dir} is a file: give a folder")
    if not dataset_dir or not Path(dataset_dir).is_dir():
        return
    source = Path(dataset_dir).resolve()
    images = [source / name for name in ("images", "masks", "JPEGImages", "SegmentationClass")]
    if output == source or any(folder == output or folder in output.parents for folder in images):
        raise InputError(f"output_dir {output_dir} would write among the images of {dataset_dir}: give another folder")


def check_output(folder: Path, resume: bool) -> None:
    """Refuse to overwrite a run, and to resume where there is none. One cut before its first checkpoint starts anew.

    Raises:
        InputError: naming the folder and the mend.
    """
    if resume and not any((folder / name).is_file() for name in (RUN_FILE, LATEST)):
        raise InputError(
            f"resume: {folder} holds no {LATEST}: give the output_dir of a run that was cut, or train anew"
        )
    held = [name for name in (RUN_FILE, LATEST, HISTORY) if (folder / name).exists()]
    if held == [RUN_FILE] and not in_progress(folder / RUN_FILE):
        return  # a start that was refused, or cut in its first epoch: there is nothing to lose
    if held and not resume:
        raise InputError(
            f"output_dir {folder} already holds a run ({', '.join(held)}): continue it with --resume true, or give "
            "another output_dir"
        )


def in_progress(record: Path) -> bool:
    """Whether the process that wrote ``run.json`` still lives, on this machine."""
    try:
        process = json.loads(record.read_text())["process"]
        if process["host"] != platform.node() or process["id"] == os.getpid():
            return False
        if os.name != "posix":  # there is no asking there: signal 0 would be Ctrl-C
            return True
        os.kill(process["id"], 0)
    except PermissionError:  # it lives, and is somebody else's
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


class RunRecord:
    """Checks the data, compares a resumed run with what it was, writes ``run.json`` and tells the user what runs.

    Stands second in the run list: its arguments are the first thing for which data is listed.

    Args:
        output_dir: folder of ``run.json``.
        datalist: the lists of :func:`scripts.data.load_datalist`.
        parameters: the user's parameters by name.
        network: counted.
        resume: compare with the ``run.json`` of the run that is continued.

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
    ) -> None:
        distributed.from_main(lambda: self.write(output_dir, datalist, parameters, network, resume))

    @staticmethod
    def write(
        output_dir: str,
        datalist: Mapping[str, Sequence[Mapping[str, Any]]],
        parameters: Mapping[str, Any],
        network: torch.nn.Module,
        resume: bool,
    ) -> None:
        """In one process of a distributed run, while the others wait."""
        path = Path(output_dir) / RUN_FILE
        workflow = overrides.running_workflow()
        if workflow is None or not hosted(workflow.parser):
            sizes = (int(parameters[name]) for name in ("num_classes", "in_channels"))
            check_datalist(datalist, *sizes, int(parameters.get("ignore_value", 255)))
        record = {
            "parameters": plain(parameters),
            "definitions": definitions(workflow),
            "data": {name: summary(items) for name, items in datalist.items()},
            "network_parameters": sum(p.numel() for p in network.parameters()),
            "versions": versions(),
            "process": {"host": platform.node(), "id": os.getpid()},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        if as_bool(resume, "resume") and path.is_file():
            compare(json.loads(path.read_text()), record, output_dir)
        else:
            atomic_write(path, json.dumps(record, indent=1).encode())
        if not datalist.get("unlabeled") and parameters.get("unlabelled_batch_size"):
            logger.info(
                "no training image is without a mask: the unlabelled stream shows the same images again "
                "(configs/methods/supervised.yaml does without that stream)"
            )
        logger.info(
            "%.2f M parameters, on %s; the run is written to %s",
            *(
                record["network_parameters"] / 1e6,
                describe_device(parameters.get("device")),
                Path(output_dir).resolve(),
            ),
        )


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


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run."""
    return {"python": platform.python_version()} | {name: installed(name) for name in PACKAGES}


def installed(package: str) -> str:
    """Version of a package, or the words ``not installed``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe_device(device: Any) -> str:
    """The device in words."""
    device = torch.device(device if device is not None else "cpu")
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
