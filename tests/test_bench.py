# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m bundle bench`: turns are interleaved, figures are finite and fit together, tables and plot are made."""

import json
import math
import sys
import time

import pytest
import torch
from PIL import Image

from bundle.__main__ import main
from bundle.bench import DOCUMENT, chart, tables
from bundle.bench.accuracy import validation_dice
from bundle.bench.contenders import ARCHITECTURES, ONNX, TORCH, Contender, Networks, contenders, size_of
from bundle.bench.memory import peak_memory
from bundle.bench.timing import SLOW, TIMED, cores, interleaved, quartiles
from bundle.bench.training import SHARES, Setting, rules, trainer_of, trainings
from scripts.errors import InputError
from scripts.networks import LESSNet, UNet
from tests.folders import mixed_folder, pairs
from tests.tiny import ROOT


@pytest.fixture(scope="module")
def done(tmp_path_factory, synthetic_set):
    """A quick run, with everything but the processes that measure memory."""
    output = tmp_path_factory.mktemp("bench")
    words = ["--quick", "--parts", "inference,read,training", "--data", str(synthetic_set), "--image_size", "64"]
    assert main(["bench", "--output", str(output), "--device", "cpu", *words]) == 0
    return output


@pytest.fixture(scope="module")
def about(done):
    return json.loads((done / "bench.json").read_text())


