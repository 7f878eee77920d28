# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Where frames come from: a video file, or a folder of pictures in the order of their numbers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.decode import Decoded, decode
from scripts.data.volumes import is_volume
from scripts.errors import InputError
from scripts.inputs import images_without_masks, tell_masks
from scripts.streaming.video import pyav

RATE = Fraction(25)  # frames a second of a folder, and of a video that does not tell its own


@dataclass
class Frame:
    """One frame on its way.

    Attributes:
        number: place in the source, from 0.
        name: its mask's name without ending: the stem of its file, or its number.
        seconds: when it is shown.
        decoded: its values as they are read from a picture file, ``array`` (C, X, Y).
        rgb: (Y, X, 3) uint8, what the mask is drawn into; None until it is needed.
        mask: (Y, X) uint8 class indices; None until it is predicted.
        took: seconds by stage.
    """

    number: int
    name: str
    seconds: float
    decoded: Decoded | None
    rgb: np.ndarray | None = None
    mask: np.ndarray | None = None
    took: dict[str, float] = field(default_factory=dict)

    def release(self) -> None:
        """Lets go of the pixels."""
        self.decoded = self.rgb = self.mask = None


class Source(ABC):
    """Base of the sources: iterate it once.

    Attributes:
        rate: frames a second.
        total: number of frames, as far as the source tells it; 0: unknown.
        aspect: width of a pixel / its height.
        sound: there is sound beside the pictures.
        undecodable: frames that could not be decoded so far.
        trouble: what was wrong with the first of them.
    """

    rate: Fraction = RATE
    total: int = 0
    aspect: Fraction = Fraction(1)
    sound: bool = False
    undecodable: int = 0
    trouble: str = ""

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """The frames that can be decoded, in order."""

    def close(self) -> None:
        """Closes the file."""

    def failed(self, reason: object, frames: int = 1) -> None:
        """Counts frames that could not be decoded."""
        self.undecodable += frames
        self.trouble = self.trouble or " ".join(str(reason).split()).rstrip(".")


class FrameFolder(Source):
    """Pictures directly inside a folder, ``frame_2`` before ``frame_10``, without masks beside them; one that cannot be
    read is passed over.

    Raises:
        InputError: no such folder, no picture in it, a volume, or two of one stem.
    """

    def __init__(self, path: Path, rate: Fraction = RATE) -> None:
        found, masks = images_without_masks(path)
        tell_masks(masks)
        self.rate, self.paths = rate, sorted(found.items(), key=lambda pair: natural(pair[0]))
        self.total = len(self.paths)
        if not self.total:
            raise InputError(f"{path} holds no picture (PNG, JPEG, TIFF, BMP): correct --input")
        volume = next((file for _, file in self.paths if _is_volume(file)), None)
        if volume is not None:
            raise InputError(
                f"{volume} is a volume, and a frame is one picture: move it elsewhere (`monai.bundle run inferring` "
                "predicts volumes)"
            )

    def __iter__(self) -> Iterator[Frame]:
        for number, (stem, path) in enumerate(self.paths):
            try:
                decoded = decode(path)
            except InputError as error:
                self.failed(error)
            else:
                yield Frame(number, stem, float(number / self.rate), decoded)


def _is_volume(path: Path) -> bool:
    """Whether a file holds several slices; one whose header is damaged is passed over later, as any frame."""
    try:
        return is_volume(path)
    except InputError:
        return False


class VideoFile(Source):
    """The first video stream of a file that FFmpeg reads. What cannot be decoded is passed over and counted.

    Raises:
        InputError: PyAV is missing, the file cannot be read as a video, or it holds none.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.av, self.path = pyav(), path
        try:
            self.container = self.av.open(str(path.absolute()))  # 12:30.mp4 alone names a protocol to FFmpeg
        except (self.av.FFmpegError, OSError) as error:
            raise InputError(
                f"{path} cannot be read as a video ({reason_of(error)}): replace it; a file that was cut off while it "
                "was written may have no index, which a player cannot make up either"
            ) from error
        if not self.container.streams.video:
            self.container.close()
            raise InputError(f"{path} holds no video: correct --input")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type, self.stream.codec_context.thread_count = "AUTO", threads
        self.rate = self.stream.average_rate or self.stream.guessed_rate or RATE
        self.aspect = self.stream.sample_aspect_ratio or Fraction(1)
        self.sound = bool(self.container.streams.audio)
        self.total = self.stream.frames or self._estimate()

    def _estimate(self) -> int:
        length = self.container.duration  # in microseconds; what the header says, of a file that was cut too
        return round(length / 1_000_000 * self.rate) if length else 0

    def __iter__(self) -> Iterator[Frame]:
        number, start = 0, None
        for picture in self._pictures():
            rgb = np.rot90(picture.to_ndarray(format="rgb24"), picture.rotation // 90)
            seconds = picture.time if picture.time is not None else float(number / self.rate)
            start = seconds if start is None else start
            rgb = np.ascontiguousarray(rgb)
            values = Decoded(rgb.transpose(2, 1, 0), np.eye(4), eight_bit=True)
            yield Frame(number, f"{number:06d}", seconds - start, values, rgb)
            number += 1
        if self.stream.frames > number + self.undecodable:
            self.failed("the file ends early", self.stream.frames - number - self.undecodable)

    def _pictures(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except self.av.FFmpegError as error:
                self.failed(reason_of(error))
                packet = None
            yield from self._decoded(packet)
            if packet is None:
                return

    def _decoded(self, packet: Any) -> list[Any]:
        """Pictures that a packet completes; those that the decoder still holds for None."""
        try:
            if packet is None:
                return self.stream.decode(None)
            return packet.decode()
        except self.av.EOFError:  # the last packet of the demuxer has emptied it already
            return []
        except self.av.FFmpegError as error:
            self.failed(reason_of(error))
            return []

    def close(self) -> None:
        self.container.close()


def open_source(path: str | Path, rate: float = float(RATE), threads: int = 0) -> Source:
    """The frames of a folder, or of a video file.

    Args:
        path: folder or file.
        rate: frames a second that a folder is shown at.
        threads: of the decoder; 0: as many as it likes.

    Raises:
        InputError: there is no such path; and see the two classes.
    """
    path = Path(path)
    if path.is_dir():
        return FrameFolder(path, Fraction(rate).limit_denominator(1001))
    if not path.is_file():
        raise InputError(f"--input {path} does not exist: give a video file or a folder of frames")
    return VideoFile(path, threads)


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which numbers inside names count as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def reason_of(error: BaseException) -> str:
    """FFmpeg's words alone, without the error's number and the path."""
    return str(getattr(error, "strerror", None) or error)
