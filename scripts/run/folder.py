# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: no other run is overwritten, and nothing is written among the images."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from filecmp import cmp
from pathlib import Path
from typing import Any

from scripts.errors import InputError

#: what a training writes there: what it is, where it stands, one row an epoch, the best weights
RUN_FILE, LATEST, HISTORY, BEST = "run.json", "latest.pt", "history.csv", "model.pt"


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
    """Refuse to overwrite a run, and to resume none or a living one. One cut before its first checkpoint starts anew.

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
    # where it cannot be told whether the process lives, a run that was killed must still go on
    if resume and os.name == "posix" and in_progress(folder / RUN_FILE):
        raise InputError(
            f"resume: the run in {folder} still goes on, in the process that its {RUN_FILE} names: wait for its end, "
            "or stop it"
        )
    if held and not resume:
        raise InputError(
            f"output_dir {folder} already holds a run ({', '.join(held)}): continue it with --resume true, or give "
            "another output_dir"
        )


def is_of_run(checkpoint: str | Path, folder: str | Path) -> bool:
    """Whether a checkpoint lies in the folder of a run, or did under a folder of that name before it was moved.

    One that is still elsewhere is of a run of that name there, unless that was copied.
    """
    path, here = Path(checkpoint).absolute(), Path(folder).absolute()
    if path.parent.resolve() == here.resolve():
        return True
    moved = not path.is_file() or (here / path.name).is_file() and cmp(path, here / path.name, shallow=False)
    return path.parent.name == here.name and moved


def this_process() -> dict[str, Any]:
    """What ``run.json`` holds of the process that writes it, for :func:`in_progress`."""
    return {"host": platform.node(), "id": os.getpid(), "began": began(os.getpid())}


def began(process: int) -> str | None:
    """When a process began, by the clock of the Linux kernel; None: it has ended, or the system does not say."""
    path = Path(f"/proc/{process}/stat")
    if not path.is_file():
        return None
    state, *fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return None if state == "Z" else fields[18]  # a zombie has ended, and its parent has not looked yet


def in_progress(record: Path) -> bool:
    """Whether the process that wrote ``run.json`` still lives, on this machine."""
    try:
        process = json.loads(record.read_text(encoding="utf-8"))["process"]
        if process["host"] != platform.node() or process["id"] == os.getpid():
            return False
        if os.name != "posix":  # there is no asking there: signal 0 would be Ctrl-C
            return True
        with suppress(PermissionError):  # it lives, and is somebody else's
            os.kill(process["id"], 0)
        now = began(process["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return process.get("began", now) == now  # else its number has gone to another, as after a new start of the machine
