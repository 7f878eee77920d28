# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m bundle export`: every form computes what PyTorch computes, the report is true, bad input is refused."""

import hashlib
import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch

from bundle.__main__ import main
from scripts import export
from scripts.networks import LESSNet, UNet
from tests.tiny import ROOT, SMALL_UNET


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small U-Net with weights, and the arguments that make the command take it at 64 pixels."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    network = UNet(3, 2, SMALL_UNET["channels"]).eval()
    torch.save(network.state_dict(), folder / "weights.pt")
    (folder / "small.json").write_text(json.dumps({"network_def": SMALL_UNET}))
    configs = [str(ROOT / "configs" / "inference.json"), str(folder / "small.json")]
    return network, ["--weights", str(folder / "weights.pt"), "--config", *configs, "--image_size", "64"]


@pytest.fixture(scope="module")
def done(small, synthetic_set, tmp_path_factory):
    """The folder that the command filled with all four forms."""
    output = tmp_path_factory.mktemp("exported") / "new"
    assert main(["export", "--output", str(output), "--calibration", str(synthetic_set), *small[1]]) == 0
    return output


def test_all_forms_and_a_true_report(done, small):
    report = json.loads((done / "export.json").read_text())
    assert sorted(path.name for path in done.iterdir()) == sorted([*report["files"], "export.json"])
    assert report["settings"] == {"image_size": 64, "in_channels": 3, "num_classes": 2}
    for name, entry in report["files"].items():
        content = (done / name).read_bytes()
        assert entry["bytes"] == len(content) and entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert len(entry["max_difference"]) == 6
    int8 = report["files"].pop("model.int8.onnx")
    assert 1 <= int8["calibration_images"] <= 20 and 0 <= int8["changed_pixels_of_calibration_images"] < 0.1
    for entry in report["files"].values():
        assert all(value <= 1e-4 for value in entry["max_difference"].values())


@pytest.mark.parametrize("form", ["onnx", "torchscript", "pt2"])
def test_other_sizes_and_batches_than_those_compared(done, small, form):
    file = {"onnx": "model.onnx", "torchscript": "model.ts", "pt2": "model.pt2"}[form]
    call = export.loaded(form, (done / file).read_bytes())
    for shape in ((1, 3, 96, 80), (5, 3, 160, 64)):
        image = torch.rand(shape)
        with torch.no_grad():
            torch.testing.assert_close(call(image), small[0](image), atol=1e-4, rtol=0)


def test_onnx_says_what_it_takes(done):
    for name in ("model.onnx", "model.int8.onnx"):
        session = onnxruntime.InferenceSession(str(done / name), providers=["CPUExecutionProvider"])
        properties = session.get_modelmeta().custom_metadata_map
        assert (properties["image_size"], properties["in_channels"], properties["num_classes"]) == ("64", "3", "2")
        assert [value.name for value in session.get_inputs()] == ["image"]
        assert [value.name for value in session.get_outputs()] == ["pred"]


def test_int8_of_lessnet_is_close_and_quantised():
    import onnx

    torch.manual_seed(0)
    network = LESSNet().eval()
    network.load_state_dict(torch.load(ROOT / "models" / "model.pt", weights_only=True))
    images = [torch.rand(1, 3, 64, 64) * scale for scale in (0.3, 0.6, 1.0)]
    model = export.to_int8(export.to_onnx(network, torch.rand(2, 3, 96, 64)), images)
    weights = [tensor for tensor in onnx.load_model_from_string(model).graph.initializer if tensor.data_type == 3]
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    assert sum(np.prod(tensor.dims) > 1 for tensor in weights) >= convolutions
    assert any(len(tensor.dims) == 4 for tensor in weights)
    call = export.loaded("int8", model)
    assert export.changed_pixels(call, network, images) < 0.02
    with torch.no_grad():
        image = torch.rand(2, 3, 80, 97)
        assert 0 < (call(image) - network(image)).abs().mean() < 0.5


def test_a_form_that_computes_something_else_is_refused(small, done):
    from bundle.export import described

    torch.manual_seed(1)
    other, settings = UNet(3, 2, SMALL_UNET["channels"]).eval(), {"image_size": 64, "in_channels": 3}
    with pytest.raises(ValueError, match="model.onnx does not compute what PyTorch computes on 1x3x64x64"):
        described("onnx", (done / "model.onnx").read_bytes(), other, settings, [])


def test_nothing_is_replaced_unasked(done, small, capsys):
    before = (done / "export.json").read_bytes()
    words = ["export", "--output", str(done), "--formats", "torchscript", *small[1]]
    assert main(words) == 2
    assert "model.ts already exists: pass --overwrite" in capsys.readouterr().err
    assert (done / "export.json").read_bytes() == before


