# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What is kept of a run: one small JSON without any path of the machine, from which every table and plot is made.

It lies in the run's folder as ``result.json``, and as ``runs/<run>.json`` where results were published.
"""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate
from math import fsum
from pathlib import Path
from typing import Any

from bundle.benchmark.commands import CLUSTERS, commands, first
from bundle.benchmark.lists import Lists, other_images
from bundle.benchmark.suite import ROOT, Run
from scripts.clustering.record import PLACES as IMAGE_PLACES
from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.handlers.results import CONFUSION, read_confusion
from scripts.run.folder import HISTORY, RUN_FILE

RESULT = "result.json"
PUBLISHED = "runs"
SCORE_DIGITS, CASE_DIGITS = 6, 4
#: arguments that say where a run lies, or how it was cut, not what it computes
PLACES = ("output_dir", "resume", "ckpt_path", "overwrite")
#: the dots in a published command
DATA, OUTPUT = "data", "output"


def collect(run: Run, folder: Path) -> dict[str, Any]:
    """The result of a run from the files that its commands left in ``folder``."""
    found = (clustered if run.kind == "clustering" else trained)(folder)
    return {
        **{key: getattr(run, key) for key in ("data", "network", "method", "label_ratio", "seed", "part")},
        "scores": {key: rounded(value, SCORE_DIGITS) for key, value in found.pop("scores").items()},
        "commit": commit(),
        "commands": public_commands(run),
        **found,
    }


def trained(folder: Path) -> dict[str, Any]:
    """What a training and its evaluation found and took."""
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    return {
        **{key: metrics[key] for key in ("scores", "images", "device", "versions")},
        "train_minutes": round(sum(seconds(history(folder))) / 60, 3),
        "evaluate_seconds": metrics["seconds"],
        "network_parameters": record["network_parameters"],
        **details(folder),
    }


def clustered(folder: Path) -> dict[str, Any]:
    """What a clustering found and took; nothing is trained before, and there is no validation to choose by.

    ``mean_dice`` and the cases are of the mask that is chosen without the reference; where that is empty, Dice is 1 for
    an empty mask and 0 else, as everywhere. The oracles, over the images with a lesion, know the reference.

    Raises:
        InputError: no image has a lesion.
    """
    path = folder / CLUSTERS / "metrics.json"
    if not path.is_file():
        raise InputError(
            f"no image in {path.with_name('scores.csv')} has a lesion to score: name a data set with some in this part"
        )
    metrics = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["key"]: row for row in read_rows(folder / CLUSTERS / "scores.csv")}
    empty = [key for key, row in rows.items() if not row["blind_dice"]]
    cases = {key: float(row["blind_dice"] or float(row["marked"]) == 0) for key, row in rows.items()}
    scores = {f"{name}_dice": values["dice"] for name, values in metrics["scores"].items() if name != "blind"}
    scores |= {"mean_dice": fsum(cases.values()) / len(cases), "mean_dice_lesion": metrics["scores"]["blind"]["dice"]}
    record = json.loads((folder / CLUSTERS / "clustering.json").read_text(encoding="utf-8"))
    return {
        "scores": scores,
        **{key: metrics[key] for key in ("images", "device", "versions")},
        "train_minutes": round(sum(seconds(list(rows.values()))) / 60, 3),
        "evaluate_seconds": 0.0,
        "network_parameters": None,
        "definitions": fingerprint({key: value for key, value in record.items() if key not in ("seed", IMAGE_PLACES)}),
        "validation": {"minutes": [], "iteration": [], "val_mean_dice": []},
        "empty": empty,
        "cases": {key: rounded(value, CASE_DIGITS) for key, value in cases.items()},
    }


def public_commands(run: Run) -> dict[str, str]:
    """The commands of a run, data below ``data``, results in ``output``, of any other place the name alone."""
    settings = {key: nameless(value) for key, value in run.settings.items()}
    run = replace(run, settings=settings, configs=tuple(map(nameless, run.configs)))
    return {name: " ".join(map(quoted, map(str, line))) for name, line in commands(run, OUTPUT, DATA).items()}


def nameless(value: Any) -> Any:
    """Of a path that says where something lies on this machine, which is nobody else's business, the last part."""
    outside = isinstance(value, str) and (Path(value).is_absolute() or ".." in Path(value).parts)
    return Path(value).name if outside else value


def quoted(word: str) -> str:
    """A word for the shell; lists of files in double quotes, which people can read."""
    if "'" in word and not any(sign in word for sign in '"$`\\!'):
        return f'"{word}"'
    harmless = word.startswith("--") and shlex.quote(word.replace("#", "")) == word.replace("#", "")
    return word if harmless else shlex.quote(word)


