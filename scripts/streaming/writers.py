# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Where frames go: a video file, or a folder of pictures."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.errors import InputError
from scripts.streaming.video import pyav

#: codecs for pictures that people look at, by file ending, the first that FFmpeg was built with
CODECS = {
    ".mp4": ("libx264", "mpeg4"),
    ".mov": ("libx264", "mpeg4"),
    ".mkv": ("libx264", "mpeg4"),
    ".webm": ("libvpx-vp9", "libvpx"),
}
LOSSLESS = {".mkv": ("ffv1",)}  # for masks, whose every value counts
OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"},
    "mpeg4": {"qscale": "3"},
}
BT709 = 1  # the number of that standard in FFmpeg's tables of colours
JPEG_QUALITY = 90


class Writer(ABC):
    """Base of the writers. Nothing is written before the first picture."""

    @abstractmethod
    def write(self, picture: np.ndarray, name: str, seconds: float) -> None:
        """One picture more: (Y, X, 3) or (Y, X), uint8.

        Raises:
            InputError: it does not fit the ones before, or there is no room.
        """

    def close(self) -> None:
        """Ends the file, which can be played then."""


class FolderWriter(Writer):
    """One picture a frame, under the name of the frame.

    Args:
        path: the new folder.
        suffix: ``.png``, which is lossless, or ``.jpg``.
    """

    def __init__(self, path: Path, suffix: str) -> None:
        self.path, self.suffix = path, suffix

    def write(self, picture: np.ndarray, name: str, seconds: float) -> None:
        options = {"quality": JPEG_QUALITY} if self.suffix == ".jpg" else {"compress_level": 1}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(self.path / f"{name}{self.suffix}", **options)
        except OSError as error:
            raise no_room(self.path, error) from error


class VideoWriter(Writer):
    """A video at a constant rate; pictures keep their time, so that dropped frames leave a pause.

    It is written beside ``path`` and renamed when it is whole. Where the codec halves the resolution of the colours,
    an odd side grows by a pixel, a copy of the last one.

    Args:
        path: the new file; its ending decides on the format.
        rate: frames a second.
        lossless: keep every value, for masks.
        aspect: width of a pixel / its height.
        threads: of the encoder; 0: as many as it likes.

    Raises:
        InputError: PyAV is missing, or it can write no such file.
    """

    def __init__(
        self, path: Path, rate: Fraction, lossless: bool = False, aspect: Fraction = Fraction(1), threads: int = 0
    ) -> None:
        self.av, self.path, self.rate, self.lossless = pyav(), path, rate, lossless
        self.aspect, self.threads = aspect, threads
        self.codec = self._choose()
        self.unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
        self.container: Any = None
        self.stream: Any = None
        self.failed = False
        self.last = -1

    def _choose(self) -> str:
        table = LOSSLESS if self.lossless else CODECS
        wanted = table.get(self.path.suffix.lower())
        if not wanted:
            what = "masks" if self.lossless else "a video"
            raise InputError(f"{self.path}: give a name that ends in {' or '.join(table)} for {what}, or a new folder")
        found = [name for name in wanted if name in self.av.codecs_available]
        if not found:
            raise InputError(
                f"{self.path}: this PyAV has no encoder {wanted[0]}: install av from PyPI, or write a folder"
            )
        return found[0]

    def write(self, picture: np.ndarray, name: str, seconds: float) -> None:
        try:
            if self.container is None:
                self._open(picture)
            if picture.shape != self.shape:
                (height, width), (rows, columns) = picture.shape[:2], self.shape[:2]
                raise InputError(
                    f"frame {name} has {width} x {height} pixels, the first one {columns} x {rows}, a video has one "
                    "size: give a new folder instead of a video file"
                )
            for packet in self.stream.encode(self._frame(picture, seconds)):
                self.container.mux(packet)
        except (self.av.FFmpegError, OSError) as error:
            self.failed = True
            raise no_room(self.path, error) from error

    def _open(self, picture: np.ndarray) -> None:
        self.shape, (height, width) = picture.shape, picture.shape[:2]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.container = self.av.open(str(self.unfinished.absolute()), "w")  # see VideoFile
        self.stream = self.container.add_stream(self.codec, rate=self.rate, options=dict(OPTIONS.get(self.codec, {})))
        self.stream.pix_fmt = "gray" if self.lossless else "yuv420p"
        even = 1 if self.lossless else 2
        self.stream.width, self.stream.height = (-(-side // even) * even for side in (width, height))
        context = self.stream.codec_context
        context.time_base, context.thread_count = 1 / self.rate, self.threads
        context.sample_aspect_ratio = self.aspect
        if not self.lossless:
            context.colorspace = context.color_primaries = context.color_trc = BT709

    def _frame(self, picture: np.ndarray, seconds: float) -> Any:
        rows, columns = self.stream.height - len(picture), self.stream.width - picture.shape[1]
        if rows or columns:
            picture = np.pad(picture, [(0, rows), (0, columns), (0, 0)], mode="edge")
        if self.lossless:
            frame = self.av.VideoFrame.from_ndarray(picture, format="gray")
        else:
            frame = self.av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        self.last = max(self.last + 1, round(seconds * self.rate))
        frame.pts, frame.time_base = self.last, 1 / self.rate
        return frame

    def close(self) -> None:
        if self.container is None:
            return
        container, self.container = self.container, None
        try:
            try:
                for packet in self.stream.encode(None) if self.stream is not None else ():
                    container.mux(packet)
            finally:
                container.close()
        except (self.av.FFmpegError, OSError) as error:
            raise no_room(self.path, error) from error  # what there is stays under its unfinished name
        if self.stream is not None and not self.failed:
            os.replace(self.unfinished, self.path)


def open_writer(path: Path, rate: Fraction, lossless: bool, aspect: Fraction = Fraction(1), threads: int = 0) -> Writer:
    """A :class:`VideoWriter` for a name with an ending, else a :class:`FolderWriter`: PNG for masks, else JPEG."""
    if path.suffix:
        return VideoWriter(path, rate, lossless, aspect, threads)
    return FolderWriter(path, ".png" if lossless else ".jpg")


def no_room(path: Path, error: Exception) -> InputError:
    """The sentence for what could not be written."""
    reason = getattr(error, "strerror", None) or error
    return InputError(f"cannot write {path} ({reason}): free space, or make the folder writable")
