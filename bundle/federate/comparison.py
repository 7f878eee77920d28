# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Each site alone, the federation, and all images in one place, judged on the same test images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bundle.benchmark.statistics import SCORES
from bundle.demo import bundle
from bundle.federate.rounds import Plan
from bundle.federate.sites import Site
from scripts.files import atomic_write
from scripts.handlers.history import rows_to_csv
from scripts.run.folder import BEST, RUN_FILE


def compare(
    sites: Sequence[Site], everything: Site, plan: Plan, output: Path, federate: Callable, alone: bool = True
) -> str:
    """Trains and evaluates what is missing, writes ``table.csv`` and ``table.md``, and returns the latter.

    A site alone, and all images in one place, are trained by the bundle's ordinary command, for as many iterations as
    a site makes in the federation. All are judged on the test images of all sites. The federation comes first: what a
    site or the rule cannot do is told before any other training.
    """
    together = evaluate(federate(sites, plan), everything, plan)
    rows = []
    for site in [site for site in sites if site.counts["training"]] if alone else []:
        weights = train(site, plan, output / "alone" / site.name)
        rows.append(row(f"{site.name} alone", site, evaluate(weights, everything, plan)))
    rows.append(row(f"{len(sites)} sites federated", everything, together))
    if alone:
        weights = train(everything, plan, output / "centralised")
        rows.append(row("centralised", everything, evaluate(weights, everything, plan)))
    atomic_write(output / "table.csv", rows_to_csv(rows).encode())
    text = markdown(rows)
    atomic_write(output / "table.md", text.encode())
    return text


def train(site: Site, plan: Plan, folder: Path) -> Path:
    """An ordinary training, or the rest of one that was cut; its weights."""
    if not (folder / "trained").is_file():
        values = {**plan.settings, "dataset_dir": site.datalist, "max_epochs": plan.rounds * plan.local_epochs}
        resume = {"resume": "true"} if (folder / RUN_FILE).is_file() else {}
        bundle("training", list(plan.files), {**values, "output_dir": folder, **resume})
        (folder / "trained").touch()
    return folder / BEST


def evaluate(weights: Path, everything: Site, plan: Plan) -> dict[str, Any]:
    """The scores of weights on all test images; they are written beside the weights."""
    path = weights.parent / "evaluation" / "metrics.json"
    if not path.is_file():
        values = {**plan.settings, "dataset_dir": everything.datalist, "output_dir": weights.parent}
        bundle("evaluating", [*plan.files, "configs/evaluate.json"], {**values, "ckpt_path": weights})
    return json.loads(path.read_text(encoding="utf-8"))


def row(name: str, site: Site, metrics: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    scores = metrics["scores"]
    return {
        "training": name,
        "labelled": site.counts["training"],
        "unlabelled": site.counts["unlabeled"],
        **{key: scores[key] for key in SCORES if key in scores},
        "test_images": metrics["images"],
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    known = {key: score for key, score in SCORES.items() if key in rows[0]}
    head = ["training", "labelled", "unlabelled", *(heading for heading, _ in known.values())]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in rows:
        shown = ["-" if one[k] is None else f"{factor * one[k]:.1f}" for k, (_, factor) in known.items()]
        lines.append("| " + " | ".join([one["training"], str(one["labelled"]), str(one["unlabelled"]), *shown]) + " |")
    return "\n".join(lines) + f"\n\n{rows[0]['test_images']} test images.\n"
