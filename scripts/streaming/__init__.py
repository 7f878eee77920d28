# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Videos in, videos out: frames are decoded, predicted, drawn and encoded side by side, in bounded memory."""

from scripts.streaming.frames import Frame, FrameFolder, Source, VideoFile, open_source
from scripts.streaming.pipeline import Pipeline
from scripts.streaming.predictor import FramePredictor, FrameReader
from scripts.streaming.tally import STAGES, Tally
from scripts.streaming.writers import FolderWriter, VideoWriter, Writer, open_writer

__all__ = [
    "STAGES",
    "FolderWriter",
    "Frame",
    "FrameFolder",
    "FramePredictor",
    "FrameReader",
    "Pipeline",
    "Source",
    "Tally",
    "VideoFile",
    "VideoWriter",
    "Writer",
    "open_source",
    "open_writer",
]
