# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The studies of a MONAI Label server: masks that people have approved, beside those that the server drew."""

from __future__ import annotations

from pathlib import Path

STORE, LABELS, APPROVED = "datastore_v2.json", "labels", "final"


def unapproved(root: Path) -> list[Path]:
    """The folders with masks that nobody has approved, ``labels/original`` most often; none where no server was."""
    if not (root / STORE).is_file() or not (root / LABELS / APPROVED).is_dir():
        return []
    return sorted(path for path in (root / LABELS).iterdir() if path.is_dir() and path.name != APPROVED)
