# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Settles the classes of all mask and scribble values of a set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from scripts.data.prepare.contents import label_name
from scripts.data.prepare.legend import fitting, legend_classes, legend_names, names_by_class, values_of
from scripts.data.prepare.state import Options, Progress, drop, refuse
from scripts.data.prepare.values import LISTED, Counts, ValueRule, check_complete, decide_rule, show
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources import Entry

logger = logging.getLogger("less_net")


def decide_values(data: Progress, given: Mapping[str, dict[int, int]], options: Options) -> None:
    """Settles the classes of the values in masks, then those in scribbles, which may hold one value more: no label."""
    found: dict[str, list[tuple[Entry, Counter[int], bool]]] = {"label": [], "scribble": []}
    _keep_palettes(data, options)
    for entry in data.source.entries:
        facts = data.facts[entry.key]
        for part, masks in found.items():
            slices = getattr(facts, part)
            if slices is not None:
                masks.append((entry, _shown(slices, facts.palettes.get(part, {})), facts.lossy[part]))
    declared = max(data.source.class_names, default=0) + 1 if data.source.class_names else 0
    named = {
        part: [(label_name(getattr(entry, part), entry), counts, lossy) for entry, counts, lossy in masks]
        for part, masks in found.items()
    }
    names = legend_names(data.source)
    legend = data.source.legend_file
    classes = fitting(legend_classes(names), named["label"], legend) if names and not given["label"] else {}
    known = given["label"] or data.source.values or values_of(classes, named["label"], legend)
    data.rules["label"] = rule = decide_rule(
        named["label"], known, declared or len(set(classes.values()) - {IGNORE_INDEX})
    )
    data.source.class_names |= names_by_class(names, classes, rule)
    if scribbles := named["scribble"]:
        data.rules["scribble"], data.marked = _scribble_rule(scribbles, given, rule if found["label"] else None)
    if not (options.nearest or options.skip_broken):
        for part, text, option in (
            ("label", options.values, "--values"),
            ("scribble", options.scribble_values, "--scribble-values"),
        ):
            if given[part]:
                check_complete(named[part], given[part], text, option)
    problems = []
    for part, masks in found.items():
        for entry, counts, lossy in masks:
            try:
                table = data.rules[part].table(counts, lossy or options.nearest)
                palette = data.facts[entry.key].palettes.get(part, {})
                table = {index: table[code] for index, code in palette.items()} or table
                data.tables.setdefault(entry.key, {})[part] = table
            except ValueError as error:
                problems.append(
                    (label_name(getattr(entry, part), entry), f"{error}: add it to --values, or add --nearest")
                )
                data.facts.pop(entry.key, None)
    refuse(problems, options.skip_broken)
    data.left_out += problems
    drop(data, set())
    _settle_ignore_value(data)
    _miss_classes(data)


def _keep_palettes(data: Progress, options: Options) -> None:
    """Forgets what palettes show unless colours were given: by numbers people mean the indices."""
    texts = {"label": options.values, "scribble": options.scribble_values or options.values}
    for facts in data.facts.values():
        facts.palettes = {part: palette for part, palette in facts.palettes.items() if "#" in texts[part]}


def _shown(slices: Sequence[Counts], palette: Mapping[int, int]) -> Counter[int]:
    """The pixels of all slices by value, or by what a palette shows for it."""
    counts: Counter[int] = Counter()
    for one in slices:
        for code, count in one.items():
            counts[palette.get(code, code)] += count
    return counts


def _miss_classes(data: Progress) -> None:
    """Warns where no mask holds class 0, for often 1 stands for background there, or where none holds any other."""
    tables = [tables["label"] for tables in data.tables.values() if "label" in tables]
    held = set().union(*(table.values() for table in tables))
    if tables and held <= {0, IGNORE_INDEX}:
        logger.warning(
            "All %d masks are empty, so nothing can be learnt from them: see that they are the right files, and leave "
            "out the masks of images that nobody has looked at.",
            len(tables),
        )
    elif tables and 0 not in held:
        values = sorted(set().union(*tables))
        pairs = ",".join(f"{show(value)}={index}" for index, value in enumerate(values))
        example = f", for example --values '{pairs}'" if 1 < len(values) <= LISTED else ""
        logger.warning(
            "No mask holds class 0, the background: if another value stands for it, say so by --values%s.", example
        )


def _scribble_rule(
    scribbles: Sequence[tuple[str, Counts, bool]], given: Mapping[str, dict[int, int]], masks: ValueRule | None
) -> tuple[ValueRule, bool]:
    """The rule, and whether scribbles mark pixels without a label by the number that follows the last class."""
    values = set().union(*(counts for _, counts, _ in scribbles))
    if masks is None or given["scribble"]:
        return decide_rule(scribbles, given["scribble"], option="--scribble-values"), False
    if masks.classes is not None and values <= {*masks.classes, IGNORE_INDEX}:
        return ValueRule(masks.num_classes, {IGNORE_INDEX: IGNORE_INDEX, **masks.classes}), False
    count = masks.num_classes
    if count in values and values <= {*range(count + 1), IGNORE_INDEX}:
        classes = {value: value if value < count else IGNORE_INDEX for value in (*range(count + 1), IGNORE_INDEX)}
        return ValueRule(count, classes), True
    return decide_rule(scribbles, {}, count, "--scribble-values"), False


def _settle_ignore_value(data: Progress) -> None:
    """Chooses what masks hold, beside 255, where a pixel has no label.

    Of two classes, a mask of 0 and 255 is a binary one, so in the masks written for two classes 2 stands for no label.
    """
    count = data.rules["label"].num_classes
    ignored = any(IGNORE_INDEX in table.values() for tables in data.tables.values() for table in tables.values())
    if data.marked or (count == 2 and ignored):
        data.ignore_value = count
