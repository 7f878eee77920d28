# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m bundle stream`: masks as inference writes them, whole files whatever happens, bad input refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from bundle.__main__ import main
from bundle.stream import stream
from scripts import export, pictures
from scripts.data.synthetic_frames import draw_patient, paint_frame
from scripts.errors import InputError
from scripts.networks import CoarseRefined, LESSNet
from scripts.streaming import Pipeline, Source
from tests.folders import content_of
from tests.streaming.videos import arguments, read_video, scenes, write_video
from tests.tiny import ROOT

WRAPPED = [str(ROOT / "configs" / name) for name in ("inference.json", "networks/coarse_refined.yaml")]


def inferred(images, output, configs, **settings):
    """The masks that the real inference writes for a folder, one image at a time as a stream is predicted."""
    common = {"bundle_root": str(ROOT), "dataset_dir": str(images), "output_dir": str(output), "batch_size": 1}
    workflow = ConfigWorkflow(
        config_file=configs,
        workflow_type="infer",
        logging_file=False,
        **common,
        **settings,
    )
    workflow.initialize()
    workflow.run()
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(output.glob("*.png"))}


def write_frames(folder, made):
    folder.mkdir()
    for number, picture in enumerate(made):
        Image.fromarray(picture).save(folder / f"{number:06d}.png")
    return folder


