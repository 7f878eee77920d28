# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""From a suite file to the list of its runs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from scripts.data.datalist import ALL, UNLABELED
from scripts.errors import InputError
from scripts.inputs import PARTS as IMAGE_PARTS

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("data", "networks", "methods")
AXES = (*PARTS, "label_ratios", "seeds")
KEYS = {"extends", *PARTS, "configs", "settings", "baseline", "peers", "comparisons", "plotted", "part", "grids"}
#: what the runs of a row of a table share, and what a comparison may name
GROUP = ("data", "label_ratio", "network", "method")
KINDS = ("training", "clustering")
#: settings that a suite gives in another way, which would win over them without a word
TAKEN = {"label_ratio": "'label_ratios' of a grid", "seed": "'seeds' of a grid", "part": "'part' of the suite"}
TAKEN |= {"output_dir": "--output"}


@dataclass(frozen=True)
class Run:
    """One training and its evaluation, or one clustering.

    Attributes:
        kind: ``training``, or ``clustering``: images without a label are clustered one by one, and scored.
        data, network, method: names in the suite.
        label_ratio, seed: as the bundle's keys.
        configs: overlays in their order.
        settings: values by key, as on the bundle's command line; ``dataset_dir`` below the folder of the data.
        part: what is scored, as of an evaluation: test, validation while tuning, or unlabeled.
    """

    data: str
    network: str
    method: str
    label_ratio: float
    seed: int
    configs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    part: str = "test"
    kind: str = "training"

    @property
    def name(self) -> str:
        """Name of the run, and of its folder."""
        return f"{self.data}/{self.label_ratio:g}/{self.network}/{self.method}/seed{self.seed}"


class Comparison(NamedTuple):
    """Two choices of groups: values by ``data``, ``label_ratio``, ``network`` or ``method``."""

    ours: Mapping[str, tuple]
    theirs: Mapping[str, tuple]


@dataclass(frozen=True)
class Suite:
    """What a suite file says.

    Attributes:
        name: of the file, without its ending.
        runs: all of them; those of the first seed come first, so that a first answer is there early.
        baseline: name of the method that every other one is compared with.
        peers: names of the methods among which the best one is compared with the others.
        comparisons: pairs of groups besides; see :func:`load_suite`.
        plotted: names of the methods that plots show; empty: all.
    """

    name: str
    runs: tuple[Run, ...]
    baseline: str = ""
    peers: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    plotted: tuple[str, ...] = ()

    @property
    def scored(self) -> str:
        """The images that are scored, in words."""
        part = self.runs[0].part if self.runs else "test"
        return "training images without a mask" if part == UNLABELED else f"{part} images"


def load_suite(path: str | Path) -> Suite:
    """Reads a suite: definitions of ``data``, ``networks`` and ``methods``, and ``grids`` over their names.

    A definition holds ``configs`` (overlays, relative to the bundle) and ``settings`` (keys of the bundle); that of a
    method that clusters has ``kind: clustering``, and stands in grids with the label ratio 0. A grid
    names some of each, ``label_ratios`` and ``seeds``; its runs are all combinations. The suite's own ``settings`` hold
    for every run; those of data, network, method and grid come after, in this order, and win. The suite's own
    ``configs`` come after those of data, network and method in every run. A comparison has
    ``ours`` and ``theirs``, each naming some of data, label_ratio, network, method (a value or a list); what neither of
    them names is the same on both sides. ``extends`` names a suite beside it, whose keys hold where it has none, and
    which may extend another.

    Raises:
        InputError: the file is missing or no such suite, or names what is not defined.
    """
    suite = _extended(Path(path))
    _check_keys(suite, KEYS, str(path))
    _check_configs(suite, str(path))
    for key in ("grids", "peers", "plotted", "comparisons"):
        if not isinstance(suite.get(key) or [], list):
            raise InputError(f"{path} has {suite[key]!r} under '{key}': give a list, as [...].")
    if (part := suite.get("part", "test")) not in (*IMAGE_PARTS, ALL):
        raise InputError(f"{path} has the part {part!r}: give one of {', '.join((*IMAGE_PARTS, ALL))}.")
    runs: dict[str, Run] = {}
    for run in (run for grid in suite.get("grids") or [] for run in _expand(suite, grid, path)):
        if runs.setdefault(run.name, run) != run:
            raise InputError(
                f"{path}: two grids have {run.name} with different settings: give one of them a method, network or "
                "data of another name."
            )
    if not runs:
        raise InputError(f"{path} has no grids, so there is nothing to run: add some.")
    baseline, peers = suite.get("baseline", ""), tuple(suite.get("peers") or ())
    plotted = tuple(suite.get("plotted") or ())
    for name in (*filter(None, [baseline]), *peers, *plotted):
        if not isinstance(name, str) or name not in suite["methods"]:
            raise InputError(f"{path}: baseline, peers or plotted name '{name}', which is not defined under 'methods'.")
    ordered = tuple(sorted(runs.values(), key=lambda run: run.seed))
    comparisons = tuple(_comparison(entry, runs.values(), path) for entry in suite.get("comparisons") or [])
    return Suite(Path(path).stem, ordered, baseline, peers, comparisons, plotted)


