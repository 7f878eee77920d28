# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Training from the labels drawn so far, with the unlabelled rest of the folder."""

from __future__ import annotations

from typing import Any

import monai.bundle
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask

# one GPU: a session has a handful of labels, and several processes would start up longer than they train
DEFAULTS = {"max_epochs": 10, "val_split": 0.2, "pretrained": True, "multi_gpu": False}


class Training(BundleTrainTask):
    """MONAI Label's training of a bundle, which puts the new weights where inference reads them when it is complete.

    A request may have ``overrides``, further keys of ``configs/train.json`` by name, such as ``{"seed": 1}``.
    """

    def __init__(self, path: str, conf: dict) -> None:
        super().__init__(path, conf, load_strict=True)

    def config(self) -> dict[str, Any]:
        """What clients offer to change."""
        return super().config() | DEFAULTS

    def __call__(self, request: dict, datastore: Datastore) -> dict:
        """Trains; what is wrong with the data is told in one sentence (status 400)."""
        if not datastore.get_labeled_images():
            raise HTTPException(400, "no image has a final label yet: label some, then train")
        try:
            return super().__call__(DEFAULTS | request, datastore)
        except Exception as error:
            sentence = input_error(error)
            if sentence:
                raise HTTPException(400, sentence) from error
            raise

    def _partition_datalist(self, datalist: list, request: dict, shuffle: bool = False) -> tuple[list, list | None]:
        """As MONAI Label does, but one or two labels are trained on, not kept for validation."""
        few = len(datalist) < 3 and request["val_split"] > 0
        return super()._partition_datalist(datalist, request | {"val_split": 0.0} if few else request, shuffle)

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list) -> None:
        """As MONAI Label does, which fails where ``pretrained`` is false."""
        loaders = [handler for handler in train_handlers if handler["_target_"] == "CheckpointLoader"]
        for loader in loaders:
            train_handlers.remove(loader)
        if pretrained:
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)

    def run_single_gpu(self, request: dict, overrides: dict) -> None:
        """In this process; the server's log stays as it is, which MONAI would set up anew."""
        monai.bundle.run(
            run_id=request.get("run_id", "run"),
            meta_file=self.bundle_metadata_path,
            config_file=self.bundle_config_path,
            logging_file=False,
            **overrides,
            **request.get("overrides", {}),
        )


def input_error(error: BaseException | None) -> str:
    """The sentence of the bundle's InputError among what an exception came from; empty if there is none."""
    while error is not None:
        if type(error).__name__ == "InputError":  # by name: MONAI Label may have loaded the bundle's modules anew
            return str(error)
        error = error.__cause__ or error.__context__
    return ""
