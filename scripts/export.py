# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A network in the forms that other programs run: ONNX, quantised ONNX, TorchScript and ``torch.export``."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks import OnnxNetwork

IMAGE, LOGITS, OPSET = "image", "pred", 17
AXES = {0: "batch", 2: "x", 3: "y"}
#: what is computed in 8 bits; with the matrix products of the attention too it was slower and not closer
QUANTISED = ("Conv",)

Run = Callable[[Tensor], Tensor]


def to_onnx(network: nn.Module, example: Tensor, properties: Mapping[str, Any] | None = None) -> bytes:
    """ONNX with any batch and size; input ``image`` (B, C, X, Y) in [0, 1], output ``pred``, the logits (B, K, X, Y).

    Args:
        network: in evaluation mode.
        example: image (B, C, X, Y) to trace with, B of at least 2.
        properties: written into the file, as JSON.

    Raises:
        InputError: onnx is not installed.
    """
    onnx = _module("onnx")
    file = io.BytesIO()
    with quiet():
        # the newer exporter needs onnxscript, one more package for the same graph
        torch.onnx.export(
            network,
            (example,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[IMAGE],
            output_names=[LOGITS],
            dynamic_axes={IMAGE: AXES, LOGITS: AXES},
        )
    model = onnx.load_model_from_string(file.getvalue())
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in (properties or {}).items()})
    return model.SerializeToString()


def to_int8(model: bytes, images: Iterable[Tensor]) -> bytes:
    """The ONNX ``model`` with its convolutions in 8 bits: weights per channel, activations in the range seen.

    Static quantisation of onnxruntime (QDQ nodes, signed 8-bit weights, unsigned 8-bit activations, minima and maxima
    over ``images``).

    Args:
        model: of :func:`to_onnx`.
        images: (1, C, X, Y) each, preprocessed as the network expects.

    Raises:
        InputError: onnx or onnxruntime is not installed.
    """
    _module("onnx")
    quantization = _module("onnxruntime.quantization")
    preprocess = _module("onnxruntime.quantization.shape_inference").quant_pre_process
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, prepared, result = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "result"))
        source.write_bytes(model)
        # onnxruntime's own inference of symbolic shapes knows no resizing to computed sizes
        preprocess(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(result),
            _Images(images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return result.read_bytes()


class _Images:
    """What onnxruntime's calibration reads: one image after the other, then None."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input of the session."""
        image = next(self.images, None)
        return None if image is None else {IMAGE: image.numpy()}


def to_torchscript(network: nn.Module) -> bytes:
    """TorchScript with any batch and size, scripted, so that it keeps what depends on the image."""
    file = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.script(network), file)
    return file.getvalue()


def to_pt2(network: nn.Module, example: Tensor) -> tuple[bytes, dict[str, str]]:
    """``torch.export`` with any batch and the sizes it can prove, and these bounds by axis.

    The program specialises where a map is one patch or one pixel wide: an example of at least 129 pixels keeps LESSNet
    general from there on.
    """
    axes = {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    file = io.BytesIO()
    with quiet():
        program = torch.export.export(network, (example,), dynamic_shapes=(axes,))
        torch.export.save(program, file)
    name = program.graph_signature.user_inputs[0]
    shape = next(node for node in program.graph.nodes if node.name == name).meta["val"].shape
    bounds = {}
    for axis, name in AXES.items():
        found = program.range_constraints.get(getattr(getattr(shape[axis], "node", None), "expr", None))
        bounds[name] = f"{found.lower} to {found.upper}" if found else str(shape[axis])
    return file.getvalue(), bounds


def loaded(form: str, content: bytes) -> Run:
    """The function that an exported file computes; ``form`` is onnx, int8, torchscript or pt2."""
    if form == "torchscript":
        with quiet():
            return torch.jit.load(io.BytesIO(content))
    if form == "pt2":
        return torch.export.load(io.BytesIO(content)).module()
    return OnnxNetwork(content)


@torch.no_grad()
def differences(run: Run, network: nn.Module, shapes: Sequence[Sequence[int]]) -> dict[str, float | None]:
    """Largest absolute difference of the logits to those of ``network`` on a random image of each shape.

    None where the exported program refuses the shape.
    """
    found: dict[str, float | None] = {}
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        image = torch.rand(*shape, generator=generator)
        name = "x".join(map(str, shape))
        try:
            found[name] = float((run(image) - network(image)).abs().max())
        except (AssertionError, RuntimeError):  # torch.export's guards
            found[name] = None
    return found


@torch.no_grad()
def changed_pixels(run: Run, network: nn.Module, images: Sequence[Tensor]) -> float:
    """Share of the pixels of ``images``, (1, C, X, Y) each, that get another class than ``network`` gives."""
    shares = [(run(image).argmax(1) != network(image).argmax(1)).float().mean() for image in images]
    return float(torch.stack(shares).mean())


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks on deprecation, tracing and shape inference, which are no news to a user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _module(name: str) -> Any:
    try:
        module = __import__(name, fromlist=["_"])
    except ImportError as error:
        package = name.split(".")[0]
        raise InputError(f"export: {package} is not installed: run pip install onnx onnxruntime") from error
    return module
