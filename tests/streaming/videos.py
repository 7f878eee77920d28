# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Small videos made for the tests, and a network whose answer can be told from the picture."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.tiny import ROOT


class Bright(torch.nn.Conv2d):
    """Class 1 where the mean of the channels is above 0.6; ``seconds`` makes it slow."""

    def __init__(self, in_channels: int = 3, out_channels: int = 2, seconds: float = 0.0) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.seconds = seconds
        with torch.no_grad():
            self.weight.zero_()[1] = 100.0 / in_channels
            self.bias.copy_(torch.tensor([0.0, -60.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return super().forward(x)


def arguments(folder: Path, seconds: float = 0.0, size: int = 64) -> list[str]:
    """The command's options that make it use :class:`Bright`."""
    torch.save(Bright().state_dict(), folder / "bright.pt")
    network = {"_target_": "tests.streaming.videos.Bright", "in_channels": "@in_channels", "seconds": seconds}
    (folder / "bright.json").write_text(json.dumps({"network_def": network, "device": "cpu"}))
    configs = [str(ROOT / "configs" / "inference.json"), str(folder / "bright.json")]
    return ["--weights", str(folder / "bright.pt"), "--config", *configs, "--image_size", str(size), "--threads", "1"]


def scenes(count: int, width: int = 90, height: int = 60) -> list[np.ndarray]:
    """(height, width, 3): dark with a bright rectangle that moves to the right, both bluish."""
    made = []
    for number in range(count):
        picture = np.full((height, width, 3), (20, 40, 60), np.uint8)
        left = (width // 2 + number) % (width - width // 4)
        picture[height // 10 : height // 2, left : left + width // 4] = (200, 220, 240)
        made.append(picture)
    return made


def write_video(
    path: Path,
    made: Iterable[np.ndarray],
    codec: str = "libx264",
    sound: bool = False,
    turn: int = 0,
    plain: bool = False,
    **options: str,
) -> Path:
    """Writes pictures as a video of 25 frames a second, as they come; ``plain``: as a camera, else nearly lossless."""
    pictures = iter(made)
    first = next(pictures)
    with av.open(str(path), "w", options=options) as container:
        height, width = first.shape[:2]
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = width, height
        stream.pix_fmt = "bgr0"
        if codec == "libx264":
            stream.options = {"crf": "23" if plain else "5", "preset": "ultrafast", "g": "5"}
            stream.pix_fmt = "yuv420p" if plain else "yuv444p"
        if turn:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV reads turned videos but writes none")
            stream.set_display_rotation(turn)
        voice = container.add_stream("aac", rate=8000) if sound else None
        for picture in chain([first], pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            container.mux(voice.encode(silence))
            container.mux(voice.encode(None))
    return path


def read_video(path: Path, grey: bool = False) -> list[np.ndarray]:
    """All pictures of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray" if grey else "rgb24") for frame in container.decode(video=0)]
