# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a data set: samples with their masks, sizes of the lesions, shares of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter
from PIL import Image

from scripts import pictures
from scripts.class_names import completed_class_names
from scripts.data.checks import LISTS
from scripts.data.decode import decode
from scripts.data.files import Item
from scripts.data.reader import IGNORE_INDEX, ImageReader, MaskReader
from scripts.data.survey import Survey
from scripts.data.tallies import shares
from scripts.errors import InputError

SAMPLES = 16


def draw_survey(found: Survey, output: Path) -> list[Path]:
    """Writes the pictures of a survey that have something to show, and returns their paths."""
    names = completed_class_names(found.class_names, found.num_classes)
    drawn = {"samples.png": sample_sheet(found, names)}
    square_mm = found.all_sizes("square_mm")
    drawn["lesion_sizes.png"] = size_histogram(found.all_sizes(), square_mm, names) if found.all_sizes() else None
    counts = {name: tally.counts[: found.num_classes] for name, tally in found.tallies.items() if tally.masks}
    drawn["class_shares.png"] = share_bars(counts, names) if counts else None
    paths = [output / name for name, picture in drawn.items() if picture is not None]
    for path in paths:
        pictures.save(drawn[path.name], path)
    return paths


def sample_sheet(found: Survey, class_names: Sequence[str]) -> Image.Image | None:
    """Up to sixteen images spread over the lists, with the outline and a light filling of each lesion."""
    labels = MaskReader(found.num_classes, found.ignore_value)
    rows: dict[str, list[Image.Image]] = {}
    lists = [name for name in LISTS if found.lists[name]]
    for name in lists:
        wanted = SAMPLES // len(lists)
        columns = min(wanted, 5) if len(lists) > 2 else 4
        cells = [_cell(item, labels) for item in _spread(found.lists[name], wanted)]
        cells = [cell for cell in cells if cell is not None]
        for start in range(0, len(cells), columns):
            heading = f"{name} ({len(found.lists[name])})" if not start else " " * (len(rows) + 1)
            rows[heading] = cells[start : start + columns]
    ignored = any(tally.counts[IGNORE_INDEX] for tally in found.tallies.values())
    legend = [*pictures.class_legend(class_names), *([("ignored", pictures.FAINT)] if ignored else [])]
    return pictures.sheet(rows, legend) if rows else None


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` items at equal distances."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def _cell(item: Item, labels: MaskReader) -> Image.Image | None:
    """One image with its mask, where there is one; None where the image cannot be read."""
    try:
        values = decode(item["image"])
        image = ImageReader(len(values.array)).convert(values, item["image"])
    except InputError:
        return None
    try:
        mask = labels.get_data(item["label"])[0][0] if item.get("label") else np.zeros(image.shape[1:], np.uint8)
    except InputError:
        mask = np.zeros(image.shape[1:], np.uint8)
    rgb, (rows,) = pictures.scaled(image, pictures.SHEET_SIDE, (mask,))
    tile = rgb.copy()
    pictures.draw_mask(tile, rows, pictures.FILL)
    lesion = (mask > 0) & (mask != IGNORE_INDEX)
    return pictures.sheet_cell(
        tile, Path(item["image"]).name, f"{lesion.mean():.1%}" if item.get("label") else "no mask"
    )


def size_histogram(
    pixels: Mapping[int, np.ndarray], square_mm: Mapping[int, np.ndarray], class_names: Sequence[str]
) -> Image.Image:
    """How many lesions have which size, by class, on a logarithmic axis; a second panel in mm2 where that is known."""
    panels = [("pixels", pixels), ("mm²", square_mm)][: 2 if square_mm else 1]
    figure = Figure(figsize=(7.5 * len(panels), 4.2), dpi=120, layout="constrained")
    for axes, (unit, sizes) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels):
        everything = np.concatenate(list(sizes.values()))
        low, high = everything.min(), max(everything.max(), everything.min() * 1.1)
        bins = np.geomspace(low, high * 1.001, 31)
        for k, values in sizes.items():
            colour = np.array(pictures.class_colour(k)) / 255
            label = f"{class_names[k]}: {len(values):,}, median {np.median(values):,.4g} {unit}"
            axes.hist(values, bins, color=(*colour, 0.35), edgecolor=colour * 0.75, histtype="stepfilled", label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if high > 30 * low else (1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"size of a lesion [{unit}]", fontsize=12)
        axes.set_ylabel("lesions", fontsize=12)
        axes.set_ylim(0, axes.get_ylim()[1] * (1.12 + 0.09 * len(sizes)))  # room for the legend
        axes.legend(fontsize=10, frameon=False, loc="upper left")
        axes.spines[["top", "right"]].set_visible(False)
    return pictures.rendered(figure)


def share_bars(counts: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Image.Image:
    """The share of each foreground class in the pixels of each list, as bars with their figures."""
    classes = range(1, len(class_names))
    figure = Figure(figsize=(7.5, 1.4 + 0.34 * len(counts) * len(classes)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(classes)
    for k in classes:
        values = [shares(list_counts)[k] for list_counts in counts.values()]
        places = np.arange(len(counts)) + (k - 1) * height
        colour = np.array(pictures.class_colour(k)) / 255
        bars = axes.barh(places, values, height * 0.9, color=colour, edgecolor=colour * 0.75, label=class_names[k])
        axes.bar_label(bars, [f"{value:.2%}" for value in values], padding=4, fontsize=10)
    axes.set_yticks(np.arange(len(counts)) + (len(classes) - 1) * height / 2, list(counts), fontsize=12)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.margins(x=0.15)
    axes.set_xlabel("share of the pixels (the rest is background)", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    if len(classes) > 1:
        figure.legend(loc="outside upper left", ncols=min(4, len(classes)), fontsize=10, frameon=False)
    return pictures.rendered(figure)


def scribble_sheet(
    cases: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]], class_names: Sequence[str]
) -> Image.Image:
    """Scribbles in pairs, the expert's on the left, the made ones on the right, over image and mask.

    Args:
        cases: name, image (C, X, Y) in [0, 1], mask, expert's scribble and made scribble (X, Y).
        class_names: of all classes; in a scribble their number stands where there is no stroke.
    """
    cells = []
    for name, image, mask, expert, made in cases:
        for scribble, whose in ((expert, "expert"), (made, "made")):
            rgb, (classes, strokes) = pictures.scaled(image, pictures.SHEET_SIDE, (mask, scribble))
            tile = (rgb * 0.6).astype(np.uint8)
            for k in range(len(class_names)):
                colour = np.array(pictures.class_colour(k) if k else pictures.PAPER)
                if k:
                    tile[classes == k] = (tile[classes == k] * 0.7 + colour * 0.3).astype(np.uint8)
                tile[strokes == k] = colour
            cells.append(pictures.sheet_cell(tile, name, whose))
    rows = {" " * (start + 1): cells[start : start + 4] for start in range(0, len(cells), 4)}
    return pictures.sheet(rows, [("background", pictures.PAPER), *pictures.class_legend(class_names)])
