# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What is found in folders of empty files, for the tests of how folders are recognised."""

from __future__ import annotations

import os

from scripts.data.sources import read_source


def touch(root, *names):
    """Empty files: listing opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def shown(source, root):
    """Key, image, mask and scribble of each entry, relative to the folder."""
    return {
        entry.key: tuple(os.path.relpath(path, root) if path else None for path in (*entry.image, entry.label))
        for entry in source.entries
    }


def listed(root, **options):
    source = read_source(root, **options)
    assert source.problems == []
    return shown(source, root)
