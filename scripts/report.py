# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page about a run, made from the files that the run left behind.

Pictures are embedded, nothing is loaded from elsewhere: the page can be mailed or archived as it is.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.errors import InputError
from scripts.files import atomic_write
from scripts.run.folder import HISTORY, RUN_FILE, is_of_run

HEADLINE = ("mean_dice", "mean_dice_lesion", "worst_decile_dice", "miou", "mean_recall", "hd95")
TITLES = {
    "mean_dice": "Mean Dice",
    "mean_dice_lesion": "Mean Dice, cases with lesion",
    "worst_decile_dice": "Dice, worst 10 %",
    "miou": "mIoU",
    "mean_recall": "Mean recall",
    "hd95": "HD95",
    "assd": "ASSD",
    "distance_left_out": "Pairs without a distance",
}
DISTANCES = ("hd95", "assd")
JPEG_ABOVE = 150_000  # bytes of a PNG above which the page holds a JPEG instead

STYLE = """
:root { color-scheme: light; --ink: #1c1c1e; --faint: #5f5f68; --line: #dcdce2; --soft: #f5f6f8; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink); }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 38px 0 10px; }
p { margin: 4px 0 12px; } .faint { color: var(--faint); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; margin: 22px 0; }
.tile { background: var(--soft); border-radius: 8px; padding: 12px 14px; border-left: 4px solid var(--accent); }
.tile b { display: block; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 13px; }
table { border-collapse: collapse; width: 100%; margin: 6px 0 12px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; font-size: 13px; color: var(--faint); }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; } td.d { color: var(--faint); font-size: 13.5px; }
td.v { overflow-wrap: anywhere; font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 13px; }
pre { background: var(--soft); border-radius: 6px; padding: 12px; overflow-x: auto; font-size: 12.5px; }
img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; display: block; margin: 8px 0; }
img.small { max-width: 440px; } details { margin: 10px 0; } summary { cursor: pointer; color: var(--accent); }
@media print { details > * { display: block; } main { max-width: none; } }
"""


def write_report(folder: str | Path) -> Path:
    """Writes ``report.html`` into a run's folder, from what is there.

    Args:
        folder: the output folder of a training (run.json, history.csv, curves.png), of an evaluation (metrics.json,
            per_image.csv and pictures), or a training with its evaluation in the subfolder ``evaluation``. For an
            evaluation inside a training's folder the training is told too, if the weights are its own.

    Returns:
        the page.

    Raises:
        InputError: the folder is missing or holds neither, or one of its files is damaged.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"no folder {folder}: give the output folder of a run")
    evaluation = next((f for f in (folder, folder / "evaluation") if (f / "metrics.json").is_file()), None)
    training = next((f for f in (folder, folder.parent) if _is_training(f)), None)
    if evaluation is not None and training is not None and not _is_of(evaluation, training):
        evaluation, training = (evaluation, None) if folder == evaluation else (None, training)
    if evaluation is None and training is None:
        raise InputError(f"{folder} holds no run (no run.json, history.csv or metrics.json): give the folder of a run")
    page = folder / "report.html"
    atomic_write(page, _page(training, evaluation).encode())
    return page


def _is_training(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (RUN_FILE, HISTORY))


def _is_of(evaluation: Path, training: Path) -> bool:
    """Whether the weights that were evaluated are those of the training; older evaluations do not tell."""
    checkpoint = _read_json(evaluation / "metrics.json").get("checkpoint")
    return checkpoint is None or is_of_run(checkpoint, training)


def _page(training: Path | None, evaluation: Path | None) -> str:
    metrics = _read_json(evaluation / "metrics.json") if evaluation else {}
    run = _read_json(training / RUN_FILE) if training else {}
    rows = _read_rows(training / HISTORY) if training else []
    name = (training or evaluation or Path()).name
    body = [
        f"<h1>Run {escape(name)}</h1>",
        _subtitle(metrics, rows),
        *(_scores(metrics) if metrics else ()),
        *(_training(training, rows) if training else ()),
        *(_pictures(evaluation, metrics) if evaluation else ()),
        *_facts(run, metrics),
    ]
    return document(name, body)


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole page of the house's look: HTML parts below one another, with more CSS if need be."""
    head = f'<meta charset="utf-8"/><meta name="viewport" content="width=device-width"/><title>{escape(title)}</title>'
    content = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{STYLE}{style}</style></head>\n'
        f"<body><main>\n{content}\n</main></body></html>\n"
    )