def numbers(value):
    """All numbers below a value."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_figures_are_finite_and_ordered(about):
    assert set(about) >= {"machine", "networks", "skipped", "inference", "read_to_mask", "training", "dice"}
    for section in ("networks", "inference", "read_to_mask", "training", "dice"):
        assert about[section] and all(math.isfinite(number) and number >= 0 for number in numbers(about[section]))
    for row in about["inference"] + about["read_to_mask"] + about["training"]:
        assert 0 < row["ms"][0] <= row["ms"][1] <= row["ms"][2]
        assert 0 < row["images_per_second"][0] <= row["images_per_second"][1] <= row["images_per_second"][2]
    assert about["machine"]["quick"] and about["machine"]["seconds"] > 0 and about["machine"]["cpu"]


def test_every_contender_is_timed_in_every_case(about):
    names = {row["name"] for row in about["networks"]}
    assert {"LESSNet (PyTorch)", "LESSNet (ONNX Runtime)", "LESSNet (ONNX Runtime, INT8)"} < names
    cases = {(row["threads"], row["size"], row["batch"]) for row in about["inference"]}
    assert {(size, batch) for _, size, batch in cases} == {(64, 1), (64, 2)}
    for case in cases:
        assert {r["name"] for r in about["inference"] if (r["threads"], r["size"], r["batch"]) == case} == names
    for row in about["inference"]:
        assert row["images_per_second"][1] == pytest.approx(1000 * row["batch"] / row["ms"][1])
    most = max(row["threads"] for row in about["read_to_mask"])
    ways = {(row["threads"], row["at_once"]) for row in about["read_to_mask"]}
    assert ways == {(1, 1), (most, 1), (most, most)}
    for row in about["read_to_mask"]:  # of several at once each counts
        assert row["images_per_second"][1] == pytest.approx(1000 * row["at_once"] / row["ms"][1])


def test_shares_of_a_training_sum_to_one(about):
    found = {row["name"]: row for row in about["training"]}
    reference = "mean_teacher on SSL4MIS U-Net"
    assert set(found) == {"less_net on LESSNet", "supervised on LESSNet", reference, f"{reference}, contiguous"}
    for row in found.values():
        assert set(row["shares"]) == set(SHARES) and sum(row["shares"].values()) == pytest.approx(1)
        assert row["shares"]["backward"] > 0 and row["shares"]["forward and losses"] > 0
    assert found["less_net on LESSNet"]["images"] == 4 and found["supervised on LESSNet"]["images"] == 2
    assert found["less_net on LESSNet"]["shares"]["teacher"] > 0 == found["supervised on LESSNet"]["shares"]["teacher"]


def test_eight_bits_are_scored(about):
    scores = {row["name"]: row["dice"] for row in about["dice"]}
    assert len(scores) == 3 and all(0 <= value <= 100 for value in scores.values())
    assert scores["LESSNet (PyTorch)"] == pytest.approx(scores["LESSNet (ONNX Runtime)"], abs=0.1)


def test_tables_and_plot(done, about):
    text = (done / "bench.md").read_text()
    assert text == tables.markdown(about)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows) and "nan" not in text and "None" not in text
    for row in about["networks"] + about["training"]:
        assert any(line.startswith(f"| {row['name']} |") for line in rows)
    picture = Image.open(done / "bench.png")
    assert picture.width > 800 and len(picture.convert("RGB").getcolors(100_000)) > 10


def test_comparisons_are_quotients_of_medians(about):
    *read, alone, trained = tables.comparisons(about)
    threads = max(row["threads"] for row in about["read_to_mask"])
    assert len(read) == (1 if threads == 1 else 2)
    quotients = []
    for line, rows, at_once in zip(
        [*read, alone], [about["read_to_mask"]] * len(read) + [about["inference"]], (1, threads, 1)
    ):
        case = {"size": 64, "threads": threads, "batch": 1, "at_once": at_once}
        rows = [row for row in rows if all(row.get(key, value) == value for key, value in case.items())]
        rates = {row["name"]: row["images_per_second"][1] for row in rows}
        quotient = rates["LESSNet (ONNX Runtime)"] / rates["SSL4MIS U-Net (PyTorch)"]
        assert f"{quotient:.2f} times SSL4MIS U-Net (PyTorch)" in line
        quotients.append((rates["LESSNet (ONNX Runtime)"], rates["SSL4MIS U-Net (PyTorch)"]))
    if threads > 1:
        assert f"and {quotients[1][0] / quotients[0][1]:.2f} times the same one at a time" in read[1]
    rates = {row["name"]: row["images_per_second"][1] for row in about["training"]}
    for reference in ("mean_teacher on SSL4MIS U-Net", "mean_teacher on SSL4MIS U-Net, contiguous"):
        assert f"{rates['less_net on LESSNet'] / rates[reference]:.2f} times" in trained


def test_the_reference_is_trained_in_both_memory_orders(tmp_path, synthetic_set):
    setting = Setting(synthetic_set, tmp_path, 32, 2, torch.device("cpu"), 1, 1, 1, cores())
    for training in trainings(("supervised",))[1:]:
        trainer = trainer_of(training, setting)
        weight = next(p for p in trainer.network.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1)
        assert weight.is_contiguous(memory_format=torch.channels_last) == training.channels_last


def test_nothing_is_replaced_and_bad_words_are_refused(done, tmp_path, capsys):
    torch.save(UNet(3, 2, [4, 4, 8, 8, 8]).state_dict(), done / "unet.pt")
    before = (done / "bench.json").read_bytes()
    for words, sentence in (
        (["--output", str(done)], "bench.json already exists: pass --overwrite"),
        (["--output", str(tmp_path), "--parts", "all"], "--parts names 'all': give some of memory,inference"),
        (["--output", str(tmp_path), "--device", "tpu"], "--device is 'tpu': give cpu or cuda"),
        (["--output", str(tmp_path), "--quick", "--docs"], "--docs takes a full run"),
        (["--output", str(tmp_path), "--results", "none.json"], "--results none.json is no results.json"),
        (["--output", str(tmp_path), "--quick", "--weights", "none.pt"], "no checkpoint none.pt"),
        (["--output", str(tmp_path), "--quick", "--weights", str(done / "unet.pt")], "does not fit the network"),
    ):
        assert main(["bench", *words]) == 2
        assert sentence in capsys.readouterr().err
    assert (done / "bench.json").read_bytes() == before and not list(tmp_path.iterdir())


def test_calls_take_turns():
    order = []
    found = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0, rounds=(3, 9))
    assert {name: len(values) for name, values in found.items()} == {"a": 3 * TIMED, "b": 3 * TIMED}
    turn = ["a"] * (1 + TIMED) + ["b"] * (1 + TIMED)
    assert order == ["a", "b", "a", "b", *turn * 3]


def test_slow_calls_are_made_once_a_turn():
    calls = []
    found = interleaved({"a": lambda: (calls.append(1), time.sleep(SLOW * 1.1))}, 0.0, rounds=(2, 2))
    assert len(found["a"]) == 2 and len(calls) == 4 and min(found["a"]) > SLOW
    assert quartiles([1, 2, 3, 4, 5], 2) == [4, 6, 8]


def test_rules_are_those_that_need_no_scribbles():
    overlays = {path.stem: path.read_text() for path in (ROOT / "configs" / "methods").glob("*.yaml")}
    learnt = {name for name, text in overlays.items() if "\nmethod:" in text}
    scribbles = {name for name in learnt if "scribble" in overlays[name].lower()}
    assert {*rules()} == learnt - scribbles >= {"less_net", "supervised", "mean_teacher", "unimatch"}
    assert scribbles == {"partial_ce", "entropy_minimisation", "ustm", "dmpls", "scribsd_plus"}


@pytest.mark.parametrize(
    "architecture", [one for one in ARCHITECTURES if one.name != "SegFormer-B0"], ids=lambda one: one.name
)
def test_architectures_answer_at_the_size_of_the_image(architecture):
    network = architecture.build().eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 2, 64, 64)
    facts = size_of(network, 64)
    assert 1e4 < facts["parameters"] < 1e7 and facts["gmac"] > 0


def test_multiply_adds_by_hand():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.Conv2d(8, 2, 1))
    facts = size_of(network, 16)
    assert facts["gmac"] * 1e9 == pytest.approx(256 * (3 * 8 * 9 + 8 * 2)) and facts["parameters"] == 216 + 18


def test_what_is_not_installed_is_left_out_with_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    found, skipped = contenders()
    assert skipped == {"SegFormer-B0": "the package transformers is not installed"}
    assert "SegFormer-B0" not in {one.architecture.name for one in found} and len(found) >= 8


@pytest.mark.parametrize("backend", [TORCH, ONNX])
def test_memory_of_a_process_of_its_own(backend):
    networks = Networks([], None, torch.device("cpu"))
    found = peak_memory(Contender(ARCHITECTURES[0], backend), networks, 64)
    assert 4 < found < 500  # at least its weights, 5.5 MB, as far as pages tell


def test_accuracies_come_from_a_suite(tmp_path):
    rows = [
        {"data": "a", "label_ratio": 0.1, "network": "lessnet", "method": m, "mean_dice": d}
        for m, d in (("x", 60.0), ("y", 65.0))
    ]
    rows += [
        {"data": "b", "label_ratio": 0.1, "network": "lessnet", "method": "x", "mean_dice": 99.0},
        {"data": "a", "label_ratio": 0.1, "network": "unet", "method": "x", "mean_dice": 50.0},
        {"data": "a", "label_ratio": 0.1, "network": "other", "method": "x", "mean_dice": None},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"rows": rows, "runs": []}))
    assert chart.accuracies(str(path)) == {"LESSNet": 65.0, "MONAI BasicUNet 16-256": 50.0}
    path.write_text(json.dumps({"rows": rows[-1:]}))
    with pytest.raises(InputError, match="has none of the networks"):
        chart.accuracies(str(path))


def test_tables_go_between_the_marks(tmp_path):
    document = tmp_path / "a.md"
    document.write_text(f"before\n\n{tables.BEGIN}\n\nold\n\n{tables.END}\n\nafter\n")
    tables.into_document("new\n", document)
    tables.into_document("newer\n", document)
    assert document.read_text() == f"before\n\n{tables.BEGIN}\n\nnewer\n\n{tables.END}\n\nafter\n"
    with pytest.raises(InputError, match="has no lines"):
        tables.into_document("new", tmp_path / "none.md")
    content = DOCUMENT.read_text()
    assert content.count(tables.BEGIN) == content.count(tables.END) == 1


def test_more_classes_and_the_split_of_the_run(tmp_path, capsys):
    photos, data = mixed_folder(tmp_path / "photos", pairs(10, 64, classes=3)), str(tmp_path / "data")
    assert main(["prepare", str(photos), "--output", data, "--values", "254=1,255=2"]) == 0
    command = ["bench", "--quick", "--parts", "read", "--device", "cpu", "--data", data, "--image_size", "64"]
    assert main([*command, "--output", str(tmp_path / "a")]) == 2
    assert "pass --num_classes 3" in capsys.readouterr().err
    networks = Networks([], LESSNet(out_channels=3).state_dict(), torch.device("cpu"), num_classes=3)
    ((_, (row,)),) = validation_dice([Contender(ARCHITECTURES[0], TORCH)], networks, data, 64, {})
    assert 0 <= row["dice"] <= 100 and row["images"] >= 1
    parameters = {"num_classes": 3, "group_pattern": "(", "dataset_dir": data}
    (tmp_path / "run.json").write_text(json.dumps({"parameters": parameters}))
    command += ["--weights", str(tmp_path / "model.pt")]  # its file is not read before the data are
    assert main([*command, "--output", str(tmp_path / "b")]) == 2
    assert "group_pattern '(' is not a regular expression" in capsys.readouterr().err
