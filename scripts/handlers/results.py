# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves behind: metrics.json, tables of images, volumes and pixels, pictures and report.html."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.handlers import from_engine
from torch import Tensor

from scripts import distributed, metrics, pictures
from scripts.class_names import class_names_or_default
from scripts.data import ImageReader
from scripts.errors import InputError
from scripts.files import atomic_write, check_writable, fitting
from scripts.handlers.history import rows_to_csv
from scripts.handlers.scoring import CaseScores
from scripts.report import absence_note, write_report
from scripts.run.environment import describe_device, versions
from scripts.switches import as_bool

CONFUSION = "confusion.csv"
KINDS = ("best", "median", "worst")
logger = logging.getLogger("less_net")

SCORED_AT = {
    "source": "Scores are taken at the size of each image, with its mask as stored: the network's answers are resized "
    "to it (bilinear) as inference does, so these are the scores of the masks that inference writes.",
    "network": "Scores are taken at the network's input size, as validation during training takes them: images are "
    "resized to it (bilinear), reference masks too (nearest).",
}


class EvaluationResults:
    """Collects what the evaluator predicts and writes the results when it is done.

    Images must come in the order of the data loader's data set (no shuffling). Predictions are kept compressed at the
    size of scoring, some kilobytes an image, for the pictures of the best, median and worst images. These show image
    and masks at that size: with ``source`` the files, with ``network`` what the network saw.

    Args:
        results_dir: where to write; refused if it holds another evaluation, unless ``overwrite``.
        num_classes: number of classes, background included.
        class_names: their names; None: background and lesion, or numbers.
        facts: what metrics.json shall say about the run besides (checkpoint, dataset).
        overwrite: replace an evaluation that is already there.
        items: the images (:class:`scripts.handlers.scoring.CaseScores`); None: those of the data loader's data set.
        score_size: ``source`` or ``network``, see :data:`SCORED_AT`.
        ignore_value: value in the mask files that is no class, beside 255.
        cases: pictures of each kind (best, median, worst).
        output_transform: turns the engine's output into (logits (B, C, X, Y), label (B, 1, X, Y)).

    Raises:
        InputError: ``cases`` is no whole number of at least 0; at the start of the engine: the folder holds another
            evaluation, or cannot be written.
    """

    def __init__(
        self,
        results_dir: str,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        facts: Mapping[str, Any] | None = None,
        overwrite: bool | str = False,
        cases: int = 4,
        items: Sequence[Mapping[str, str]] | None = None,
        score_size: str = "source",
        ignore_value: int = metrics.IGNORE_INDEX,
        output_transform: Callable = from_engine(["pred", "label"]),
    ) -> None:
        if isinstance(cases, bool) or not isinstance(cases, int) or cases < 0:
            raise InputError(f"cases is {cases!r}: give a whole number of at least 0")
        self.folder, self.num_classes, self.cases = Path(results_dir), num_classes, cases
        self.class_names = class_names_or_default(class_names, num_classes)
        self.facts, self.overwrite = dict(facts or {}), as_bool(overwrite, "overwrite")
        self.items, self.score_size, self.ignore_value = items, score_size, ignore_value
        self.output_transform = output_transform

    def attach(self, engine: Engine) -> None:
        """Checks the folder at the start, collects every iteration, writes at the end."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.gather)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Refuses a folder that holds the results of another process, and starts the clock."""
        distributed.from_main(self.check)
        self.overwrite = True  # a later round of this very run, as in federated learning, replaces its own results
        self.began, self.keys, self.masks = time.perf_counter(), [], []
        items = engine.data_loader.dataset.data if self.items is None else self.items
        self.scores = CaseScores(items, self.num_classes, self.score_size, self.ignore_value)

    def check(self) -> None:
        """Refuses a folder that holds an evaluation, or that takes no files."""
        if (self.folder / "metrics.json").exists() and not self.overwrite:
            raise InputError(
                f"results_dir {self.folder} holds another evaluation: pass --overwrite true or another --results_dir"
            )
        check_writable(self.folder, "results_dir")

    def collect(self, engine: Engine) -> None:
        """Counts and measures one batch."""
        logits, label = (tensor.detach().as_subclass(Tensor) for tensor in self.output_transform(engine.state.output))
        for key, one, other in zip(engine.state.batch["key"], logits, label):
            predicted = self.scores.add(key, one, other)
            self.keys.append(key)
            self.masks.append(zlib.compress(predicted.numpy().astype(np.uint8).tobytes(), 1))

    def gather(self, engine: Engine) -> None:
        """Brings the shares of all processes together, in the order of the data set."""
        if not distributed.active():
            return
        self.scores.join(distributed.gathered_objects(self.scores.share(self.keys)))
        masks = {
            key: mask
            for one in distributed.gathered_objects(dict(zip(self.keys, self.masks)))
            for key, mask in one.items()
        }
        self.keys = [key for key in self.scores.items if key in masks]
        self.masks = [masks[key] for key in self.keys]

    @distributed.main_only
    def write(self, engine: Engine) -> None:
        """Writes every file of the evaluation."""
        seconds, scores = time.perf_counter() - self.began, self.scores
        dataset, confusion = engine.data_loader.dataset, torch.stack(scores.tables)
        names = [str(item["image"]) for item in dataset.data]
        summary = self.summary(seconds, engine.state.device)
        text = json.dumps(summary, indent=2, allow_nan=False)
        atomic_write(self.folder / "metrics.json", text.encode())
        if note := absence_note(summary):
            logger.warning("%s", note)
        heads = [{"key": key, "image": name} for key, name in zip(self.keys, names)]
        if scores.volumes:  # beside slices of volumes there may be images that belong to none
            heads = [head | {"volume": scores.items[head["key"]].get("volume", "")} for head in heads]
        rows = score_rows(heads, confusion, torch.stack(scores.distances))
        atomic_write(self.folder / "per_image.csv", rows_to_csv(rows).encode())
        self.write_volumes(confusion)
        counts = confusion_rows(scores.case_names(self.keys), scores.case_tables())
        atomic_write(self.folder / CONFUSION, rows_to_csv(counts).encode())
        self.draw(confusion, dataset, names)
        write_report(self.folder)

    def write_volumes(self, confusion: Tensor) -> None:
        """Writes per_volume.csv where images are slices of volumes, and removes an older one where they are not."""
        path, volumes = self.folder / "per_volume.csv", self.scores.volumes
        if not volumes:
            path.unlink(missing_ok=True)
            return
        heads = [{"volume": volume, "slices": len(indices)} for volume, indices in volumes.items()]
        tables = torch.stack([confusion[indices].sum(0) for indices in volumes.values()])
        rows = score_rows(heads, tables, self.scores.volume_rows_distances())
        atomic_write(path, rows_to_csv(rows).encode())

    def summary(self, seconds: float, device: torch.device) -> dict[str, Any]:
        """The content of metrics.json."""
        tables, distances = self.scores.case_tables(), self.scores.case_distances()
        scores = metrics.overlap_scores(tables) | metrics.distance_scores(distances[:, 0], distances[:, 1])
        sizes = self.scores.sizes
        return self.facts | {
            "scores": {key: _finite(value) for key, value in scores.items()},
            "distance_unit": self.scores.unit,
            "classes": class_rows(tables, distances, self.class_names),
            "absent_classes": metrics.absent_classes(tables),
            "mean_dice_without_absent": _finite(metrics.mean_dice_without_absent(tables)),
            "images": len(self.keys),
            "images_with_lesion": int(metrics.has_lesion(torch.stack(self.scores.tables)).sum()),
            "volumes": len(self.scores.volumes),
            "cases": len(tables),
            "cases_with_lesion": int(metrics.has_lesion(tables).sum()),
            "scored_at": {
                "size": list(next(iter(sizes))) if len(sizes) == 1 else None,
                "score_size": self.score_size,
                "how": SCORED_AT[self.score_size],
            },
            "definitions": metrics.DEFINITIONS,
            "seconds": round(seconds, 2),
            "device": describe_device(device),
            "versions": versions(),
        }

    def draw(self, confusion: Tensor, dataset: Any, names: Sequence[str]) -> None:
        """Writes the overlays, the two sheets and the confusion table."""
        dice, overlays = metrics.image_dice(confusion), self.folder / "overlays"
        chosen = choose_cases(dice, metrics.has_lesion(confusion), self.cases)
        for old in [path for kind in KINDS for path in overlays.glob(f"{kind}_*_*.png")]:  # not those of an inference
            old.unlink()
        rows: dict[str, list[pictures.Case]] = {}
        for kind, indices in chosen.items():
            for rank, i in enumerate(indices, 1):
                case = self.case(i, float(dice[i]), dataset[i], Path(names[i]).name)
                panel = pictures.case_panel(case, self.class_names)
                name = fitting(Path(str(self.keys[i])).name, len(f"{kind}_{rank}_.png"))
                pictures.save(panel, overlays / f"{kind}_{rank}_{name}.png")
                rows.setdefault(kind.capitalize(), []).append(case)
        for name in ("cases.png", "errors.png"):
            (self.folder / name).unlink(missing_ok=True)
        if rows:  # --cases 0 shows no image
            pictures.save(pictures.contact_sheet(rows, self.class_names), self.folder / "cases.png")
            worst = {"Worst": rows.get("Worst", next(iter(rows.values())))}
            pictures.save(pictures.error_sheet(worst), self.folder / "errors.png")
        pooled = confusion.sum(0).numpy()
        pictures.save(pictures.confusion_picture(pooled, self.class_names), self.folder / "confusion.png")

    def case(self, i: int, dice: float, item: Mapping[str, Any], name: str) -> pictures.Case:
        """Image ``i`` of the data set with the prediction that was scored; ``item`` as the network got it."""
        image, reference = item["image"], item["label"]
        if self.score_size == "source":
            source = self.scores.items[self.keys[i]]
            image, _ = ImageReader(len(image)).get_data(source["image"])
            reference = self.scores.stored_mask(source)
        image, reference = np.asarray(image, np.float32), np.asarray(reference)[0]
        predicted = np.frombuffer(zlib.decompress(self.masks[i]), np.uint8).reshape(reference.shape)
        return pictures.Case(name, dice, image, reference, predicted)


