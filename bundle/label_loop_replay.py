# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""One replay: one order of labelling, one seed, one server, round by round; a killed replay goes on with its round."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bundle.assignments import yaml_assignments
from bundle.label.app_folder import Settings, build_app, model_name, values_of_run
from bundle.label.server import Server
from bundle.label_loop_curve import Row
from scripts.data import MaskReader
from scripts.data.files import Item, stem
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.metrics import confusion_counts, image_dice

ORDERS = ("random", "uncertainty", "epistemic", "first")


@dataclass
class Plan:
    """How many images are labelled when, and what the server is made from."""

    start: int
    rounds: int
    add: int
    epochs: int
    settings: Settings

    def needed(self) -> int:
        """Images labelled in the end."""
        return self.start + self.rounds * self.add

    def classes(self) -> int:
        """Number of classes, background included."""
        given = values_of_run(self.settings.weights) | yaml_assignments(self.settings.values, "--set")
        return int(given.get("num_classes", 2))


class Replay:
    """A folder with the images as a clinician's studies, an app, and one file for every round that is done.

    Args:
        output: folder of the loop.
        order: strategy of the server.
        seed: of the first images and of the trainings.
        plan: the numbers.
        pool: images with masks that may be labelled.
        test: images with masks that are scored.
    """

    def __init__(self, output: Path, order: str, seed: int, plan: Plan, pool: list[Item], test: list[Item]) -> None:
        self.folder = output / f"{order}-{seed}"
        self.order, self.seed, self.plan, self.test = order, seed, plan, test
        self.pool = {re.sub(r"[^A-Za-z0-9_-]", "_", item["key"]): item for item in pool}
        if len(self.pool) < len(pool):
            raise InputError("two keys of the data differ in special characters only: rename one of the images")
        self.studies, self.app = self.folder / "studies", self.folder / "app"
        self.reader = MaskReader(plan.classes())

    def path(self, number: int, suffix: str) -> Path:
        """A file of a round."""
        return self.folder / f"round{number:02d}{suffix}"

    def rows(self) -> list[Row]:
        """The rounds that are done, without a gap."""
        rows = []
        while len(rows) <= self.plan.rounds and self.path(len(rows), ".json").is_file():
            rows.append(Row(**json.loads(self.path(len(rows), ".json").read_text(encoding="utf-8"))))
        return rows

    def missing(self) -> int:
        """Rounds still to do."""
        return self.plan.rounds + 1 - len(self.rows())

    def rounds(self) -> Iterator[Row]:
        """Does the rounds that are missing."""
        from bundle.label.client import Client  # needs a package that comes with MONAI Label

        if not self.missing():
            return
        first = len(self.rows())
        if not first:  # a first round that was cut may have trained already: begin with the weights given
            shutil.rmtree(self.app, ignore_errors=True)
        self.make_folders()
        if first:  # the same of a later one
            shutil.copyfile(self.path(first - 1, ".pt"), self.weights())
        with Server(self.app, self.studies) as server:
            client = Client(server.url)
            for number in range(first, self.plan.rounds + 1):
                yield self.round(client, number)

    def weights(self) -> Path:
        """The weights that the server predicts with."""
        return self.app / "model" / model_name(self.app) / "models" / "model.pt"

    def make_folders(self) -> None:
        """Copies the images, whose neighbours in the dataset the training must not find, and builds the app."""
        if not self.studies.is_dir():
            part = self.studies.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for name, item in self.pool.items():
                shutil.copyfile(item["image"], part / f"{name}{suffix_of(item['image'])}")
            part.rename(self.studies)
        if not self.app.is_dir():
            build_app(self.app, self.plan.settings)

    def round(self, client: Any, number: int) -> Row:
        """Labels, trains and scores; the round counts when its file is written."""
        started, model = time.monotonic(), model_name(self.app)
        names = self.label(client, self.plan.start + number * self.plan.add)
        labelled = time.monotonic()
        client.train(model, max_epochs=self.plan.epochs, val_split=0, overrides={"seed": 1000 * self.seed + number})
        trained = time.monotonic()
        dice = [
            self.dice(client.infer(model, item["image"], result_extension=".png"), item["label"]) for item in self.test
        ]
        row = Row(
            order=self.order,
            seed=self.seed,
            round=number,
            labelled=self.plan.start + number * self.plan.add,
            dice=sum(dice) / len(dice),
            choose_seconds=round(labelled - started, 1),
            train_seconds=round(trained - labelled, 1),
            infer_seconds=round((time.monotonic() - trained) / len(dice), 3),
            images=" ".join(names),
        )
        shutil.copyfile(self.weights(), self.path(number, ".pt"))
        atomic_write(self.path(number, ".json"), json.dumps(asdict(row), indent=1).encode())
        self.path(number - 1, ".pt").unlink(missing_ok=True)
        return row

    def label(self, client: Any, count: int) -> list[str]:
        """Answers the server's questions until ``count`` images are labelled; the first ones are chosen by the seed.

        Returns:
            The images that were labelled since the last round that is done, by a round that was cut too.
        """
        held = [image for image, entry in client.objects().items() if "final" in entry["labels"]]
        first = sorted(self.pool, key=lambda name: sha256(f"{self.seed} {name}".encode()).digest())[: self.plan.start]
        wanted = [name for name in first if name not in held]
        while wanted or len(held) < count:
            name = wanted.pop(0) if wanted else client.next_image(self.order)["id"]
            client.save_label(name, Path(self.pool[name]["label"]))
            held.append(name)
        before = {name for row in self.rows() for name in row.images.split()}
        return [name for name in held if name not in before]

    def dice(self, answer: bytes, label: str) -> float:
        """Dice of the server's mask, as the bundle defines it, at the size of the image."""
        predicted = torch.as_tensor(read_answer(answer))
        reference = torch.as_tensor(self.reader.get_data(label)[0])
        return float(image_dice(confusion_counts(predicted[None], reference, self.plan.classes()))[0])


def read_answer(answer: bytes) -> np.ndarray:
    """The mask (X, Y) of class indices in a PNG."""
    return np.asarray(Image.open(io.BytesIO(answer))).T.copy()


def suffix_of(path: str) -> str:
    """The suffix of an image, such as ``.nii.gz``."""
    name = Path(path).name
    return name[len(stem(path)) :]