def _subtitle(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> str:
    parts = []
    if metrics:
        lesions = f"{metrics.get('images_with_lesion', '?')} with a lesion"
        part = metrics.get("part", "")
        part = "" if part == "all" else part
        parts.append(f"{metrics.get('images', '?')} {part} images, {lesions}".replace("  ", " "))
        if metrics.get("volumes"):
            cases = f"{metrics['cases']} cases, {metrics['cases_with_lesion']} with a lesion"
            parts.append(f"{metrics['volumes']} volumes of slices, in all {cases}")
    if rows:
        seconds = sum(float(row.get("seconds") or 0) for row in rows)
        parts.append(f"{len(rows)} epochs of training in {duration(seconds)}")
    if metrics.get("seconds") is not None:
        parts.append(f"evaluated in {duration(metrics['seconds'])}")
    if metrics.get("device"):
        parts.append(f"on {metrics['device']}")
    return f'<p class="faint">{escape("; ".join(parts))}</p>'


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``5 min 3 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _number(key: str, value: Any, unit: str = "px") -> str:
    if value is None:
        return "no value"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f} {unit}" if key in DISTANCES else f"{value:.4f}"


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    scores, definitions = metrics.get("scores", {}), metrics.get("definitions", {})
    unit = escape(str(metrics.get("distance_unit", "px")))
    tiles = [
        f'<div class="tile"><b>{_number(key, scores[key], unit)}</b><span>{TITLES[key]}</span></div>'
        for key in HEADLINE
        if key in scores
    ]
    lines = [
        f'<tr><td>{escape(TITLES.get(key, key))}</td><td class="n">{_number(key, value, unit)}</td>'
        f'<td class="d">{escape(definitions.get(key, ""))}</td></tr>'
        for key, value in scores.items()
    ]
    scored = metrics.get("scored_at", {})
    size = " x ".join(str(n) for n in scored.get("size") or ["that of each image"])
    remark = f"Size of scoring (X x Y): {size}. {scored.get('how', '')} {definitions.get('ignored', '')}"
    if metrics.get("volumes"):
        remark += f" A case is: {definitions.get('case', '')}"
    note = absence_note(metrics)
    return [
        f'<div class="tiles">{"".join(tiles)}</div>',
        *([f"<p>Note: {escape(note)}.</p>"] if note else []),
        "<h2>Scores</h2>",
        f"<table><tr><th>Score</th><th>Value</th><th>Definition</th></tr>{''.join(lines)}</table>",
        f'<p class="faint">{escape(remark)}</p>',
        *_classes(metrics.get("classes", []), unit),
    ]


def absence_note(metrics: Mapping[str, Any]) -> str:
    """Which classes no reference mask holds and what mean Dice is without them; empty where there is none.

    Args:
        metrics: the content of metrics.json; one of an older evaluation does not tell.
    """
    absent = metrics.get("absent_classes", [])
    if not absent:
        return ""
    names = {row["class"]: row["name"] for row in metrics["classes"]}
    shown = " and ".join(f"{k}" if names[k] == f"class {k}" else f"{k} ({names[k]})" for k in absent)
    without, counted = metrics["mean_dice_without_absent"], metrics["scores"]["mean_dice"]
    if len(absent) == 1:
        note, them = (
            f"class {shown} is in no reference mask of these cases and counts 1 where it is not predicted",
            "it",
        )
    else:
        note = f"classes {shown} are in no reference mask of these cases and count 1 where they are not predicted"
        them = "them"
    return note if without is None else f"{note}: without {them} mean_dice is {without:.3f} instead of {counted:.3f}"


def _classes(rows: Sequence[Mapping[str, Any]], unit: str) -> list[str]:
    """The table of the classes, where there is more than one foreground class."""
    if len(rows) < 2:
        return []
    columns = [key for key in rows[0] if key not in ("class", "name")]
    head = "".join(f"<th>{escape(key.replace('_', ' '))}</th>" for key in ["class", *columns])
    lines = [
        f"<tr><td>{escape(str(row['name']))}</td>"
        + "".join(f'<td class="n">{_number(key, row[key], unit)}</td>' for key in columns)
        + "</tr>"
        for row in rows
    ]
    return ["<h2>Classes</h2>", f"<table><tr>{head}</tr>{''.join(lines)}</table>"]