def test_overwrite_replaces(small, tmp_path, capsys):
    words = ["export", "--output", str(tmp_path), "--formats", "torchscript", *small[1]]
    (tmp_path / "model.ts").write_text("old")
    (tmp_path / "model.int8.onnx").write_text("of other weights")
    assert main([*words, "--overwrite"]) == 0
    assert "model.int8.onnx  is of an earlier export" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "model.int8.onnx", "model.ts"]
    assert (tmp_path / "model.ts").read_bytes() != b"old"


def test_an_output_that_takes_no_files_is_told_before_the_work(small, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["export", "--output", str(tmp_path / "file" / "out"), "--formats", "torchscript", *small[1]]) == 2
    printed = capsys.readouterr()
    assert "out cannot be written (Not a directory): make it writable" in printed.err and "model.ts" not in printed.out


class Unscriptable(UNet):
    """A network that TorchScript cannot take: it knows no generator."""

    def decode(self, maps):
        fused, features = super().decode(list(m for m in maps))
        return fused, features


@pytest.fixture
def unscriptable(small, tmp_path):
    """The arguments that export :class:`Unscriptable` with the weights of the small network."""
    definition = SMALL_UNET | {"_target_": f"{__name__}.Unscriptable"}
    (tmp_path / "own.json").write_text(json.dumps({"network_def": definition}))
    return [*small[1][:4], str(tmp_path / "own.json"), *small[1][5:], "--output", str(tmp_path / "out")]


def test_a_form_that_fails_is_left_out_and_the_others_are_kept(unscriptable, tmp_path, capsys):
    assert main(["export", *unscriptable]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.split()[:3] == ["model.ts", "left", "out:"] and len(line) < 250
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert list(report["files"]) == ["model.onnx", "model.pt2"] and list(report["left_out"]) == ["model.ts"]
    assert report["left_out"]["model.ts"] in line
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "model.pt2", "export.json"}


@pytest.mark.parametrize("formats, written", [("onnx,torchscript", True), ("torchscript", False)])
def test_a_form_asked_for_that_fails_is_a_failure(unscriptable, tmp_path, capsys, formats, written):
    assert main(["export", *unscriptable, "--formats", formats]) == 1
    assert (tmp_path / "out" / "model.onnx").exists() == (tmp_path / "out" / "export.json").exists() == written
    assert ("in none of the formats" in capsys.readouterr().err) != written


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--formats", "onx"], "--formats names 'onx': give some of onnx,int8,torchscript,pt2"),
        (["--formats", "int8"], "pass --calibration with a dataset folder"),
        (["--weights", "none.pt"], "no checkpoint none.pt"),
        (["--weights", ""], "the path of the weights is empty"),
        (["--num_classes", "3"], "the file has 2 classes, the network 3: pass --num_classes 2"),
        (["--num_classes", "1"], "num_classes"),
        (["--image_size", "small"], "image_size"),
        (["--config", "none.json"], "--config none.json does not exist"),
        (["--calibration", "none"], "none"),
    ],
)
def test_bad_input_ends_in_a_sentence(words, sentence, tmp_path, capsys):
    assert main(["export", "--output", str(tmp_path / "out"), *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and sentence in printed
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_nowhere_is_named(tmp_path, capsys):
    (tmp_path / "own.json").write_text(json.dumps({"network_def": {"_target_": "nowhere.Net"}}))
    words = ["--config", str(ROOT / "configs" / "inference.json"), str(tmp_path / "own.json")]
    assert main(["export", "--output", str(tmp_path / "out"), *words]) == 2
    assert "network_def: there is no nowhere.Net: correct its _target_" in capsys.readouterr().err


@pytest.mark.parametrize("of_run", [False, True])
def test_calibration_images_are_of_the_split_of_the_run(small, synthetic_set, tmp_path, capsys, of_run):
    """A pattern that cannot be read shows that it is: that of the run beside the weights, and the one that is given."""
    weights, *rest = small[1][1:]
    shutil.copyfile(weights, tmp_path / "weights.pt")
    words = ["--weights", str(tmp_path / "weights.pt"), *rest, "--calibration", str(synthetic_set), "--formats", "int8"]
    if of_run:
        parameters = {"group_pattern": "(", "dataset_dir": str(synthetic_set)}
        (tmp_path / "run.json").write_text(json.dumps({"parameters": parameters}))
    else:
        words += ["--group_pattern", "("]
    assert main(["export", "--output", str(tmp_path / "out"), *words]) == 2
    assert "group_pattern '(' is not a regular expression" in capsys.readouterr().err