@pytest.fixture
def threads():
    """PyTorch's threads as they were, whatever a test makes of them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("form", ["pt", "onnx", "wrapped onnx"])
@pytest.mark.parametrize("video", [True, False])
def test_masks_are_those_of_inference(tmp_path, synthetic_set, threads, form, video):
    made = [np.asarray(Image.open(path))[:, :29] for path in sorted((synthetic_set / "images").iterdir())[:4]]
    images = write_frames(tmp_path / "in", made)
    weights, backend, configs = ROOT / "models" / "model.pt", "torch", WRAPPED[:1]
    if form != "pt":
        network = LESSNet().eval()
        network.load_state_dict(torch.load(weights, weights_only=True))
        if form == "wrapped onnx":
            network, configs = CoarseRefined(network).eval(), WRAPPED
        weights, backend = tmp_path / "model.onnx", "onnxruntime"
        weights.write_bytes(export.to_onnx(network, torch.rand(2, 3, 64, 64)))
    expected = inferred(images, tmp_path / "masks", configs, image_size=64, backend=backend, ckpt_path=str(weights))
    source = write_video(tmp_path / "in.mkv", made, "ffv1") if video else images
    before = content_of(images)
    words = ["--input", source, "--output", tmp_path / "out.mp4", "--masks", tmp_path / "found", "--weights", weights]
    torch.set_num_threads(2)  # to be told from the one that PyTorch keeps beside ONNX Runtime
    assert main(["stream", *map(str, words), "--size", "64", "--config", *configs]) == 0
    report = json.loads((tmp_path / "out.mp4.json").read_text())
    assert torch.get_num_threads() == report["threads"] == report["at_once"] == 2
    found = {path.stem: np.asarray(Image.open(path)) for path in sorted((tmp_path / "found").iterdir())}
    assert found.keys() == expected.keys() and any(mask.any() for mask in found.values())
    for name, mask in expected.items():
        assert mask.shape == (32, 29) and (found[name] == mask).all()
    assert content_of(images) == before


def test_overlay_masks_and_report_of_a_video(tmp_path, capsys):
    made = scenes(12)
    source = write_video(tmp_path / "in.mp4", made, sound=True)
    words = ["stream", "--input", str(source), "--output", str(tmp_path / "out.mkv")]
    assert main([*words, "--masks", str(tmp_path / "masks.mkv"), *arguments(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "the sound is left out" in printed and "12 frames in" in printed and "0 dropped" in printed
    report = json.loads((tmp_path / "out.mkv.json").read_text())
    assert (report["frames"], report["dropped"], report["undecodable"], report["interrupted"]) == (12, 0, 0, False)
    assert set(report["median_ms"]) == {"decode", "predict", "overlay", "encode"}
    assert all(value > 0 for value in report["median_ms"].values()) and report["fps"] > 0
    assert all(waiting <= 4 for waiting in report["most_waiting"].values())
    drawn, masks = read_video(tmp_path / "out.mkv"), read_video(tmp_path / "masks.mkv", grey=True)
    assert len(drawn) == len(masks) == 12
    for picture, overlay, mask in zip(made, drawn, masks):
        bright = picture[..., 0] > 100
        assert set(np.unique(mask)) == {0, 255}
        assert (bright & (mask > 0)).sum() / (bright | (mask > 0)).sum() > 0.8
        expected = picture.copy()
        pictures.draw_mask(expected, mask // 255, pictures.FILL)
        assert abs(overlay.astype(int) - expected).mean() < 8 < abs(overlay.astype(int) - picture).mean()


def test_a_folder_becomes_a_folder(tmp_path):
    images = write_frames(tmp_path / "in", [*scenes(2), *scenes(1, 33, 47)])
    Image.fromarray(scenes(1)[0][..., 0]).save(images / "grey.png")
    assert main(["stream", "--input", str(images), "--output", str(tmp_path / "out"), *arguments(tmp_path)]) == 0
    names = ["000000.jpg", "000001.jpg", "000002.jpg", "grey.jpg"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert Image.open(tmp_path / "out" / "000002.jpg").size == (33, 47)


def test_live_drops_are_counted_and_leave_a_pause(tmp_path, capsys):
    source = write_video(tmp_path / "in.mp4", scenes(50))
    words = ["stream", "--input", str(source), "--output", str(tmp_path / "out.mp4"), "--live", "--read-ahead", "1"]
    assert main([*words, *arguments(tmp_path, seconds=0.1)]) == 0
    report = json.loads((tmp_path / "out.mp4.json").read_text())
    assert report["frames"] + report["dropped"] == 50 and 15 < report["dropped"] < 45
    assert report["most_waiting"]["predict"] == 1 and report["at_once"] == 1
    assert len(read_video(tmp_path / "out.mp4")) == report["frames"]
    assert f"{report['dropped']} dropped" in capsys.readouterr().out


def test_a_file_that_ends_early_is_finished_and_told(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (30, 60, 90, 3), dtype=np.uint8)
    source = write_video(tmp_path / "in.mp4", list(noise), movflags="faststart")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    words = ["stream", "--input", str(source), "--output", str(tmp_path / "out.mp4"), *arguments(tmp_path)]
    assert main(words) == 0
    report = json.loads((tmp_path / "out.mp4.json").read_text())
    assert report["frames"] + report["undecodable"] == 30 and 5 < report["undecodable"] < 25
    assert f"{report['undecodable']} could not be decoded (" in capsys.readouterr().out
    assert len(read_video(tmp_path / "out.mp4")) == report["frames"]


def test_ctrl_c_leaves_a_file_that_plays(tmp_path):
    source = write_video(tmp_path / "in.mp4", scenes(250))

    def interrupt():
        while not (tmp_path / ".out.unfinished.mp4").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    words = ["stream", "--input", str(source), "--output", str(tmp_path / "out.mp4"), "--live", *arguments(tmp_path)]
    assert main(words) == 130
    report = json.loads((tmp_path / "out.mp4.json").read_text())
    assert report["interrupted"] and 5 < report["frames"] < 200
    assert len(read_video(tmp_path / "out.mp4")) == report["frames"]
    assert not (tmp_path / ".out.unfinished.mp4").exists()


def test_every_film_is_closed_whatever_happens_to_the_others():
    class Nothing(Source):
        def __iter__(self):
            return iter(())

    class Film:
        def close(self):
            closed.append(self)
            raise InputError("no room")

    closed, films = [], [Film(), Film()]
    with pytest.raises(InputError, match="no room"):
        stream(Pipeline(Nothing(), {"encode": lambda frame: None}), Nothing(), films)
    assert set(closed) == set(films)


def test_nothing_is_replaced(tmp_path, capsys):
    images, held = write_frames(tmp_path / "in", scenes(2)), tmp_path / "held.mp4"
    held.write_bytes(b"mine")
    common = ["stream", "--input", str(images), *arguments(tmp_path)]
    for words in (
        ["--output", held],
        ["--output", tmp_path / "a.mp4", "--masks", held],
        ["--output", tmp_path / "a.mp4", "--report", held],
    ):
        assert main([*common, *map(str, words)]) == 2
        assert "held.mp4 already exists: name another one" in capsys.readouterr().err
    assert main([*common, "--output", str(images)]) == 2
    assert main([*common, "--output", str(images / "out.mp4")]) == 2
    assert "lies in the input" in capsys.readouterr().err
    assert main([*common, "--output", str(tmp_path / "a.mkv"), "--masks", str(tmp_path / "a.mkv")]) == 2
    assert "must differ" in capsys.readouterr().err
    assert main([*common, "--output", str(tmp_path / "a.mp4"), "--report", str(held / "figures.json")]) == 2
    assert "report" in (told := capsys.readouterr().err) and "held.mp4 cannot be written" in told
    assert held.read_bytes() == b"mine" and not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--input", "none.mp4"], "--input none.mp4 does not exist"),
        (["--weights", "none.pt"], "no checkpoint none.pt"),
        (["--weights", ""], "the path of the weights is empty"),
        (["--weights", "none.onnx"], "there is no ONNX model none.onnx"),
        (["--weights", "no#1.onnx"], "there is no ONNX model no#1.onnx"),
        (["--weights", "none.onnx", "--config", *WRAPPED], "there is no ONNX model none.onnx"),
        (["--output", ""], "--output is '': name a new video or folder"),
        (["--output", "out.gif"], "give a name that ends in .mp4"),
        (["--masks", "masks.mp4"], "give a name that ends in .mkv"),
        (["--read-ahead", "0"], "--read-ahead is 0: give at least 1"),
        (["--at-once", "0"], "--at-once is 0: give at least 1"),
        (["--rate", "0"], "--rate is 0.0"),
        (["--rate", "0.0004"], "--rate is 0.0004"),
        (["--size", "7"], "image_size is 7"),
    ],
)
def test_bad_input_ends_in_a_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    images = write_frames(tmp_path / "in", scenes(1))
    options = arguments(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["stream", "--input", str(images), "--output", "out.mp4", *options, *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and sentence in printed
    assert not list(tmp_path.glob("*.mp4*")) and not list(tmp_path.glob("*.gif*"))


def test_a_folder_of_broken_pictures_is_named(tmp_path, capsys):
    images = write_frames(tmp_path / "in", [])
    (images / "a.png").write_bytes(b"\x89PNG no more")
    assert main(["stream", "--input", str(images), "--output", str(tmp_path / "o.mp4"), *arguments(tmp_path)]) == 2
    assert "not one frame could be decoded" in capsys.readouterr().err


def test_without_pyav_the_package_is_named(tmp_path, monkeypatch, capsys):
    source = write_video(tmp_path / "in.mp4", scenes(1))
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["stream", "--input", str(source), "--output", str(tmp_path / "o"), *arguments(tmp_path)]) == 2
    assert "videos need the package av, which is not installed: run pip install av" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("av.__version__", "16.1.0")
    assert main(["stream", "--input", str(source), "--output", str(tmp_path / "o"), *arguments(tmp_path)]) == 2
    assert "the package av from version 17 on, here is 16.1.0: run pip install -U av" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads the resident memory from /proc")
def test_memory_stays_flat_over_2000_frames_of_1080p(tmp_path):
    frame, _ = paint_frame(np.random.default_rng(0), draw_patient(np.random.default_rng(1)), 1100)
    wide = np.tile(frame, (1, 2, 1))[:1080]
    pictures = (np.ascontiguousarray(wide[:, n % 250 : n % 250 + 1920]) for n in range(2000))
    source = write_video(tmp_path / "in.mp4", pictures, plain=True)
    words = ["--input", str(source), "--output", str(tmp_path / "out.mp4"), "--size", "256"]
    words += ["--threads", "2", "--at-once", "2"]
    process = subprocess.Popen([sys.executable, "-m", "bundle", "stream", *words], cwd=ROOT)
    curve = []
    while process.poll() is None:
        if (tmp_path / ".out.unfinished.mp4").exists():
            with open(f"/proc/{process.pid}/statm") as file:
                curve.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        time.sleep(1)
    assert process.returncode == 0
    report = json.loads((tmp_path / "out.mp4.json").read_text())
    print("resident MB, 20 times:", [round(value) for value in curve[:: max(1, len(curve) // 20)]], report)
    assert report["frames"] == 2000 and report["dropped"] == 0
    quarter = len(curve) // 4
    assert max(curve[-quarter:]) < 1.05 * max(curve[quarter : 2 * quarter])
