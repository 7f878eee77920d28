# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What INT8 costs: the Dice on the validation images of a data set, in floating point and in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.bundle import ConfigParser

from bundle.bench.contenders import Contender, Networks
from bundle.benchmark.suite import ROOT
from bundle.export import read_config
from scripts.data import MaskReader, load_datalist
from scripts.data.decode import decode
from scripts.metrics import confusion_counts, image_dice
from scripts.streaming import FramePredictor


def validation_dice(
    contenders: Sequence[Contender], networks: Networks, data: str, size: int, patterns: Mapping[str, str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(what was scored, a row) for each contender: mean Dice in percent over the images with their masks.

    ``patterns`` are those of the run's split (:func:`scripts.handlers.weights.patterns_of`).
    """
    classes = networks.num_classes
    items = load_datalist(data, num_classes=classes, **patterns)["validation"]
    reader = MaskReader(classes)
    settings = {"image_size": size, "num_classes": classes}
    for contender in contenders:
        parser: ConfigParser = read_config([str(ROOT / "configs" / "inference.json")], settings)
        parser["bundle_root"], parser["device"] = str(ROOT), networks.device
        predictor, found = FramePredictor(parser, networks.ready(contender)), []
        for item in items:
            mask = predictor(decode(item["image"]), item["key"])
            reference = reader.get_data(item["label"])[0][0].T.copy()
            counts = confusion_counts(torch.as_tensor(mask)[None], torch.as_tensor(reference)[None], classes)
            found.append(float(image_dice(counts)))
        dice = 100 * sum(found) / len(found)
        yield f"Dice of {contender.name}", [{"name": contender.name, "images": len(items), "size": size, "dice": dice}]
