# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Two processes under torchrun (gloo): equal to one with the doubled batch, equal to each other, killed and resumed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from scripts import distributed
from scripts.data.streams import StreamSampler
from scripts.errors import InputError
from scripts.files import load_checkpoint
from scripts.handlers.scoring import CaseScores
from tests.handlers.test_scoring import blobs, logits_of, write_slices
from tests.test_training import same_run
from tests.tiny import ROOT, SMALL_UNET, workflow

PLAIN = SMALL_UNET | {"_target_": "tests.plain_network.PlainUNet"}

METHODS = sorted(path.name for path in (ROOT / "configs" / "methods").glob("*.yaml"))
RULES = [name for name in METHODS if "_target_: scripts.methods" in (ROOT / "configs" / "methods" / name).read_text()]
TRAIN = ["configs/train.json", "configs/multi_gpu_train.json"]
EVALUATE = ["configs/train.json", "configs/evaluate.json", "configs/multi_gpu_evaluate.json"]
#: nothing is drawn, so that one process and two see the same images the same way; plain SGD, since Adam makes a whole
#: step of a gradient that is rounding alone
STILL = """
weak_view: null
progressive_size: 1.0
method#strong_view: null
method#contrast: null
method#cutmix: 0
method#feature_perturbation: 0
method#threshold: 0.5
method#adaptive: true
method#trust: false
optimizer: {_target_: torch.optim.SGD, params: "$@network.parameters()", lr: 0.05}
"""
QUICK = {"image_size": 32, "epoch_length": 3, "unlabelled_batch_size": 2, "batch_size": 2, "label_ratio": 6}


def torchrun(*arguments: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return [sys.executable, "-W", "ignore", *launcher, *arguments]


def bundle(run_id: str, files: list[str], **values) -> list[str]:
    """The bundle's command line under torchrun, on the CPU; the network is a small one without batch norm."""
    values = {f"network_def#{key}": value for key, value in PLAIN.items()} | {"device": "cpu"} | values
    pairs = [str(part) for key, value in values.items() for part in (f"--{key}", value)]
    return torchrun("-m", "monai.bundle", "run", run_id, "--config_file", str(files), *pairs)


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900)