def _comparison(entry: Any, runs: Collection[Run], path: str | Path) -> Comparison:
    keys = set(Comparison._fields)
    sides = [entry[side] for side in Comparison._fields] if isinstance(entry, Mapping) and set(entry) == keys else []
    if not sides or not all(isinstance(side, Mapping) and set(side) <= set(GROUP) for side in sides):
        raise InputError(
            f"{path}: a comparison has ours and theirs, each naming some of {', '.join(GROUP)}: correct it."
        )
    values = [{k: tuple(v) if isinstance(v, list) else (v,) for k, v in side.items()} for side in sides]
    for key, value in ((key, value) for side in values for key, chosen in side.items() for value in chosen):
        if all(getattr(run, key) != value for run in runs):
            raise InputError(f"{path}: a comparison names the {key} '{value}', which no grid has: correct it.")
    return Comparison(*values)


def check_data(runs: Iterable[Run], data_root: str | Path) -> None:
    """Refuses runs whose data are not there.

    Raises:
        InputError: naming the missing data set.
    """
    for relative in dict.fromkeys(str(run.settings.get("dataset_dir") or "") for run in runs):
        folder = Path(data_root, relative).absolute()
        if relative and not folder.exists():
            raise InputError(f"The data set {folder} is not there: give --data, the folder that holds {relative}.")


def _extended(path: Path, on_the_way: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a suite and of those that it extends."""
    if path.resolve() in on_the_way:
        raise InputError(f"{path} extends itself: correct 'extends'.")
    suite = _read(path)
    if "extends" not in suite:
        return suite
    return _extended(path.parent / str(suite.pop("extends")), (*on_the_way, path.resolve())) | suite


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"The suite {path} does not exist: correct the path (suites lie in bundle/suites).")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}): correct it.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold the keys {', '.join(sorted(KEYS))}: correct it.")
    return content


def _check_keys(entry: Any, keys: Collection[str], what: str) -> None:
    """Refuses an entry that is no mapping, or has a key that nothing would read."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{what} is {entry!r}: it must be a mapping with the keys {', '.join(sorted(keys))}.")
    unknown = sorted(map(str, set(entry) - set(keys)))
    if unknown:
        raise InputError(f"{what} has the unknown key '{unknown[0]}': its keys are {', '.join(sorted(keys))}.")
    if not isinstance(entry.get("settings") or {}, Mapping):
        raise InputError(f"{what} has the settings {entry['settings']!r}: they must be a mapping of keys to values.")
    for key in entry.get("settings") or {}:
        if key in TAKEN:
            raise InputError(f"{what} has the setting {key}, which {TAKEN[key]} gives: drop it.")


def _definition(suite: Mapping[str, Any], part: str, name: str, path: str | Path) -> Mapping[str, Any]:
    """What the suite says of a name of a grid."""
    defined = suite.get(part) or {}
    if not isinstance(name, str):
        raise InputError(
            f"{path}: a grid has {name!r} under '{part}': give names, in quotes where they look like numbers."
        )
    if not isinstance(defined, Mapping) or name not in defined:
        raise InputError(f"{path}: a grid names '{name}', which is not defined under '{part}'.")
    entry = defined[name] or {}
    what = f"{path}: '{name}' under '{part}'"
    _check_keys(entry, {"configs", "settings", *(["kind"] if part == "methods" else [])}, what)
    _check_configs(entry, what)
    return entry


def _check_configs(entry: Mapping[str, Any], what: str) -> None:
    configs = entry.get("configs") or []
    if not isinstance(configs, list) or not all((ROOT / str(config)).is_file() for config in configs):
        raise InputError(f"{what} has the configs {configs!r}: give a list of files, as [configs/methods/cps.yaml].")


def _expand(suite: Mapping[str, Any], grid: Mapping[str, Any], path: str | Path) -> Iterator[Run]:
    _check_keys(grid, {*AXES, "settings"}, f"{path}: a grid")
    missing = [axis for axis in AXES if not isinstance(grid.get(axis), list)]
    if missing:
        raise InputError(f"{path}: a grid has no list '{missing[0]}': it needs {', '.join(AXES)}.")
    for axis, number in (("label_ratios", float), ("seeds", int)):
        for value in grid[axis]:
            if isinstance(value, bool) or not isinstance(value, (int, number)):
                raise InputError(f"{path}: a grid has '{value}' under '{axis}': give numbers, as in [0.05] and [0, 1].")
    for data, network, method, ratio, seed in itertools.product(*(grid[axis] for axis in AXES)):
        parts = [_definition(suite, part, name, path) for part, name in zip(PARTS, (data, network, method))]
        settings = dict(suite.get("settings") or {})
        for one in (*parts, grid):
            settings |= one.get("settings") or {}
        configs = tuple(config for one in (*parts, suite) for config in one.get("configs") or [])
        if not isinstance(settings.get("dataset_dir") or "", str):
            raise InputError(f"{path}: '{data}' has the dataset_dir {settings['dataset_dir']!r}: put it in quotes.")
        kind = parts[-1].get("kind", KINDS[0])
        if kind not in KINDS or (kind == "clustering") != (float(ratio) == 0):
            raise InputError(
                f"{path}: '{method}' is of the kind {kind} and has the label ratio {ratio} in a grid: the kinds are "
                f"{' and '.join(KINDS)}, and clustering alone has the ratio 0."
            )
        part = suite.get("part", "test")
        yield Run(data, network, method, float(ratio), int(seed), configs, settings, part, kind)
