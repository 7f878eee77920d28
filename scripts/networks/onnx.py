# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""An exported network that ONNX Runtime computes, in the place of the network that PyTorch computes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from torch import Tensor

from scripts.errors import InputError

BACKENDS = ("torch", "onnxruntime")
EXPORT = "run `python -m bundle export`"
SETTLED = 16  # calls in a row with images of one shape, after which the file is prepared for that shape


class OnnxNetwork(nn.Module):
    """Calls an ONNX file like a network: images in, logits out; computed on the CPU, with as many threads as torch has.

    It has no parameters: there is nothing to train and nothing to load into it.

    A file for images of any size works its sizes out anew at every call, which takes a tenth of the time or more. When
    :data:`SETTLED` calls in a row had one shape, as in a video, it is read once more for that shape alone; other
    shapes go on through the first one. The logits of the two differ by rounding.

    Args:
        model: path of the file, or its content.
        expected: parameters of this run by config key (image_size, in_channels, num_classes); those that the file
            names as well, as those of ``python -m bundle export`` do, must be the same.
        spinning: its threads wait for work by spinning: the quickest answer where nothing else needs the cores.

    Shapes:
        (B, C, X, Y) float in [0, 1] -> logits (B, K, X, Y), on the device and with the metadata of the input.

    Raises:
        InputError: onnxruntime is not installed, no such file, not ONNX, made for other parameters; and when it is
            called with a shape that the file does not take.
    """

    def __init__(
        self, model: str | Path | bytes, expected: Mapping[str, Any] | None = None, spinning: bool = True
    ) -> None:
        super().__init__()
        self.name = "the ONNX model" if isinstance(model, bytes) else str(model)
        self.spinning, self.threads = spinning, torch.get_num_threads()
        self.content = self._content(model)
        self.session = self._open()
        self.settled: tuple[tuple[int, ...], int, Any] = ((), 0, None)  # usual shape, calls with it, its session
        self.image, self.logits = self.session.get_inputs()[0], self.session.get_outputs()[0]
        self._check(expected or {})

    def _content(self, model: str | Path | bytes) -> bytes:
        if not isinstance(model, bytes) and not Path(model).is_file():
            raise InputError(f"there is no ONNX model {model}: check the path, or {EXPORT}")
        return model if isinstance(model, bytes) else Path(model).read_bytes()

    def _open(self, sizes: Mapping[str, int] | None = None) -> Any:
        """A session; ``sizes`` of the file's free dimensions, by their names, if it is for one shape alone."""
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError("backend: onnxruntime is not installed: run pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        for name, size in (sizes or {}).items():
            options.add_free_dimension_override_by_name(name, size)
        try:
            return onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a different type for every kind of damage
            raise InputError(f"{self.name} is not a readable ONNX model: {EXPORT} and pass its model.onnx") from error

    def _check(self, expected: Mapping[str, Any]) -> None:
        made_for = self.session.get_modelmeta().custom_metadata_map
        for key, value in expected.items():
            there = json.loads(made_for[key]) if key in made_for else value
            if ensure_tuple_rep(there, 2) != ensure_tuple_rep(value, 2):
                shown = json.dumps(there).replace(" ", "")
                raise InputError(
                    f"{self.name} was exported for {key} {shown}, here it is {value}: pass --{key} {shown}"
                )
        for key, shape in (("in_channels", self.image.shape), ("num_classes", self.logits.shape)):
            there = shape[1] if len(shape) > 1 else None
            if key in expected and isinstance(there, int) and there != expected[key]:  # else its file leaves it open
                raise InputError(
                    f"{self.name} was exported for {key} {there}, here it is {expected[key]}: pass --{key} {there}"
                )

    def forward(self, x: Tensor) -> Tensor:
        shape = self.image.shape
        if len(shape) != x.ndim or any(isinstance(n, int) and n != found for n, found in zip(shape, x.shape)):
            raise InputError(f"{self.name} takes images of shape {shape}, not {list(x.shape)}: {EXPORT} for any size")
        content = x.detach().cpu().contiguous().numpy()
        session = self._session(tuple(x.shape))
        return convert_to_dst_type(session.run([self.logits.name], {self.image.name: content})[0], x)[0]

    def _session(self, shape: tuple[int, ...]) -> Any:
        """That for images of ``shape``."""
        usual, calls, session = self.settled
        if shape != usual:
            # a last, smaller batch goes by without undoing what was prepared; another shape that stays does not
            self.settled = (usual, calls - 1, session) if calls > 1 else (shape, 1, None)
            return self.session
        if session is None and calls >= SETTLED:
            free = {name: size for name, size in zip(self.image.shape, shape) if isinstance(name, str)}
            session = self._open(free) if free else self.session
        self.settled = (usual, min(calls + 1, SETTLED), session)
        return session or self.session


def on_backend(
    network: nn.Module, backend: str, path: str, expected: Mapping[str, Any] | None = None, spinning: bool = True
) -> nn.Module:
    """``network`` itself for the backend ``torch``, the ONNX file at ``path`` for ``onnxruntime``.

    ONNX Runtime gets PyTorch's threads, and PyTorch, which then only prepares images and masks, keeps one: threads of
    both wait for work by spinning, and on two cores those of one hold up those of the other (docs/performance.md).

    Raises:
        InputError: no such backend, ``path`` is of the other one, or see :class:`OnnxNetwork`.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend is '{backend}': give one of {', '.join(BACKENDS)}")
    if backend == "onnxruntime":
        computed = OnnxNetwork(path, expected, spinning)
        torch.set_num_threads(1)
        return computed
    if Path(path).suffix == ".onnx":
        raise InputError(f"{path} is an ONNX model: pass --backend onnxruntime")
    return network
