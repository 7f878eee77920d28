# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Validation images in TensorBoard are upright and side by side."""

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from scripts.handlers import ValidationImages
from scripts.handlers.images import panel
from tests.tiny import TinyNetwork, validator


def test_a_panel_is_upright():
    image, label, logits = torch.zeros(3, 8, 5), torch.zeros(1, 8, 5), torch.zeros(2, 8, 5)
    image[0, 7, 0] = 1  # the upper right corner
    logits[1, 0, 4] = 1  # the lower left one
    picture = panel(image, label, logits)
    assert picture.shape == (3, 5, 24)
    assert picture[0, 0, 7] == 1 and picture[:, 4, 16].tolist() == [1, 1, 1] and picture.sum() == 4


def test_grey_images_and_the_ignore_index_are_shown():
    picture = panel(torch.full((1, 4, 4), 0.5), torch.full((1, 4, 4), 255), torch.zeros(3, 4, 4))
    assert picture[:, 0, 0].tolist() == [0.5] * 3 and picture[:, 0, 4].tolist() == [1.0] * 3


def test_the_first_images_are_written_every_interval(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    engine = validator(TinyNetwork())
    ValidationImages(writer, count=2, interval=2).attach(engine)
    for epoch in (1, 2, 3):
        engine.run(epoch)
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["images"] == ["validation/0", "validation/1"]
    assert [event.step for event in events.Images("validation/0")] == [1, 3]