def _training(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[str]:
    curves = picture(folder / "curves.png", "Losses, scores and rates of the training over its epochs")
    if not rows and not curves:
        return []
    last = {key: value for key, value in rows[-1].items() if value not in ("", None)} if rows else {}
    table = _table(((key, _short(value)) for key, value in last.items()), ("Quantity", "Last epoch"))
    return ["<h2>Training</h2>", *curves, *folded("The last epoch in numbers", [table] if last else [])]


def _short(value: str) -> str:
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value


def _pictures(folder: Path, metrics: Mapping[str, Any]) -> list[str]:
    kinds = ("best", "median", "worst")
    panels = sorted((folder / "overlays").glob("*.png"), key=lambda p: (kinds.index(_kind(p, kinds)), p.name))
    overlays = []
    for panel in panels:
        kind, rank, *_ = [*panel.stem.split("_"), ""]
        overlays += [f'<p class="faint">{escape(kind)} {escape(rank)}</p>', *picture(panel, f"Case {panel.stem}")]
    chosen = "The number is the Dice. Best and median are chosen among the images with a lesion, worst among all."
    sections = (
        ("Cases", picture(folder / "cases.png", "Best, median and worst cases"), chosen),
        ("Errors of the worst cases", picture(folder / "errors.png", "Found, missed and wrongly marked pixels"), ""),
        ("Confusion", picture(folder / "confusion.png", "Confusion table of all pixels", "small"), ""),
    )
    out = []
    for title, found, remark in sections:
        if found:
            out += [f"<h2>{title}</h2>", *([f'<p class="faint">{remark}</p>'] if remark else []), *found]
        if title == "Cases":
            out += folded(f"All {len(panels)} cases in detail", overlays)
    return out


def _kind(path: Path, kinds: Sequence[str]) -> str:
    return next((kind for kind in kinds if path.name.startswith(kind)), kinds[-1])


def folded(title: str, parts: Sequence[str]) -> list[str]:
    """Parts behind a title that opens them; nothing where there are none."""
    return [f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"] if parts else []


def picture(path: Path, description: str, css: str = "") -> list[str]:
    """The picture as an ``img`` element with its bytes inside; nothing where there is no file."""
    if not path.is_file():
        return []
    data, kind = path.read_bytes(), "png"
    if len(data) > JPEG_ABOVE:
        jpeg = io.BytesIO()
        Image.open(path).convert("RGB").save(jpeg, "JPEG", quality=88)
        data, kind = jpeg.getvalue(), "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return [f'<img class="{css}" alt="{escape(description, quote=True)}" src="{source}"/>']


def _facts(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Configuration, and everything else that the two JSON files say in single values."""
    told = ("scores", "classes", "definitions", "scored_at", "versions", "parameters")
    told += ("absent_classes", "mean_dice_without_absent")
    facts = {k: v for source in (run, metrics) for k, v in source.items() if k not in told}
    versions = dict(run.get("versions") or {}) | dict(metrics.get("versions") or {})
    out = []
    for title, rows in (("Configuration", dict(run.get("parameters") or {})), ("Run", facts), ("Versions", versions)):
        if rows:
            out += [f"<h2>{title}</h2>", _table(rows.items())]
        if title == "Configuration" and run.get("definitions"):
            parts = escape(json.dumps(run["definitions"], indent=2))
            out += folded("Network, method, optimiser, views and preprocessing as configured", [f"<pre>{parts}</pre>"])
    return out


def _table(rows: Iterable[tuple[str, Any]], head: tuple[str, str] | None = None) -> str:
    first = f"<tr><th>{head[0]}</th><th>{head[1]}</th></tr>" if head else ""
    texts = ((escape(str(k)), escape(v if isinstance(v, str) and v else json.dumps(v))) for k, v in rows)
    lines = (f'<tr><td>{key}</td><td class="v">{value}</td></tr>' for key, value in texts)
    return f"<table>{first}{''.join(lines)}</table>"


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): restore it, or run that step again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object: restore it, or run that step again")
    return content


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            float(row.get("seconds") or 0)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): restore it, or run that step again") from error
    return rows
