# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The validation metric, driven by the real evaluator."""

import pytest
import torch
from ignite.exceptions import NotComputableError
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from scripts import metrics
from scripts.handlers.scores import SegmentationScores


def evaluate(items, network, num_classes, batch_size=3, decollate=False):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size),
        network=network,
        key_val_metric={"val_mean_dice": SegmentationScores(num_classes)},
        decollate=decollate,
    )
    evaluator.run()
    return evaluator.state


def random_items(count, num_classes, size=(8, 6)):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((count, num_classes, *size), generator=generator)
    label = torch.randint(0, num_classes, (count, 1, *size), generator=generator)
    label[0] = 255
    return [{"image": i, "label": t} for i, t in zip(image, label)]


@pytest.mark.parametrize("decollate", [False, True])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_scores_of_a_run(num_classes, decollate):
    items = random_items(7, num_classes)
    state = evaluate(items, torch.nn.Identity(), num_classes, decollate=decollate)
    image, label = (torch.stack([item[key] for item in items]) for key in ("image", "label"))
    expected = metrics.overlap_scores(metrics.confusion_counts(image.argmax(1), label[:, 0], num_classes))
    assert state.metrics == pytest.approx({f"val_{key}": value for key, value in expected.items()})
    assert state.best_metric == pytest.approx(expected["mean_dice"])


def test_one_channel_is_a_sigmoid():
    label = torch.zeros(2, 1, 4, 4)
    label[:, :, 0] = 1
    items = [{"image": label[0] * 2 - 1, "label": label[0]}, {"image": 1 - label[1] * 2, "label": label[1]}]
    assert evaluate(items, torch.nn.Identity(), 2).metrics["val_mean_dice"] == 0.5


def test_a_second_run_starts_from_nothing():
    metric = SegmentationScores(2)
    metric.update((torch.randn(2, 2, 4, 4), torch.zeros(2, 1, 4, 4)))
    metric.reset()
    with pytest.raises(NotComputableError):
        metric.compute()
