# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""docs/methods.md says what overlays and code say: names, defaults, passes; its formulas and pictures are whole."""

import inspect
import re
import runpy
from pydoc import locate

import pytest
import torch
import yaml

from bundle.benchmark.suite import load_suite
from scripts.methods import ClusterPretraining
from tests.methods.test_rules import RULES, SCRIBBLES, batch, student, unet
from tests.tiny import ROOT

PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
OVERLAYS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "configs" / "methods").glob("*.yaml")}
IMAGES = {"less_net", "crii_net", "multiscale_contrast", "s3_net", "scribsd_plus"}


def rows(marker: str) -> list[list[str]]:
    """The cells of the table after a marker, without its head."""
    (after,) = re.findall(rf"<!-- {re.escape(marker)} -->\n\n((?:\|.*\n)+)", PAGE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in after.splitlines()[2:]]


def settings(overlay: str) -> dict:
    """What an overlay sets of its rule or algorithm, by path: numbers, words and switches, no references."""

    def walk(content, path=""):
        for key, value in content.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}{key}#")
            elif key != "_target_" and not str(value).startswith(("@", "%", "$@")):
                yield path + key, value

    content = OVERLAYS[overlay]
    return dict(walk(content.get("method") or content["algorithm"]))


def test_every_overlay_stands_on_the_page():
    assert [name for name in OVERLAYS if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("overlay", sorted(set(re.findall(r"<!-- settings: (\w+) -->", PAGE)) - {"peers"}))
def test_the_settings_of_a_system_are_those_of_its_overlay(overlay):
    quoted = {cells[0].strip("`"): yaml.safe_load(cells[1].strip("`")) for cells in rows(f"settings: {overlay}")}
    assert quoted == settings(overlay)


def test_all_systems_have_their_settings_quoted():
    quoted = set(re.findall(r"<!-- settings: (\w+) -->", PAGE)) | {
        cells[0].strip("`") for cells in rows("settings: peers")
    }
    assert {name for name in OVERLAYS if settings(name)} == quoted - {"peers"}


def test_the_settings_of_the_peers_are_those_of_their_overlays():
    for name, cell in rows("settings: peers"):
        quoted = {key: yaml.safe_load(value) for key, value in re.findall(r"`([\w#]+)` ([^\s,]+)", cell)}
        assert quoted == settings(name.strip("`")), name


@pytest.mark.parametrize("name", re.findall(r"<!-- defaults: ([\w.]+) -->", PAGE))
def test_the_defaults_of_a_class_are_those_of_its_signature(name):
    signature = inspect.signature(locate(name)).parameters
    for cells in rows(f"defaults: {name}"):
        assert signature[cells[0].strip("`")].default == yaml.safe_load(cells[1].strip("`")), cells[0]


def images_passed(rule, network, data) -> tuple[int, int]:
    """How many images pass the networks of a rule with gradient, and without, in one iteration."""
    counts = {True: 0, False: 0}
    teacher = rule.teacher.module

    def count(module, arguments):
        counts[torch.is_grad_enabled() and module is not teacher] += len(arguments[0])

    for module in (network, teacher, getattr(rule, "peer", None)):
        if module is not None:
            module.register_forward_pre_hook(count)
    rule(network, data, 0.5)
    return counts[True], counts[False]


@pytest.mark.parametrize("cells", rows("passes"), ids=lambda cells: cells[0].strip("`"))
def test_as_many_images_pass_as_the_page_says(cells):
    torch.manual_seed(0)
    name, data = cells[0].strip("`"), batch()
    network = student(name, unet(), 2).train()
    rule = RULES[name](network, 2) if name in RULES else ClusterPretraining(network, clusters=4)
    if name in SCRIBBLES:
        data = {"labelled": data["labelled"]}
    known = {"B": 2, "U": 3, "max": max, "flips": getattr(rule, "flips", 0), "passes": getattr(rule, "passes", 0)}
    assert images_passed(rule, network, data) == tuple(eval(cell, {}, known) for cell in cells[1:3])


def test_the_page_counts_the_passes_of_every_rule():
    rules = {name for name, content in OVERLAYS.items() if "method" in content}
    assert {cells[0].strip("`") for cells in rows("passes")} == rules


def test_the_suite_for_own_data_is_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(next(block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S) if "# mine.yaml" in block))
    suite = load_suite(path)
    assert len(suite.runs) == 5 * 2 * 3 + 2 and {run.settings["dataset_dir"] for run in suite.runs} == {"mine"}


def test_formulas_reach_the_reader_whole():
    """Markdown takes a backslash before punctuation, an underscore after a bracket, < and * for its own."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", PAGE, flags=re.DOTALL)
    formulas = re.findall(r"\$\$\n(.*?)\n\$\$", text, re.DOTALL)
    formulas += re.findall(r"\$([^$\n]+)\$", re.sub(r"\$\$\n.*?\n\$\$", "", text, flags=re.DOTALL))
    assert len(formulas) > 80
    for formula in formulas:
        assert not re.search(r"\\[^A-Za-z]|[)}\]]_|[<>*]|\]\(", formula), formula
        assert formula.count("{") == formula.count("}") and len(re.findall(r"\\left\b", formula)) == len(
            re.findall(r"\\right\b", formula)
        ), formula


def test_every_system_has_a_picture_whose_parts_do_not_overlap(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "figures")  # as where the file is run itself
    drawn = runpy.run_path(str(ROOT / "docs" / "figures" / "flows.py"))
    assert set(drawn["FLOWS"]) == IMAGES
    for name, flow in drawn["FLOWS"].items():
        drawn["draw"](name, flow)  # refuses overlaps
        assert f"](images/flow_{name}.png)" in PAGE
        assert (ROOT / "docs" / "images" / f"flow_{name}.png").stat().st_size < 120_000
    shifted = drawn["LESS_NET"].boxes | {"strong": drawn["LESS_NET"].boxes["strong"]._replace(x=68)}
    with pytest.raises(ValueError, match="strong and student are too close"):
        drawn["draw"]("shifted", drawn["LESS_NET"]._replace(boxes=shifted))
