# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Active learning: numbers that tell which image to label next, and the choice by them."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from lib.inference import FlipUncertainty
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring as MONAIEpistemicScoring

SCORE, WEIGHTS = "uncertainty", "uncertainty_weights"
CANDIDATES = 200  # images that are looked at in one request: a large folder would make the clinician wait
BUSY = 600.0  # seconds for which an image that one client was given is not given to another


class UncertaintyScoring(ScoringMethod):
    """Scores unlabelled images by the present weights and keeps the scores in the datastore.

    At most ``max_samples`` images are scored in one request, others after each training, so that every image of a
    large folder has its turn.
    """

    def __init__(self, task: FlipUncertainty) -> None:
        super().__init__("Entropy of the most uncertain pixels, mean over the image and its mirror images")
        self.task = task

    def __call__(self, request: dict, datastore: Datastore) -> dict[str, Any]:
        """What was done, as numbers."""
        started, weights = time.time(), self.weights()
        images = self.candidates(request, datastore)
        todo = [image for image in images if datastore.get_image_info(image).get(WEIGHTS) != weights]
        for image in todo:
            request_of = {"image": datastore.get_image_uri(image), "logging": "error"}
            device = {"device": request["device"]} if request.get("device") else {}
            _, result = self.task(request_of | device)
            datastore.update_image_info(image, {SCORE: result["uncertainty"], WEIGHTS: weights})
        return {"candidates": len(images), "scored": len(todo), "seconds": round(time.time() - started, 3)}

    def weights(self) -> str:
        """A name of the weights in use, which changes with every training."""
        stat = os.stat(self.task.get_path())
        return f"{stat.st_mtime_ns}-{stat.st_size}"

    def candidates(self, request: dict, datastore: Datastore) -> list[str]:
        """Ids of unlabelled images, others for other weights where there are more than are looked at."""
        images = datastore.get_unlabeled_images()
        most, weights = int(request.get("max_samples") or CANDIDATES), self.weights()
        return sorted(images, key=lambda image: sha256(f"{weights} {image}".encode()).digest())[:most]


class MostUncertain(Strategy):
    """The unlabelled image that the present weights are most unsure about, scored now where it is not yet."""

    def __init__(self, scoring: UncertaintyScoring) -> None:
        super().__init__("The image the network is most unsure about")
        self.scoring = scoring

    def __call__(self, request: dict, datastore: Datastore) -> dict | None:
        """Id and score of the image; None if all are labelled."""
        self.scoring(request, datastore)
        infos = {image: datastore.get_image_info(image) for image in self.scoring.candidates(request, datastore)}
        if not infos:
            return None

        def rank(image: str) -> tuple[bool, float]:
            served = infos[image].get("strategy", {}).get(request["strategy"], {})
            others = served.get("client_id") != request.get("client_id")
            return not (others and time.time() - served.get("ts", 0) < BUSY), infos[image][SCORE]

        best = max(infos, key=rank)
        return {"id": best, SCORE: infos[best][SCORE]}


class EpistemicScoring(MONAIEpistemicScoring):
    """MONAI Label's scoring by dropout, one image at a time: its tasks of bundles do not bear two threads."""

    def __call__(self, request: dict, datastore: Datastore) -> dict:
        """What was done, as numbers."""
        return super().__call__({"max_workers": 1, **request}, datastore)


class DiceAgreement(ScoringMethod):
    """Dice of the server's mask and the clinician's, image by image, mean over the classes both know.

    MONAI Label's own multiplies the values, which is wrong for masks of 0 and 255 and for more than two classes.
    """

    def __init__(self, bundle: Path) -> None:
        super().__init__("Dice of predicted and final labels")
        self.bundle = bundle

    def __call__(self, request: dict, datastore: Datastore) -> dict[str, float]:
        """Dice by image, also kept in the datastore, for images that have both labels."""
        tags = [request.get("y", DefaultLabelTag.FINAL), request.get("y_pred", DefaultLabelTag.ORIGINAL)]
        found = {}
        for image in datastore.list_images():
            labels = datastore.get_labels_by_image_id(image)
            if all(tag in labels for tag in tags):
                found[image] = self.dice(*(datastore.get_label_uri(labels[tag], tag) for tag in tags))
                datastore.update_image_info(image, {"dice": found[image]})
        return found

    def dice(self, reference: str, predicted: str) -> float:
        """Dice of two files; both empty is 1."""
        from scripts.data import MaskReader
        from scripts.metrics import confusion_counts, image_dice

        config = json.loads((self.bundle / "configs" / "train.json").read_text(encoding="utf-8"))
        classes = int(config["num_classes"])
        reader = MaskReader(classes, volumes=True)
        masks = [torch.as_tensor(reader.get_data(path)[0]).long() for path in (reference, predicted)]
        return float(image_dice(confusion_counts(masks[1], masks[0], classes))[0])
