# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Names of the classes, as legends, tables and servers show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.errors import InputError


def default_class_names(num_classes: int) -> list[str]:
    """``background`` and ``lesion``, or numbered classes where there are more."""
    return (
        ["background", "lesion"] if num_classes == 2 else ["background", *(f"class {k}" for k in range(1, num_classes))]
    )


def completed_class_names(known: Mapping[int, str], num_classes: int) -> list[str]:
    """A name for each class: the one that is known, else the default one."""
    return [known.get(k, name) for k, name in enumerate(default_class_names(num_classes))]


def class_names_or_default(names: Sequence[str] | None, num_classes: int) -> list[str]:
    """The names that were given, the background's first, or the default ones.

    Raises:
        InputError: no list, or not one name a class.
    """
    known = list(names or default_class_names(num_classes))
    if isinstance(names, str) or len(known) != num_classes:
        raise InputError(
            f"class_names is {names!r}: give a list of {num_classes} names, the background's first, such as "
            f'"{default_class_names(num_classes)}"'
        )
    return known
