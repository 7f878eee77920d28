# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of images in, label maps and masks out; and, where there are masks to compare with, scores."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from scripts import overrides, pictures
from scripts.clustering.assignment import ASSIGNMENTS, blind_mask
from scripts.clustering.record import PLACES, claim, damaged
from scripts.clustering.scoring import DEFINITIONS, SCORE_COLUMNS, mean_scores, scores_of, share
from scripts.data import load_datalist
from scripts.data.checks import check_images
from scripts.data.datalist import check_classes
from scripts.data.files import Item, images_by_stem
from scripts.data.layouts import is_listed, read_layout
from scripts.data.reader import IGNORE_INDEX, ImageReader, MaskReader
from scripts.engines.per_image import Fit
from scripts.errors import InputError
from scripts.files import atomic_write, png
from scripts.inputs import images_without_masks, items_to_score, tell_masks
from scripts.run.environment import describe_device, versions
from scripts.switches import as_bool

logger = logging.getLogger("less_net")

SCORES, METRICS = "scores.csv", "metrics.json"
COLUMNS = ("key", "width", "height", "clusters", "iterations", "collapsed", "seconds", "marked", *SCORE_COLUMNS)


class ClusterFolder:
    """Clusters every image of a folder; what is done is kept, so that a cut run goes on where it stood.

    Writes ``labels/<stem>.png`` (cluster indices with a palette, 0 the largest), ``masks/<stem>.png`` (0 and 255, the
    blind choice), ``overlays/<stem>.png``, ``history/<stem>.csv`` (losses and clusters an iteration), ``scores.csv`` (a
    row an image), ``metrics.json`` (where there are masks) and ``clustering.json`` (what was run). Label maps and masks
    have the size of their image.

    Args:
        dataset_dir: folder of images, a folder with ``images`` and, if there are masks, ``masks``, or a data set whose
            images a file names (a datalist, as prepared ones have, or ``pairs.csv``).
        output_dir: folder for the results, outside of the images.
        algorithm: image (1, C, X, Y) in [0, 1] -> :class:`scripts.engines.Fit`.
        masks_dir: folder of masks with the stems of their images, for scores; None: those of the data set, or ``masks``
            beside ``images``.
        part: training, validation or test: of ``dataset_dir``, a data set as for training, only the images with masks
            of this part; None: every image.
        group_pattern: finds the group (patient, video) in the name of an image, where ``part`` asks for a split and the
            data set pins none; as in the training.
        image_size: (X, Y), or one number for both, at which images are clustered.
        in_channels: channels of the images.
        num_classes: classes of the masks, background included; all others together are the object that is scored.
        ignore_value: value in the masks that is no class, beside 255; such pixels count in no score.
        components: of the mask, see :func:`scripts.clustering.blind_mask`.
        seed: of every image, so that its result does not depend on the others. On a GPU, which adds up in no fixed
            order, two runs may still differ.
        overlays: draw the masks on the images.
        device: where to compute.

    Raises:
        InputError: see :meth:`run`.
    """

    def __init__(
        self,
        dataset_dir: str,
        output_dir: str,
        algorithm: Callable[[Tensor], Fit],
        masks_dir: str | None = None,
        part: str | None = None,
        group_pattern: str | None = None,
        image_size: int | Sequence[int] = 256,
        in_channels: int = 3,
        num_classes: int = 2,
        ignore_value: int = IGNORE_INDEX,
        components: int = 0,
        seed: int = 0,
        overlays: bool | str = True,
        device: str | torch.device = "cpu",
    ) -> None:
        self.source, self.output, self.masks_dir = dataset_dir, Path(output_dir), masks_dir
        self.part, self.group_pattern = part, group_pattern
        if not (isinstance(components, int) and components >= 0):
            raise InputError(f"components is {components!r}: give a whole number of at least 0 (all of them)")
        self.algorithm, self.components, self.seed, self.device = algorithm, components, int(seed), device
        self.size = [image_size] * 2 if isinstance(image_size, int) else [int(n) for n in image_size]
        self.image_reader, self.mask_reader = ImageReader(in_channels), MaskReader(num_classes, ignore_value)
        self.channels, self.num_classes, self.ignore_value = in_channels, num_classes, ignore_value
        self.overlays = as_bool(overlays, "overlays")

    def run(self) -> None:
        """Cluster what is not done yet.

        Raises:
            InputError: no folder, no image, an unreadable one, an output folder among the images or of another run.
        """
        items = self.items()
        claim(self.output, self.settings(scored=any("label" in item for item in items)))
        rows = self.finished(items)
        left = [item for item in items if item["key"] not in rows]
        if len(left) < len(items):
            logger.info("%d of %d images are done already, %d are left", len(items) - len(left), len(items), len(left))
        self.write_scores([rows[item["key"]] for item in items if item["key"] in rows])
        for item in tqdm(left, desc="clustering", unit="image", disable=not sys.stderr.isatty(), dynamic_ncols=True):
            rows[item["key"]] = self.cluster(item)
            self.write_scores([rows[item["key"]] for item in items if item["key"] in rows])
        self.write_metrics(list(rows.values()))
        logger.info("%d images clustered; label maps, masks and scores are in %s", len(items), self.output.resolve())

    def items(self) -> list[Item]:
        """The images with their masks, opened once."""
        if not self.source:
            raise InputError("dataset_dir is empty: pass --dataset_dir with the folder of the images to cluster")
        if self.part:
            return self.items_of_part()
        if is_listed(self.source) and not self.masks_dir:
            return self.items_of_listing()
        root = Path(self.source)
        folder = root / "images" if (root / "images").is_dir() else root
        masks_dir = Path(self.masks_dir) if self.masks_dir else root / "masks" if folder != root else None
        masks = images_by_stem(masks_dir) if masks_dir and (self.masks_dir or masks_dir.is_dir()) else {}
        found, passed_over = images_without_masks(folder)
        tell_masks(passed_over)
        items = [{"key": key, "image": str(path), "group": key} for key, path in found.items()]
        if not items:
            raise InputError(
                f"{folder} holds no image (PNG, JPEG, TIFF, BMP or NIfTI): correct dataset_dir, or, for a data set "
                "laid out as for training, add --part all"
            )
        self.check_outside(folder)
        for item in items:
            if item["key"] in masks:
                item["label"] = str(masks[item["key"]])
        if masks and not any("label" in item for item in items):
            raise InputError(f"no mask in {masks_dir} has the stem of an image in {folder}: correct masks_dir")
        self.open_items(items)
        return items

    def items_of_listing(self) -> list[Item]:
        """The images that the file of a data set names, with their masks, opened once."""
        collection = read_layout(self.source, self.group_pattern)
        check_classes(collection, self.num_classes)
        items = list(collection.items.values())
        self.check_all_outside(items)
        self.open_items(items)
        return items

    def open_items(self, items: Sequence[Item]) -> None:
        """Opens images and masks once, and refuses what cannot be read or does not fit."""
        labelled = [item for item in items if "label" in item]
        check_images(labelled, self.num_classes, self.channels, self.ignore_value)
        check_images([item for item in items if "label" not in item], channels=self.channels)

    def items_of_part(self) -> list[Item]:
        """The images and masks of one part of a data set, opened once."""
        if self.masks_dir:
            raise InputError(f"part is {self.part}, whose masks the data set names: leave out masks_dir, or part")
        datalist = load_datalist(
            self.source, num_classes=self.num_classes, group_pattern=self.group_pattern, part=self.part
        )
        items = items_to_score(datalist, self.part, self.num_classes, self.channels, self.ignore_value)
        self.check_all_outside(items)
        return items

    def check_all_outside(self, items: Sequence[Item]) -> None:
        """Refuses to write among any of the images."""
        for folder in sorted({Path(item["image"]).resolve().parent for item in items}):
            self.check_outside(folder)

    def check_outside(self, folder: Path) -> None:
        """Refuses to write among the images of ``folder``."""
        if self.output.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"output_dir {self.output} lies among the images of {folder}: pass another one")

    def settings(self, scored: bool) -> dict[str, Any]:
        """What decides about the clusterings and their scores, as the record holds it."""
        workflow = overrides.running_workflow()
        definition = workflow.parser.get("algorithm") if workflow is not None else type(self.algorithm).__name__
        settings = {"algorithm": definition, "image_size": self.size, "in_channels": self.channels}
        settings |= {"components": self.components, "seed": self.seed, "scored": scored}
        settings |= {"part": self.part, PLACES: self.places()}
        return json.loads(json.dumps(settings, default=str))

    def places(self) -> dict[str, Any]:
        """Which images and masks these are, since two folders may hold the same names, and what their values mean."""
        folders = {"dataset_dir": self.source, "masks_dir": self.masks_dir}
        found = {key: str(Path(value).expanduser().resolve()) if value else None for key, value in folders.items()}
        values = {"num_classes": self.num_classes, "ignore_value": self.ignore_value}
        return found | {"group_pattern": self.group_pattern or None} | values

    def finished(self, items: Sequence[Item]) -> dict[str, dict[str, Any]]:
        """The rows of the images whose pictures and scores are there; the scores are made anew.

        Raises:
            InputError: the table is damaged, as one that a spreadsheet has saved with semicolons.
        """
        path = self.output / SCORES
        if not path.is_file():
            return {}
        try:
            reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
            if "key" not in (reader.fieldnames or ()):
                raise ValueError("no column 'key' between commas")
            rows = {row["key"]: row for row in reader}
        except (OSError, ValueError, csv.Error) as error:
            raise damaged(path, error) from error
        return {
            item["key"]: self.scored_anew(item, rows[item["key"]])
            for item in items
            if item["key"] in rows and all(self.picture(part, item).is_file() for part in ("labels", "masks"))
        }

    def scored_anew(self, item: Item, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row of an image that is done, with the scores of its mask as that is now: it may have been corrected."""
        labels, mask = (np.asarray(Image.open(self.picture(part, item))).T for part in ("labels", "masks"))
        kept = {key: value for key, value in row.items() if key not in SCORE_COLUMNS}
        return kept | self.scores(item, labels.astype(int), mask > 0)

    def picture(self, part: str, item: Item) -> Path:
        """Path of a picture of an image."""
        return self.output / part / f"{item['key']}.png"

    def cluster(self, item: Item) -> dict[str, Any]:
        """Clusters one image, writes its pictures, and returns its row."""
        began = time.perf_counter()
        array = self.image_reader.get_data(item["image"])[0]
        fit, labels = self.fit(array)
        mask = blind_mask(labels, self.components)
        atomic_write(self.picture("labels", item), label_picture(labels))
        atomic_write(self.picture("masks", item), png(Image.fromarray((mask.T * 255).astype(np.uint8))))
        if fit.history:
            atomic_write(self.output / "history" / f"{item['key']}.csv", table(fit.history, list(fit.history[0])))
        if self.overlays:
            name = Path(item["image"]).name
            overlay = pictures.prediction_overlay(array, mask.astype(np.uint8), name, ["background", "object"])
            atomic_write(self.picture("overlays", item), png(overlay))
        row = {"key": item["key"], "width": array.shape[1], "height": array.shape[2], "clusters": fit.clusters}
        row |= {"iterations": fit.iterations, "collapsed": int(fit.collapsed), "marked": share(mask)}
        row["seconds"] = round(time.perf_counter() - began, 2)
        return row | self.scores(item, labels, mask)

    def fit(self, array: np.ndarray) -> tuple[Fit, np.ndarray]:
        """The clustering of an image (C, X, Y), and its labels (X, Y) at the size of the image."""
        torch.manual_seed(self.seed)
        image = torch.as_tensor(array).unsqueeze(0).to(self.device)
        fit = self.algorithm(F.interpolate(image, size=self.size, mode="bilinear", antialias=True).clamp(0, 1))
        labels = F.interpolate(fit.labels[None, None].float(), size=array.shape[1:], mode="nearest-exact")
        return fit, labels[0, 0].long().numpy()

    def scores(self, item: Item, labels: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        """The scores of an image with a mask."""
        return scores_of(labels, mask, self.mask_reader.get_data(item["label"])[0][0]) if "label" in item else {}

    def write_scores(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """All rows so far."""
        atomic_write(self.output / SCORES, table(rows, COLUMNS))

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The means over the images with a reference that is not empty; nothing where there is none."""
        found = mean_scores(rows)
        if not found:
            (self.output / METRICS).unlink(missing_ok=True)  # of masks that have been emptied since
            return
        content = {"images": len(rows), **found, "definitions": DEFINITIONS}
        content |= {"device": describe_device(torch.device(self.device)), "versions": versions()}
        atomic_write(self.output / METRICS, json.dumps(content, indent=1).encode())
        for name in ASSIGNMENTS:
            logger.info("%s: mean Dice %.4f over %d images", name, found["scores"][name]["dice"], found["scored"])


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """The rows as the bytes of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def label_picture(labels: np.ndarray) -> bytes:
    """A PNG of the indices (X, Y) with a palette, so that they can be read and seen."""
    picture = Image.fromarray(labels.T.astype(np.uint8), mode="P")
    colours = [(40, 40, 46), *(pictures.class_colour(k) for k in range(1, 256))]
    picture.putpalette([value for colour in colours for value in colour])
    return png(picture)