def environment() -> dict[str, str]:
    # as in the shell of an salloc: Ignite's own exchange would ask for SLURM_LOCALID, which only srun sets
    slurm = {"SLURM_JOB_ID": "5"}
    return {**os.environ, **slurm, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def in_one_process(files: list[str], run_id: str, **values):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of the processes, whatever the environment says
    try:
        made = workflow([name.removeprefix("configs/") for name in files], run_id, network_def=PLAIN, **values)
        made.run()
    finally:
        torch.set_num_threads(threads)


def test_two_processes_train_as_one_with_the_doubled_batch(tmp_path, synthetic_set):
    """The default rule but for its views and its contrast: losses to a relative 1e-5, weights and teacher to 1e-6."""
    (tmp_path / "still.yaml").write_text(STILL)
    still = str(tmp_path / "still.yaml")
    settings = {**QUICK, "max_epochs": 2, "dataset_dir": str(synthetic_set)}
    done = run(bundle("training", [*TRAIN, still], **settings, output_dir=tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-3000:]
    doubled = {"batch_size": 4, "unlabelled_batch_size": 4, "output_dir": str(tmp_path / "one")}
    in_one_process(["configs/train.json", still], "training", **settings | doubled)
    two, one = (load_checkpoint(tmp_path / name / "latest.pt") for name in ("two", "one"))
    for part in ("network", "rule"):
        for name, value in one[part].items():
            assert torch.allclose(two[part][name].float(), value.float(), rtol=1e-5, atol=1e-6), f"{part}.{name}"
    for row, other in zip(two["history"], one["history"]):
        assert row.keys() == other.keys()
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(other[name], rel=1e-5, abs=1e-6), name
    assert one["history"][-1]["loss/consistency"] > 0.01
    assert json.loads((tmp_path / "two" / "run.json").read_text())["parameters"]["processes"] == 2
    assert len(list((tmp_path / "two").glob("events.*"))) == 1
    assert done.stderr.count("epoch 2/2") + done.stdout.count("epoch 2/2") == 1  # one process speaks


def test_two_processes_evaluate_as_one(tmp_path, synthetic_set):
    torch.manual_seed(0)
    network = workflow(network_def=PLAIN).parser.get_parsed_content("network")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    settings = {"image_size": 32, "dataset_dir": str(synthetic_set), "ckpt_path": str(tmp_path / "model.pt")}
    settings |= {"part": "validation", "output_dir": str(tmp_path)}
    done = run(bundle("evaluating", EVALUATE, **settings, results_dir=tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-3000:]
    in_one_process(EVALUATE[:2], "evaluating", **settings, results_dir=str(tmp_path / "one"))
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in two.items() if k != "seconds"}
    rows = [list(csv.reader((tmp_path / name / "per_image.csv").open())) for name in ("one", "two")]
    assert rows[0] == rows[1] and len(rows[0]) == one["images"] + 1 > 2
    counts = [(tmp_path / name / "confusion.csv").read_text() for name in ("one", "two")]
    assert counts[0] == counts[1] and len(counts[0].splitlines()) == one["cases"] + 1
    pictures = [sorted(p.name for p in (tmp_path / name / "overlays").iterdir()) for name in ("one", "two")]
    assert pictures[0] == pictures[1]


def test_bad_input_ends_both_processes_with_one_sentence(tmp_path, synthetic_set):
    (tmp_path / "history.csv").write_text("epoch\n")
    began = time.monotonic()
    done = run(bundle("training", TRAIN, **QUICK, dataset_dir=synthetic_set, output_dir=tmp_path))
    assert done.returncode != 0 and time.monotonic() - began < 600
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(sentences) == 1 and "already holds a run (history.csv)" in sentences[0]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_a_run_of_one_process_is_not_resumed_by_two(tmp_path, synthetic_set):
    settings = {**QUICK, "dataset_dir": str(synthetic_set), "max_epochs": 1, "output_dir": str(tmp_path)}
    in_one_process(["configs/train.json"], "training", **settings)
    record = json.loads((tmp_path / "run.json").read_text())
    del record["process"]  # this one, which is not at an end
    (tmp_path / "run.json").write_text(json.dumps(record))
    before = (tmp_path / "latest.pt").read_bytes()
    done = run(bundle("training", TRAIN, **settings, resume="true"))
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode != 0 and len(sentences) == 1, done.stderr[-3000:]
    assert f"processes was 1 in the run in {tmp_path} and is 2 now" in sentences[0]
    assert "rank1]:" not in done.stderr and (tmp_path / "latest.pt").read_bytes() == before


@pytest.mark.parametrize(("files", "run_id"), [(TRAIN, "training"), (EVALUATE, "evaluating")])
def test_several_processes_without_torchrun_are_told_how_to_start(tmp_path, synthetic_set, files, run_id):
    command = bundle(run_id, files, **QUICK, dataset_dir=synthetic_set, output_dir=tmp_path / "run")
    alone = command[command.index("monai.bundle") - 1 :]
    done = run([sys.executable, "-W", "ignore", *alone])
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"error: {files[-1]} is for several processes: start them by torchrun" in done.stderr
    assert not (tmp_path / "run").exists()


def test_more_processes_than_gpus_end_in_a_sentence(tmp_path, synthetic_set):
    settings = {**QUICK, "dataset_dir": synthetic_set, "output_dir": tmp_path / "run", "device": "cuda:99"}
    done = run(bundle("training", TRAIN, **settings))
    assert done.returncode != 0 and "bundle/workflows.py" not in done.stderr  # the one traceback is the launcher's own
    assert "error: cuda:99 is not among the" in done.stderr and "start no more processes than" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("files", [TRAIN, EVALUATE])
@pytest.mark.parametrize(("device", "refused"), [("cuda", True), ("cuda:0", True), ("cuda:1", False), ("cpu", False)])
def test_one_gpu_for_all_processes_is_refused(monkeypatch, files, device, refused):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in files])
    parser["device"] = device
    lines = [f"initialize#{n}" for n in range(len(parser["initialize"]))]
    checked = [line for line in lines if "would be the device of all processes" in parser[line]]
    assert len(checked) == 1
    if refused:
        with pytest.raises(SystemExit, match=f"error: --device {device} would be the device of all processes"):
            parser.get_parsed_content(checked[0])
    else:
        assert parser.get_parsed_content(checked[0]) is None


