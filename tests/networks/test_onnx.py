# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Inference through ONNX Runtime: one value of the config, the masks of PyTorch, and clear words for the wrong file."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from PIL import Image

from scripts import export
from scripts.data import load_datalist
from scripts.errors import InputError
from scripts.networks import CoarseRefined, LESSNet, OnnxNetwork, on_backend
from scripts.networks.onnx import SETTLED
from tests.test_configs import OVERLAYS
from tests.tiny import ROOT, error_text

SETTINGS = {"image_size": [64, 64], "in_channels": 3, "num_classes": 2}
WRAPPER = ROOT / "configs" / "networks" / "coarse_refined.yaml"


@pytest.fixture(scope="module")
def network():
    """LESSNet with the shared weights."""
    network = LESSNet().eval()
    network.load_state_dict(torch.load(ROOT / "models" / "model.pt", weights_only=True))
    return network


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    """Path of its ONNX file, exported for 64 pixels."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    path.write_bytes(export.to_onnx(network, torch.rand(2, 3, 64, 64), SETTINGS))
    return path


def predict(folder, output, overlays=(), **overrides):
    settings = {"bundle_root": str(ROOT), "dataset_dir": str(folder), "output_dir": str(output), "image_size": 64}
    settings |= {"device": "cpu", "batch_size": 3} | overrides
    configs = [str(path) for path in (ROOT / "configs" / "inference.json", *overlays)]
    workflow = ConfigWorkflow(config_file=configs, workflow_type="infer", logging_file=False, **settings)
    workflow.initialize()
    workflow.run()
    return {path.name: np.asarray(Image.open(path)) for path in sorted(output.iterdir())}


def test_the_masks_are_those_of_pytorch(synthetic_set, model, tmp_path):
    folder = next(iter({path.rpartition("/")[0] for path in images(synthetic_set)}))
    torch_masks = predict(folder, tmp_path / "torch")
    # network_def stays with random weights here, so that nothing but the ONNX file can have made these
    masks = predict(folder, tmp_path / "onnx", backend="onnxruntime", ckpt_path=str(model))
    assert masks.keys() == torch_masks.keys() and len(masks) == 20
    different = np.mean([(masks[name] != torch_masks[name]).mean() for name in masks])
    assert different <= 0.001
    assert 0 < np.mean([mask > 0 for mask in masks.values()]) < 1


def test_a_wrapped_network_is_computed_by_onnx_runtime_too(network, synthetic_set, tmp_path):
    torch.manual_seed(0)
    wrapped = CoarseRefined(network).eval()
    torch.nn.init.normal_(wrapped.correct.weight, std=30)  # 0 at the start, when it answers as if not wrapped
    torch.save(wrapped.state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.onnx").write_bytes(export.to_onnx(wrapped, torch.rand(2, 3, 64, 64), SETTINGS))
    folder = images(synthetic_set)[0].rpartition("/")[0]
    expected = predict(folder, tmp_path / "torch", [WRAPPER], ckpt_path=str(tmp_path / "model.pt"))
    values = {"backend": "onnxruntime", "ckpt_path": str(tmp_path / "model.onnx")}
    found = predict(folder, tmp_path / "onnx", [WRAPPER], **values)
    assert found.keys() == expected.keys() and len(found) == 20
    assert np.mean([(found[name] != expected[name]).mean() for name in found]) <= 0.001
    plain = predict(folder, tmp_path / "plain")
    assert np.mean([(found[name] != plain[name]).mean() for name in found]) > 0.01


@pytest.mark.parametrize("overlay", [p for p in OVERLAYS if p.parent.name != "methods"], ids=lambda path: path.stem)
def test_no_overlay_takes_the_place_of_the_onnx_file(overlay, synthetic_set, tmp_path):
    folder = images(synthetic_set)[0].rpartition("/")[0]
    with pytest.raises(Exception) as caught:
        predict(folder, tmp_path / "out", [overlay], backend="onnxruntime", ckpt_path="none.onnx")
    assert error_text(caught.value).startswith("there is no ONNX model none.onnx: check the path")
    assert not list(tmp_path.rglob("*.png"))


def images(dataset):
    return [item["image"] for items in load_datalist(dataset).values() for item in items]


def test_tensor_in_tensor_out_with_metadata(network, model):
    image = MetaTensor(torch.rand(2, 3, 80, 49), meta={"spacing": 3})
    found = OnnxNetwork(model)(image)
    assert isinstance(found, MetaTensor) and found.meta["spacing"] == 3
    with torch.no_grad():
        wanted = network(image.as_tensor())
    torch.testing.assert_close(found.as_tensor(), wanted, atol=1e-4, rtol=0)
    assert type(OnnxNetwork(model)(image.as_tensor().double().float())) is torch.Tensor


def test_a_size_means_the_same_as_a_pair(model):
    OnnxNetwork(model, SETTINGS | {"image_size": 64})


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"ckpt_path": str(ROOT / "models" / "model.pt")}, "is not a readable ONNX model"),
        ({"ckpt_path": "none.onnx"}, "there is no ONNX model none.onnx"),
        ({"backend": "tensorrt"}, "backend is 'tensorrt': give one of torch, onnxruntime"),
        ({"backend": "torch"}, "is an ONNX model: pass --backend onnxruntime"),
        ({"image_size": 96}, r"was exported for image_size \[64,64\], here it is 96: pass --image_size \[64,64\]"),
        ({"num_classes": 3}, "was exported for num_classes 2, here it is 3: pass --num_classes 2"),
    ],
)
def test_wrong_files_and_values_end_in_a_sentence(overrides, sentence, synthetic_set, model, tmp_path):
    folder = images(synthetic_set)[0].rpartition("/")[0]
    with pytest.raises(Exception) as caught:
        predict(folder, tmp_path / "out", **({"backend": "onnxruntime", "ckpt_path": str(model)} | overrides))
    with pytest.raises(InputError, match=sentence):
        raise InputError(error_text(caught.value))


@pytest.mark.parametrize(("key", "there", "here"), [("num_classes", 2, 3), ("in_channels", 3, 1)])
def test_a_file_that_names_no_parameters_is_told_by_its_shapes(network, key, there, here):
    model = export.to_onnx(network, torch.rand(2, 3, 64, 64))
    OnnxNetwork(model, SETTINGS)
    with pytest.raises(InputError, match=f"was exported for {key} {there}, here it is {here}: pass --{key} {there}"):
        OnnxNetwork(model, SETTINGS | {key: here})


def test_a_shape_that_the_file_does_not_take(model):
    with pytest.raises(InputError, match=r"takes images of shape .* not \[1, 4, 64, 64\]"):
        OnnxNetwork(model)(torch.rand(1, 4, 64, 64))


def test_torch_is_the_network_itself(network):
    assert on_backend(network, "torch", "model.pt") is network


def test_after_some_images_of_one_shape_it_is_prepared_for_them_and_answers_alike(network, model):
    found, images, others = OnnxNetwork(model), torch.rand(2, 3, 80, 49), torch.rand(1, 3, 33, 64)
    general = found.session
    with torch.no_grad():
        wanted, other = network(images), network(others)
    asked = [images] * SETTLED + [others] + [images] * 3 + [others]
    used = [found._session(tuple(x.shape)) for x in asked]
    assert all(session is general for session in used[:SETTLED] + [used[SETTLED], used[-1]])
    special = used[-2]
    assert special is not general and special.get_inputs()[0].shape == [2, 3, 80, 49]
    for x, expected in ((images, wanted), (others, other)) * 2:
        torch.testing.assert_close(found(x), expected, atol=1e-4, rtol=0)
    for _ in range(2 * SETTLED + 1):  # another shape that stays takes its place
        found(others)
    assert found.settled[2].get_inputs()[0].shape == [1, 3, 33, 64]
    torch.testing.assert_close(found(others), other, atol=1e-4, rtol=0)
    torch.testing.assert_close(found(images), wanted, atol=1e-4, rtol=0)


def test_onnx_runtime_gets_the_threads_and_pytorch_keeps_one(network, model):
    before = torch.get_num_threads()
    try:
        for spinning in (True, False):
            torch.set_num_threads(2)
            options = on_backend(network, "onnxruntime", str(model), spinning=spinning).session.get_session_options()
            assert options.intra_op_num_threads == 2 and torch.get_num_threads() == 1
            assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spinning))
    finally:
        torch.set_num_threads(before)
