# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the server answers with: masks, polygons, uncertainty. Each is MONAI Label's task of a bundle."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import nibabel
import numpy as np
import torch
from monai.transforms import Activationsd
from monai.utils import convert_to_numpy
from monailabel.tasks.infer.bundle import BundleConstants, BundleInferTask
from monailabel.transform.post import FindContoursd
from monailabel.transform.writer import PolygonWriter
from PIL import Image

SMALLEST = 10  # pixels of a polygon: a lesion may be small
NIFTI = (".nii", ".nii.gz")


class Constants(BundleConstants):
    """Names of the parts of ``configs/inference.json`` that MONAI Label takes."""

    def key_network_def(self) -> str:
        """What training trains: ``network_def`` and what an overlay such as that of CRII-Net puts around it."""
        return "network"


class Segmentation(BundleInferTask):
    """The mask of an image as a file with class indices: PNG for pictures, NIfTI in the grid of its image for NIfTI.

    A request may name another ``result_extension``. The weights must fit the network, or the request fails.
    """

    def __init__(self, path: str, conf: dict, **more: Any) -> None:
        # the bundle turns the mask back by itself; MONAI Label's Restored would have nothing to do
        super().__init__(path, conf, Constants(), add_post_restore=False, load_strict=True, **more)

    def __call__(self, request: dict, callbacks: dict | None = None) -> tuple:
        """The file of the mask and what is told of it."""
        image = request.get("image")
        if isinstance(image, str) and not request.get("result_extension"):
            volume = image.lower().endswith(NIFTI) or os.path.isdir(image)
            request = {**request, "result_extension": ".nii.gz" if volume else ".png"}
        return super().__call__(request, callbacks)

    def writer(self, data: dict, extension: str | None = None, dtype: Any = None) -> tuple[str, dict]:
        """Writes the mask (X, Y) or (X, Y, Z), uint8."""
        mask = convert_to_numpy(data[self.output_label_key], dtype=np.uint8)  # MONAI Label leaves it on the GPU
        suffix = extension or data["result_extension"]
        handle, name = tempfile.mkstemp(suffix=suffix)
        os.close(handle)
        if suffix.lower() in NIFTI:
            shape, affine = source_grid(data)
            fits = shape and math.prod(shape) == mask.size  # the third axis of a file may hold the channels
            nibabel.save(nibabel.Nifti1Image(mask.reshape(shape) if fits else mask, affine), name)
        else:
            Image.fromarray(np.ascontiguousarray(mask.T)).save(name)
        return name, data.get(self.output_json_key, {})


def source_grid(data: dict) -> tuple[tuple[int, ...] | None, np.ndarray]:
    """Shape (up to three axes) and affine (4, 4) of the mask as a NIfTI file: those of its image, if that is one."""
    path, meta = data.get("image_path", ""), data["image"].meta
    shape = nibabel.load(path).shape[:3] if path.lower().endswith(NIFTI) else None
    affine = np.asarray(meta.get("source_affine", meta["original_affine"]), dtype=np.float64)
    return shape, affine if affine.shape == (4, 4) else np.eye(4)


class Polygons(Segmentation):
    """The outlines of the mask as JSON, which MONAI Label's plugin of CVAT draws."""

    def __call__(self, request: dict, callbacks: dict | None = None) -> tuple:
        """No file, and the outlines."""
        return super().__call__({"min_poly_area": SMALLEST, "output": "json", **request}, callbacks)

    def post_transforms(self, data: dict | None = None) -> Sequence[Callable]:
        """Those of the mask and one that outlines it."""
        return [*super().post_transforms(data), FindContoursd(keys=self.output_label_key, labels=self.labels)]

    def writer(self, data: dict, extension: str | None = None, dtype: Any = None) -> tuple[Any, dict]:
        """MONAI Label's writer of polygons."""
        return PolygonWriter(label=self.output_label_key, json=self.output_json_key)(data)


class FlipUncertainty(BundleInferTask):
    """How unsure the network is about an image, by :mod:`scripts.uncertainty`, as ``uncertainty`` of the result."""

    def __init__(self, path: str, conf: dict) -> None:
        super().__init__(path, conf, Constants(), skip_writer=True, load_strict=True)

    def run_inferer(self, data: dict, convert_to_batch: bool = True, device: str = "cuda") -> dict:
        """Predicts the image and its mirror images."""
        from scripts.uncertainty import flipped_probabilities, image_uncertainty

        inferer, network = self.inferer(data), self._get_network(device, data)
        image = data[self.input_key].as_tensor()[None].to(device)
        probabilities = flipped_probabilities(lambda view: inferer(view, network), image)
        return data | {"uncertainty": float(image_uncertainty(probabilities))}

    def post_transforms(self, data: dict | None = None) -> Sequence[Callable]:
        """None: there is no mask."""
        return []


class DropoutProbabilities(BundleInferTask):
    """Class probabilities (K, X, Y) with random dropout, for MONAI Label's epistemic scoring.

    Only dropout is random: MONAI Label's training mode would also let batch normalisation see one image at a time.
    """

    def __init__(self, path: str, conf: dict, dropout: float = 0.2) -> None:
        super().__init__(path, conf, Constants(), skip_writer=True, load_strict=True, dropout=dropout)

    def _get_network(self, device: str, data: dict) -> torch.nn.Module:
        network = super()._get_network(device, data)
        for module in network.modules():
            if isinstance(module, torch.nn.modules.dropout._DropoutNd):
                module.train()
        return network

    def post_transforms(self, data: dict | None = None) -> Sequence[Callable]:
        """Softmax alone, at the size of the network."""
        return [Activationsd(keys=self.output_label_key, softmax=True)]