@pytest.fixture(scope="module")
def every_rule(tmp_path_factory, synthetic_set):
    folder = tmp_path_factory.mktemp("ranks")
    overlays = [f"methods/{name}" for name in RULES]
    done = run(torchrun("-m", "tests.rank_worker", str(synthetic_set), str(folder), *overlays))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "ranks.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_every_rule_keeps_the_processes_equal(every_rule, name):
    """Network, rule (teacher, memories, second network) and optimiser, bit for bit; each rank saw other images."""
    result = every_rule[f"methods/{name}"]
    assert result["ranks"] == 2 and result["different"] == [] and result["other_images"] and result["seeds"] == 2
    assert result["loss"] == result["loss"] and len(set(result["score"])) == 1
    assert result["files"].count("events") == 1 and "latest" in result["files"]


def pids_of_ranks(launcher: int) -> dict[int, int]:
    """Process id of every rank below a torchrun."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rsplit(")", 1)[1].split()[1]) == launcher:
                pairs = (entry.partition("=") for entry in (path / "environ").read_text().split("\0"))
                found[int({name: value for name, _, value in pairs}["RANK"])] = int(path.name)
        except (OSError, KeyError, ValueError):
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
def test_a_killed_process_ends_the_run_which_resumes_to_the_same_weights(tmp_path, synthetic_set):
    settings = {**QUICK, "dataset_dir": str(synthetic_set), "max_epochs": 6, "epoch_length": 10}
    whole = run(bundle("training", TRAIN, **settings, output_dir=tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr[-3000:]
    command = bundle("training", TRAIN, **settings, output_dir=tmp_path / "cut")
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "cut" / "latest.pt").is_file():
            assert process.poll() is None, process.stderr.read()[-3000:]
            time.sleep(0.005)
        os.kill(pids_of_ranks(process.pid)[1], signal.SIGKILL)
        killed = time.monotonic()
        _, said = process.communicate(timeout=120)
    assert process.returncode != 0 and time.monotonic() - killed < 60
    assert "SIGKILL" in said
    assert load_checkpoint(tmp_path / "cut" / "latest.pt")["epoch"] < 6
    again = run(bundle("training", TRAIN, **settings, output_dir=tmp_path / "cut", resume="true"))
    assert again.returncode == 0, again.stderr[-3000:]
    assert same_run(tmp_path / "whole", tmp_path / "cut")


def test_the_shares_of_a_batch_are_the_batch():
    whole = StreamSampler(7, 6, 5, seed=3)
    shares = [StreamSampler(7, 2, 5, seed=3, rank=rank, ranks=3) for rank in range(3)]
    for batch in range(9):
        assert [index for share in shares for index in share.indices(batch)] == whole.indices(batch)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_image_is_judged_once_and_volumes_stay_whole(monkeypatch, ranks):
    class Data:
        data = [{"volume": volume} if volume else {} for volume in ["a", "", "b", "a", "", "b", "b", ""]]

    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(distributed.share_of(Data))
    assert sorted(index for share in shares for index in share) == list(range(8))
    for volume in ("a", "b"):
        assert sum(any(Data.data[i].get("volume") == volume for i in share) for share in shares) == 1
    monkeypatch.setattr(distributed, "world_size", lambda: 6)
    with pytest.raises(InputError, match="5 images or volumes are to be judged by 6 processes: start 5 or fewer"):
        distributed.share_of(Data)


def test_joined_scores_are_those_of_one_process(tmp_path):
    """Two volumes, of which each process has scored one, with distances in millimetres."""
    items = write_slices(tmp_path, blobs((24, 20, 4), 0)) + write_slices(tmp_path, blobs((24, 20, 3), 1), "w")

    def scored(indices):
        scores = CaseScores(items, 2)
        for n in indices:
            scores.add(items[n]["key"], logits_of(blobs((24, 20), n)), torch.zeros(1, 24, 20))
        return scores, scores.share([items[n]["key"] for n in indices])

    whole, (first, one), (_, other) = scored(range(7))[0], scored(range(4)), scored(range(4, 7))
    first.join([other, one])
    assert torch.equal(first.case_tables(), whole.case_tables()) and first.sizes == whole.sizes
    assert torch.equal(first.case_distances(), whole.case_distances()) and first.volumes == whole.volumes
    assert torch.equal(torch.stack(first.distances), torch.stack(whole.distances))


def test_a_single_process_is_left_alone():
    value = torch.rand(3, requires_grad=True)
    assert not distributed.active() and distributed.is_main() and distributed.world_size() == 1
    assert distributed.summed(value)[0] is value and distributed.gathered(value) is value
    assert distributed.averaged(value) is value and distributed.from_main(lambda: 5) == 5
    assert distributed.gathered_objects(7) == [7]
