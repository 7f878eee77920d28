# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a user sees while images are evaluated or predicted: a progress bar, and overlays on request."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from monai.utils import ImageMetaKey
from tqdm import tqdm

from scripts import distributed, pictures
from scripts.class_names import class_names_or_default
from scripts.data import ImageReader
from scripts.data.files import stem
from scripts.data.volumes import turn_forward
from scripts.switches import as_bool

logger = logging.getLogger("less_net")

MOST_SLICES = 9  # of a volume in one picture


class ImageProgress:
    """A bar over the images, with rate and time left, and a line at the end that says where the results are.

    Args:
        done: what was done and where it lies, for the last line: "masks are in <folder>".
        verb: what happens to the images, for the bar.
        bar: show the bar; default: when the error stream is a terminal.
    """

    def __init__(self, done: str = "", verb: str = "predicting", bar: bool | None = None) -> None:
        self.done, self.verb = done, verb
        self.show_bar = (sys.stderr.isatty() if bar is None else bar) and distributed.is_main()

    def attach(self, engine: Engine) -> None:
        """Opens the bar at the start, moves it with every batch, closes it whatever happens."""
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.COMPLETED, self.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)

    def open(self, engine: Engine) -> None:
        """Starts bar and clock."""
        self.began, self.seconds, self.total = time.perf_counter(), 0.0, len(engine.data_loader.dataset)
        self.bar = tqdm(desc=self.verb, total=self.total, unit="image", disable=not self.show_bar, dynamic_ncols=True)

    def advance(self, engine: Engine) -> None:
        """One batch more; batches need not be equally large."""
        self.seconds = time.perf_counter() - self.began  # not counting what others do at the end
        batch = engine.state.batch  # a list where the evaluator has taken it apart
        self.bar.update(len(batch) if isinstance(batch, list) else len(batch["image"]))

    def close(self, engine: Engine) -> None:
        """Ends the bar and says what was done."""
        self.bar.close()
        rate = self.total / max(self.seconds, 1e-9)
        logger.info("%s: %d images in %.1f s (%.1f a second); %s", self.verb, self.total, self.seconds, rate, self.done)

    def fail(self, engine: Engine, error: BaseException) -> None:
        """Ends the bar before the error is printed; the error goes on."""
        if hasattr(self, "bar"):
            self.bar.close()
        raise error


class Overlays:
    """Draws every predicted mask on its image, read again at its own size, into ``<output_dir>/overlays``.

    Of a volume up to nine slices are drawn in one picture, those that hold the most foreground.

    Args:
        output_dir: folder of the masks.
        num_classes: number of classes, background included.
        channels: channels the images are read with.
        class_names: names for the legend; None: background and lesion, or numbers.
        plane: the plane that volumes are cut in.
        enabled: False does nothing, so that a config can switch it by value.
    """

    def __init__(
        self,
        output_dir: str,
        num_classes: int = 2,
        channels: int = 3,
        class_names: Sequence[str] | None = None,
        plane: str = "auto",
        enabled: bool | str = True,
    ) -> None:
        self.folder, self.enabled = Path(output_dir) / "overlays", as_bool(enabled, "overlays")
        self.reader = ImageReader(channels, volumes=True, plane=plane)
        self.class_names = class_names_or_default(class_names, num_classes)

    def attach(self, engine: Engine) -> None:
        """Draws after every iteration."""
        if self.enabled:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for output in engine.state.output:
            path = str(output["image"].meta[ImageMetaKey.FILENAME_OR_OBJ])
            image, meta = self.reader.get_data(path)
            predicted, name, marked = np.asarray(output["pred"].cpu()), Path(path).name, None
            if predicted.ndim == 3:
                predicted = turn_forward(predicted, meta["source_affine"], meta["plane"])
                slices = fullest_slices(predicted)
                marked = float((predicted[..., slices] > 0).mean())  # of the slices, not of empty places beside them
                image, predicted = montage(image, slices), montage(predicted[None], slices)[0]
                name = f"{name}, {meta['plane']} {slices[0]} to {slices[-1]}"
            overlay = pictures.prediction_overlay(image, predicted, name, self.class_names, marked)
            pictures.save(overlay, self.folder / f"{stem(path)}.png")


def fullest_slices(mask: np.ndarray, most: int = MOST_SLICES) -> list[int]:
    """Indices along Z, in order, of the slices of (X, Y, Z) with the most foreground, filled up from the middle out."""
    pixels, middle = (mask > 0).sum(axis=(0, 1)), (mask.shape[2] - 1) / 2
    order = sorted(range(mask.shape[2]), key=lambda z: (-pixels[z], abs(z - middle)))
    return sorted(order[:most])


def montage(array: np.ndarray, slices: Sequence[int]) -> np.ndarray:
    """The slices of (C, X, Y, Z), left to right and then down, as one (C, columns * X, rows * Y)."""
    columns = math.ceil(math.sqrt(len(slices)))
    channels, width, height, _ = array.shape
    sheet = np.zeros((channels, columns * width, math.ceil(len(slices) / columns) * height), array.dtype)
    for place, z in enumerate(slices):
        left, top = place % columns * width, place // columns * height
        sheet[:, left : left + width, top : top + height] = array[..., z]
    return sheet
