# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The network leaves the bundle in every form MONAI offers, and computes the same in each of them.

Everything runs on a copy of the bundle folder with random weights, through the functions behind
``python -m monai.bundle``.
"""

import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, load, onnx_export, verify_net_in_out

from scripts.networks import LESSNet

SHAPE = [2, 3, 96, 80]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def network():
    """The default network with running statistics that are not the initial ones, in evaluation mode."""
    torch.manual_seed(0)
    network = LESSNet(in_channels=3, out_channels=2)
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(SHAPE))
    return network.eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, network, request):
    """A bundle folder: the real configs, and weights."""
    folder = tmp_path_factory.mktemp("zoo") / "bundle"
    shutil.copytree(request.config.rootpath / "configs", folder / "configs")
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def expected(network):
    image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return image, network(image)


def files(bundle, config="inference.json"):
    return {"meta_file": str(bundle / "configs" / "metadata.json"), "config_file": str(bundle / "configs" / config)}


@pytest.mark.parametrize("config", ["inference.json", "train.json"])
def test_the_network_does_what_the_metadata_says(bundle, config):
    verify_net_in_out(net_id="network_def", device="cpu", **files(bundle, config))


@pytest.mark.parametrize("use_trace", [False, True])
def test_torchscript(bundle, expected, use_trace):
    path, weights = bundle / "models" / f"model_{use_trace}.ts", str(bundle / "models" / "model.pt")
    ckpt_export(
        "network_def", filepath=str(path), ckpt_file=weights, use_trace=use_trace, input_shape=SHAPE, **files(bundle)
    )
    image, logits = expected
    torch.testing.assert_close(torch.jit.load(path)(image), logits, atol=TOLERANCE, rtol=0)


def test_onnx_with_any_batch_and_size(bundle, network):
    path = bundle / "models" / "model.onnx"
    axes = {"image": {0: "batch", 2: "x", 3: "y"}}
    names = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": axes}
    onnx_export(
        net_id="network_def",
        filepath=str(path),
        ckpt_file=str(bundle / "models" / "model.pt"),
        use_trace=True,
        input_shape=[1, *SHAPE[1:]],
        converter_kwargs={"dynamo": False, "opset_version": 17} | names,
        **files(bundle),
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ([1, 3, 96, 80], [2, 3, 128, 128], [2, 3, 61, 90]):
        image = torch.rand(shape)
        with torch.no_grad():
            expected = network(image).numpy()
        found = session.run(None, {"image": image.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.slow
def test_torch_export_with_any_batch_and_size(network):
    """From 129 pixels on: below, the deepest map has one patch in a row, which torch.export takes for a constant."""
    axes = {0: torch.export.Dim("batch", min=1, max=64), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(network, (torch.rand(2, 3, 192, 256),), dynamic_shapes=(axes,)).module()
    for shape in ([1, 3, 129, 140], [5, 3, 192, 160], [2, 3, 201, 333]):
        image = torch.rand(shape)
        with torch.no_grad():
            torch.testing.assert_close(program(image), network(image), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("workflow_type", ["train", "infer"])
def test_load(bundle, expected, workflow_type, monkeypatch):
    monkeypatch.chdir(bundle)
    workflow = {"train": "train", "infer": "inference"}[workflow_type]
    network = load(
        name="bundle", bundle_dir=str(bundle.parent), workflow_type=workflow, device="cpu", source="monaihosting"
    )
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(expected[0]), expected[1], atol=0, rtol=0)