def details(folder: Path) -> dict[str, Any]:
    """What the tables of a run's folder hold: the lists of images, validations, and Dice by case.

    ``lists`` has the number and fingerprint of each part; ``definitions`` the fingerprint of what the configs said of
    network, method, optimiser, schedule, views and preprocessing; ``validation`` for each validation the minutes of
    training until its end, the iteration and the Dice; ``cases`` the Dice of volumes, and of images that belong to
    none; ``empty`` the names of those whose reference holds no lesion; ``confusion`` the pixels of each case, rows the
    reference class, columns the predicted one (where the evaluation wrote them).
    """
    cases, confusion = list(case_rows(folder / "evaluation")), folder / "evaluation" / CONFUSION
    record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    rows = history(folder)
    checked = [n for n, row in enumerate(rows) if row.get("val_mean_dice")]
    minutes = list(accumulate(seconds(rows)))
    return {
        "distance_unit": metrics["distance_unit"],
        "lists": record["data"],
        "definitions": fingerprint(record.get("definitions")),
        "validation": {
            "minutes": [round(minutes[n] / 60, 3) for n in checked],
            "iteration": [int(rows[n]["iteration"]) for n in checked],
            "val_mean_dice": [rounded(float(rows[n]["val_mean_dice"]), CASE_DIGITS) for n in checked],
        },
        "empty": [name for name, row in cases if not int(row["reference_pixels"])],
        "cases": {name: rounded(float(row["dice"]), CASE_DIGITS) for name, row in cases},
        **({"confusion": read_confusion(confusion)} if confusion.is_file() else {}),
    }


def fingerprint(value: Any) -> str:
    """16 digits that are the same for the same value."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def case_rows(folder: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Name and row of every case of an evaluation, volumes first, as the scores count them."""
    volumes = read_rows(folder / "per_volume.csv") if (folder / "per_volume.csv").is_file() else []
    yield from ((row["volume"], row) for row in volumes)
    for row in read_rows(folder / "per_image.csv"):
        # tables of before the column `volume` hold no lone images beside volumes
        if not row.get("volume", "yes" if volumes else ""):
            yield row["key"], row


def history(folder: Path) -> list[dict[str, str]]:
    """The rows of history.csv."""
    return read_rows(folder / HISTORY)


def seconds(rows: Sequence[Mapping[str, str]]) -> list[float]:
    """Seconds of each epoch, validation included."""
    return [float(row["seconds"]) for row in rows]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def rounded(value: float | None, digits: int) -> float | None:
    """The value with so many decimals; None stays None."""
    return None if value is None else round(value, digits)


def write(result: Mapping[str, Any], path: Path) -> None:
    """Writes a result, one line a key: small, and readable in a diff."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in result.items())
    atomic_write(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read(path: Path) -> dict[str, Any]:
    """A result; one of before results held their cases is completed from the run's folder.

    Raises:
        InputError: the file is damaged, or its run's folder lacks the tables that it needs.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if "cases" in result:
            return result
        scores = {key: rounded(value, SCORE_DIGITS) for key, value in result["scores"].items()}
        return {**result, "scores": scores, **details(path.parent)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged or not whole ({error}): remove it, and the run is made again.") from error


def find(
    run: Run,
    folders: Sequence[Path],
    tell: Callable[[str], None] = print,
    lists: Callable[[Run], Lists | None] = lambda _: None,
) -> dict[str, Any] | None:
    """The result of a run in the first folder that has it, made with the settings and the images that it has now.

    Args:
        run: of the suite.
        folders: each the output or the published results of a suite.
        tell: takes one line for a result that was made with other settings or images, which is another run's.
        lists: the images that a run would use now; None where that is not known.
    """
    for folder in folders:
        for path in (folder / run.name / RESULT, folder / PUBLISHED / f"{run.name}.json"):
            if path.is_file():
                result = read(path)
                changed = difference(run, first(result["commands"])[1]) or part_changed(run, result)
                changed = changed or other_images(lists(run), result.get("lists"))
                if not changed:
                    return {**result, "commands": public_commands(run)}
                tell(f"{path}: {changed}; this is another run and does not count")
    return None


def part_changed(run: Run, result: Mapping[str, Any]) -> str:
    """What is scored now and then, where it differs."""
    return "" if run.part == result["part"] else f"part is {run.part} now, was {result['part']}"


def difference(run: Run, command: str) -> str:
    """The first setting in which a first command differs from that of the run; empty where they are the same."""
    ours, theirs = (arguments(shlex.split(text)) for text in (first(public_commands(run))[1], command))
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            return f"{key} is {ours.get(key, 'not set')} now, was {theirs.get(key, 'not set')}"
    return ""


def arguments(words: Sequence[str]) -> dict[str, str]:
    """``--key value`` pairs of a command, without places; of the data set's folder and of paths the name."""
    first = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    pairs = dict(zip((word.removeprefix("--") for word in words[first::2]), words[first + 1 :: 2]))
    if "dataset_dir" in pairs:
        pairs["dataset_dir"] = Path(pairs["dataset_dir"]).name
    if "config_file" in pairs:
        pairs["config_file"] = str([nameless(config) for config in literal_eval(pairs["config_file"])])
    return {key: nameless(value) for key, value in pairs.items() if key not in PLACES}


def commit() -> str:
    """The commit of the bundle, with + if it was changed since; empty where there is no git."""
    try:
        options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **options).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **options).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")
