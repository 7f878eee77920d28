# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Figures of matplotlib as pictures, and pictures as files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from scripts.files import atomic_write, png


def confusion_picture(confusion: np.ndarray, class_names: Sequence[str]) -> Image.Image:
    """The pooled confusion table (K, K), rows reference: share of each row in colour and text, pixels below."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 1.1 * len(class_names)
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        text = f"{share:.1%}\n{int(confusion[i, j]):,}"
        axes.text(j, i, text, ha="center", va="center", fontsize=11, color="white" if share > 0.55 else "black")
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, fontsize=11)
    axes.set_yticks(ticks, class_names, fontsize=11, rotation=90, va="center")
    axes.set_xlabel("prediction", fontsize=12)
    axes.set_ylabel("reference", fontsize=12)
    axes.set_title("share of the reference pixels, and pixels", fontsize=11)
    return rendered(figure)


def rendered(figure: Figure) -> Image.Image:
    """A matplotlib figure as a picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def save(picture: Image.Image, path: Path) -> None:
    """Writes a PNG, making its folder.

    Raises:
        InputError: the folder cannot be made or written.
    """
    atomic_write(path, png(picture, optimize=True))
