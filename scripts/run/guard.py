# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Guards a run: unknown keys and bad values are refused before anything reads data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scripts import distributed, overrides
from scripts.errors import InputError
from scripts.hosting import LISTS, hosted
from scripts.run.excepthook import install_excepthook
from scripts.run.folder import check_folders, check_output
from scripts.run.parameters import check_parameters, check_path
from scripts.switches import as_bool


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
        for name, folder in ("output_dir", output_dir), ("dataset_dir", dataset_dir):
            check_path(name, folder)
        is_hosted = workflow is not None and hosted(workflow.parser)
        if is_hosted and dataset_dir:
            # taken for an application's, this run would leave label_ratio out and replace the weights of the bundle
            raise InputError(
                f"{LISTS['training']} is a list beside dataset_dir: only an application such as MONAI Label hands "
                "lists over, and no dataset_dir; for a choice of your own write the lists into a datalist, "
                '{"training": [{"image": ..., "label": ...}], ...}, and give that file as dataset_dir'
            )
        if output_dir is not None:
            check_folders(output_dir, dataset_dir)
            if resume is not None and not is_hosted:
                check_output(Path(output_dir), as_bool(resume, "resume"))
