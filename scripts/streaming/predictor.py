# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""A frame through the preprocessing, network and postprocessing that ``configs/inference.json`` declares."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, SaveImaged

from scripts.data import ImageReader
from scripts.data.decode import Decoded
from scripts.errors import InputError
from scripts.pictures import to_rgb

READER = "scripts.streaming.FrameReader"


class FrameReader(ImageReader):
    """Stands in the place of the config's :class:`~scripts.data.ImageReader`, with its arguments: reads a frame that
    is in memory, :attr:`decoded`, by the very same rules.
    """

    decoded: Decoded

    def get_data(self, img: str) -> tuple[np.ndarray, dict]:
        """The frame (channels, X, Y) and its metadata; ``img`` is its name."""
        return self._with_metadata(self.convert(self.decoded, img), self.decoded.affine)


class FramePredictor:
    """Predicts frames one at a time as inference predicts picture files.

    Args:
        parser: of ``configs/inference.json`` and overlays, with the values of this run; changed: the reader reads from
            memory, and what saves masks is left out.
        network: the config's network with its weights loaded; None: as the config makes it.
    """

    def __init__(self, parser: ConfigParser, network: torch.nn.Module | None = None) -> None:
        place = reader_of(parser)
        parser[f"{place}#_target_"] = READER
        preprocessing = parser.get_parsed_content("preprocessing")
        self.preprocessing = preprocessing
        self.reader = parser.get_parsed_content(place)
        steps = parser.get_parsed_content("postprocessing").transforms
        self.postprocessing = Compose([step for step in steps if not isinstance(step, SaveImaged)])
        self.inferer, self.device = parser.get_parsed_content("inferer"), parser.get_parsed_content("device")
        self.network = (network if network is not None else parser.get_parsed_content("network_on_backend")).eval()

    def __call__(self, decoded: Decoded, name: str) -> np.ndarray:
        """The mask (Y, X), uint8 class indices, at the frame's size.

        Raises:
            InputError: the frame's channels do not fit the network.
        """
        self.reader.decoded = decoded
        data: dict[str, Any] = self.preprocessing({"image": name})
        with torch.inference_mode():
            data["pred"] = self.inferer(data["image"][None].to(self.device), self.network)[0]
            mask = self.postprocessing(data)["pred"]
        return np.ascontiguousarray(mask.cpu().numpy().T)

    def picture(self, decoded: Decoded, name: str) -> np.ndarray:
        """The frame as (Y, X, 3) uint8, to be drawn into."""
        if decoded.eight_bit and len(decoded.array) == 3:
            return np.ascontiguousarray(decoded.array.transpose(2, 1, 0))
        return np.ascontiguousarray(to_rgb(self.reader.convert(decoded, name)))


def reader_of(parser: ConfigParser) -> str:
    """Id of the reader in the config's preprocessing.

    Raises:
        InputError: there is none.
    """
    for place, step in enumerate(parser["preprocessing"]["transforms"]):
        if step.get("_target_") == "LoadImaged" and "reader" in step:
            return f"preprocessing#transforms#{place}#reader"
    raise InputError("preprocessing has no LoadImaged with a reader: give the configs of inference")