def choose_cases(dice: Tensor, lesion: Tensor, count: int) -> dict[str, list[int]]:
    """Indices of the best, median and worst images, at most ``count`` each and none of them twice.

    The worst are chosen among all images; best and median among those with a lesion, because an empty image that is
    rightly left empty shows nothing.
    """
    order = torch.argsort(dice, stable=True).tolist()
    count = min(count, max(1, len(order) // 3))
    worst = order[:count]
    ranked = [i for i in order if lesion[i]]
    best = [i for i in ranked[::-1] if i not in worst][:count]
    others = [rank for rank, i in enumerate(ranked) if i not in worst and i not in best]
    middle = sorted(sorted(others, key=lambda rank: abs(rank - len(ranked) // 2))[:count], reverse=True)
    chosen = dict(zip(KINDS, (best, [ranked[rank] for rank in middle], worst)))
    return {kind: indices for kind, indices in chosen.items() if indices}


def _finite(value: float) -> float | None:
    """JSON has no NaN: a score without value is null."""
    return value if math.isfinite(value) else None


def class_rows(confusion: Tensor, distances: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Scores of every foreground class: Dice over all cases and those that hold the class, the others pooled."""
    dice, pooled = metrics.class_dice(confusion), confusion.sum(0)
    present = confusion.sum(-1) > 0
    rows = []
    for k, name in list(enumerate(names))[1:]:
        values = {
            "dice": dice[:, k].mean(),
            "dice_where_present": dice[present[:, k], k].mean(),
            "iou": metrics.class_iou(pooled, empty=math.nan)[k],
            "recall": metrics.class_recall(pooled)[k],
            "precision": metrics.class_precision(pooled)[k],
            "hd95": distances[:, 0, k - 1].nanmean(),
            "assd": distances[:, 1, k - 1].nanmean(),
        }
        row = {key: _finite(float(value)) for key, value in values.items()}
        rows.append({"class": k, "name": name, "cases": int(present[:, k].sum())} | row)
    return rows


def confusion_rows(names: Sequence[str], confusion: Tensor) -> list[dict[str, Any]]:
    """One row a case: its pixels of every pair of classes, ``pixels_<reference>_<predicted>``; all overlap scores
    follow from them."""
    return [
        {"case": name} | {f"pixels_{r}_{p}": count for r, line in enumerate(table) for p, count in enumerate(line)}
        for name, table in zip(names, confusion.tolist())
    ]


def read_confusion(path: Path) -> dict[str, list[list[int]]]:
    """The table (K, K) of every case, rows the reference class, from the file of :func:`confusion_rows`."""
    tables = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            name, *counts = row.values()
            classes = math.isqrt(len(counts))
            numbers = iter(map(int, counts))
            tables[name] = [[next(numbers) for _ in range(classes)] for _ in range(classes)]
    return tables


def score_rows(heads: Sequence[Mapping[str, Any]], confusion: Tensor, distances: Tensor) -> list[dict[str, Any]]:
    """One row an image or volume, after its head; with several foreground classes their mean, then a column a class."""
    dice, iou = metrics.class_dice(confusion), metrics.class_iou(confusion)
    recall, precision = metrics.class_recall(confusion), metrics.class_precision(confusion)
    rows = []
    for i, (head, table) in enumerate(zip(heads, confusion)):
        means = {
            "dice": dice[i, 1:].mean(),
            "iou": iou[i, 1:].mean(),
            "recall": recall[i, 1:].nanmean(),
            "precision": precision[i, 1:].nanmean(),
            "hd95": distances[i, 0].nanmean(),
            "assd": distances[i, 1].nanmean(),
        }
        if len(table) > 2:
            means |= {f"dice_{k}": dice[i, k] for k in range(1, len(table))}
        pixels = {"reference_pixels": int(table[1:].sum()), "predicted_pixels": int(table[:, 1:].sum())}
        texts = {column: "" if value.isnan() else f"{value:.6f}" for column, value in means.items()}
        rows.append({**head} | texts | pixels)
    return rows
