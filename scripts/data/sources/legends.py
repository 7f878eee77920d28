# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Legends that annotation programs write beside their masks: which value or colour is which class.

Sources: CVAT's format "Segmentation mask" (``labelmap.txt``), Roboflow's "semantic segmentation masks"
(``_classes.csv``), labelme's ``labelme2voc`` (``class_names.txt``), and the tables of CamVid (``class_dict.csv``,
``label_colors.txt``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from scripts.data.listings import column_word, read_lines, read_rows
from scripts.data.sources.tree import Tree
from scripts.errors import InputError

TABLES = ("_classes.csv", "class_dict.csv", "label_colors.csv")
TEXTS = ("labelmap.txt", "label_colors.txt", "class_names.txt")
DEPTH = 2  # folders below the root: VOCdevkit/VOC2007, train
COLUMNS = {
    "name": "name class label",
    "value": "pixel_value value",
    "red": "r red",
    "green": "g green",
    "blue": "b blue",
}
CVAT_LINE = re.compile(r"(?P<name>[^:]+):\s*(?P<rgb>\d+\s*,\s*\d+\s*,\s*\d+)\s*(:.*)?$")
CAMVID_LINE = re.compile(r"(?P<rgb>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)$")

Legend = dict[str, str]  # names by mask value, written as --values takes it, in the order of the file


def read_legend(tree: Tree) -> tuple[str, Legend]:
    """The legend at the top of a folder: its file, and the names of its mask values; ``""`` and none without one.

    The first one is taken, with what others of the same file name add, as those of exports side by side do.

    Raises:
        InputError: a legend cannot be read, names a value twice, or two of them name a value differently.
    """
    folders = [folder for folder in tree.folders if folder.count("/") < DEPTH]
    first, legend = None, {}
    for folder in sorted(folders, key=lambda one: (one != "", one.count("/"), one)):
        for name in (*TEXTS, *TABLES) if first is None else (first.name,):
            path = Path(tree.path(folder), name)
            if path.is_file() and (more := _legend(path)):
                first = first or path
                if clash := next((value for value, called in more.items() if legend.get(value, called) != called), ""):
                    raise InputError(
                        f"{path} calls {clash} '{more[clash]}', but {first} calls it '{legend[clash]}': prepare the "
                        "folders one by one, or correct or remove one of the files."
                    )
                legend = legend | more
                break
    return str(first or ""), legend


def _legend(path: Path) -> Legend:
    legend: Legend = {}
    for name, value in _rows(path) if path.name in TABLES else _lines(path):
        if value in legend:
            raise InputError(f"{path} gives '{legend[value]}' and '{name}' the same value: correct or remove it.")
        legend[value] = name
    return legend


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Names and values of a table; nothing if it has other columns."""
    rows = read_rows(path)
    words = {column_word(column): column for column in (rows[0] if rows else ())}
    columns = {
        part: next((words[word] for word in known.split() if word in words), "") for part, known in COLUMNS.items()
    }
    parts = [("value",), ("red", "green", "blue")]
    wanted = next((part for part in parts if all(columns[one] for one in part)), None)
    if wanted is None or not columns["name"]:
        return
    for row in filter(lambda one: any(one.values()), rows):
        numbers = [row[columns[one]] for one in wanted]
        if not all(number.isdecimal() for number in numbers):
            raise InputError(f"{path} has the value '{' '.join(numbers)}': correct or remove it.")
        yield row[columns["name"]], _written(numbers)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Names and values of a text file, one class a line; nothing from lines of another form."""
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    if path.name == "class_names.txt":
        names = [name for name in lines if name != "__ignore__"]  # which labelme saves as 255
        if names[:1] == ["_background_"]:  # as labelme demands; without it a list begins at nobody knows which value
            yield from ((name.strip("_") if not index else name, str(index)) for index, name in enumerate(names))
        return
    pattern = CVAT_LINE if path.name == "labelmap.txt" else CAMVID_LINE
    for match in filter(None, map(pattern.match, lines)):
        yield match["name"].strip(), _written(re.findall(r"\d+", match["rgb"]))


def _written(numbers: list[str]) -> str:
    """A grey value, or red, green and blue, as ``--values`` writes it: 85 or #ff0000."""
    return str(int(numbers[0])) if len(numbers) == 1 else "#" + "".join(f"{int(number):02x}" for number in numbers)
