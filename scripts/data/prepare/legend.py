# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a legend beside the masks (:mod:`scripts.data.sources.legends`) makes of their values."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from scripts.data.prepare.values import NO_LABEL, Counts, ValueRule, parse_code, show
from scripts.data.reader import IGNORE_INDEX
from scripts.data.sources import Source
from scripts.errors import InputError

BACKGROUND, IGNORED = "background", "ignore"

logger = logging.getLogger("less_net")


def legend_names(source: Source) -> dict[int, str]:
    """Names by mask value, in the order of the legend.

    Raises:
        InputError: a value is none.
    """
    try:
        return {parse_code(value): name for value, name in source.legend.items()}
    except ValueError as error:
        raise InputError(f"{source.legend_file} names a value that is none ({error}): correct or remove it.") from None


def legend_classes(names: Mapping[int, str]) -> dict[int, int]:
    """The class of each value: what is called background, or else black, is 0, the others follow in their order; what
    is called ignore is ignored.

    Example:
        >>> legend_classes({9: "blood", 0: "background", 4: "clot"})
        {0: 0, 9: 1, 4: 2}
    """
    ignored = [code for code, name in names.items() if name.lower() == IGNORED]
    called = [code for code, name in names.items() if name.lower() == BACKGROUND]
    first = [code for code in (called or [0])[:1] if code not in ignored]
    others = [code for code in names if code not in (*first, *ignored)]
    ordered = {code: k + (k >= IGNORE_INDEX) for k, code in enumerate([*first, *others])}  # none is 255 by its order
    return ordered | dict.fromkeys(ignored, IGNORE_INDEX)


def fitting(classes: Mapping[int, int], masks: Sequence[tuple[str, Counts, bool]], file: str) -> dict[int, int]:
    """The classes of a legend if they explain the masks, lossy ones aside; none otherwise, which is told.

    They do where the masks hold its values alone, or the indices of its classes, 255 aside, or are 0 and 255 where it
    has two classes.
    """
    found = _values_in(masks)
    count = len(set(classes.values()) - {IGNORE_INDEX})
    binary = found == {0, IGNORE_INDEX} and IGNORE_INDEX not in classes
    strange = sorted(found - classes.keys())
    if count > IGNORE_INDEX:
        logger.warning("%s has %d classes, but %d are the most, so it is not used.", file, count, IGNORE_INDEX)
        return {}
    if strange and (count != 2 if binary else not found <= {*range(count), IGNORE_INDEX}):
        logger.warning("%s has no class for %s, which masks hold, so it is not used.", file, show(strange[0]))
        return {}
    return dict(classes)


def values_of(classes: Mapping[int, int], masks: Sequence[tuple[str, Counts, bool]], file: str) -> dict[int, int]:
    """Class by value, of a legend that fits; none where the masks hold class indices as they are."""
    found = _values_in(masks)
    if found - classes.keys() or all(code == index for code, index in classes.items()):
        return {}
    logger.info("The classes of the mask values are those of %s.", file)
    return dict(classes)


def _values_in(masks: Sequence[tuple[str, Counts, bool]]) -> set[int]:
    """The values that masks without lossy compression hold."""
    return set().union(*(counts for _, counts, lossy in masks if not lossy)) - {NO_LABEL}


def names_by_class(names: Mapping[int, str], classes: Mapping[int, int], rule: ValueRule) -> dict[int, str]:
    """The names of the classes that a rule makes of the values; of class indices those in the legend's order."""
    by_value = classes if rule.classes is None else rule.classes
    kept = ((by_value[code], name) for code, name in names.items() if code in by_value)
    return {index: name for index, name in kept if index != IGNORE_INDEX}
