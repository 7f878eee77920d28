# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Which images a run would use now: a result made with other ones is another run's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from monai.bundle import ConfigParser

from bundle.benchmark.commands import TRAINING_CONFIG
from bundle.benchmark.suite import ROOT, Run
from scripts.run.record import summary

Lists = Mapping[str, Mapping[str, Any]]


class CurrentLists:
    """The lists of images that runs would use now, found by the bundle's own configs; each set is listed once.

    Args:
        data_root: folder below which the data sets lie.
    """

    def __init__(self, data_root: Path) -> None:
        self.data_root = data_root
        self.known: dict[str, Lists | None] = {}
        self.lock = Lock()

    def __call__(self, run: Run) -> Lists | None:
        """Count and fingerprint by list, as ``run.json`` has them; None where the data are not at hand.

        Also where they are the embedded set, which is always the same, where a clustering keeps no such record, and
        where the data cannot be listed: the run itself says what is wrong then.
        """
        folder = run.settings.get("dataset_dir")
        if not folder or run.kind != "training" or not Path(self.data_root, folder).exists():
            return None
        parser = data_config((TRAINING_CONFIG, *run.configs), run.settings)
        parser.update({"dataset_dir": str(Path(self.data_root, folder).absolute())})
        parser.update({"label_ratio": run.label_ratio, "seed": run.seed})
        section = parser["datalist"]
        given = repr({k: parser.get(v[1:]) if str(v)[:1] == "@" else v for k, v in section.items()})
        with self.lock:  # the workers of a benchmark are threads
            if given not in self.known:
                self.known[given] = listed(parser)
            return self.known[given]


def data_config(files: Sequence[str], settings: Mapping[str, Any]) -> ConfigParser:
    """Configs, relative to the bundle, under those settings that a data list may depend on.

    Keys below other sections (``method#threshold``) say nothing of the data; their section may be in another config.
    """
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in files])
    parser.update({key: value for key, value in settings.items() if "#" not in key or key.startswith("datalist#")})
    return parser


def listed(parser: ConfigParser) -> Lists | None:
    """The lists of a config, None if they cannot be made."""
    logger = logging.getLogger("less_net")
    logger.disabled, before = True, logger.disabled  # what it has to say, it says in each run
    try:
        return {name: summary(items) for name, items in parser.get_parsed_content("datalist").items()}
    except RuntimeError:  # MONAI makes one of every error of a component
        return None
    finally:
        logger.disabled = before


def other_images(now: Lists | None, then: Lists | None) -> str:
    """The first list that has other images now than then; empty where all are the same, or one side is not known."""
    for name in {**(now or {}), **(then or {})} if now and then else ():
        if now.get(name) != then.get(name):
            counts = " now, ".join(f"{side.get(name, {}).get('count', 0)}" for side in (now, then))
            return f"the list of {name} images is another one ({counts} before)"
    return ""
