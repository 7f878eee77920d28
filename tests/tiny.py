# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny real parts for the tests of the trainer, the handlers and whole runs."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from torch import nn

from scripts.data.streams import TwoStreamLoader
from scripts.engines import SemiSupervisedTrainer
from scripts.errors import InputError
from scripts.handlers import SegmentationScores
from scripts.methods import Supervised
from scripts.run.excepthook import chain

ROOT = Path(__file__).resolve().parents[1]

SMALL_UNET = {
    "_target_": "scripts.networks.UNet",
    "in_channels": "@in_channels",
    "out_channels": "@num_classes",
    "channels": [4, 4, 8, 8, 8],
}


class TinyNetwork(nn.Conv2d):
    """One convolution with the interface of a segmentation network."""

    def __init__(self) -> None:
        super().__init__(3, 2, 3, padding=1)


def items(count: int) -> list[dict]:
    """Random images with a bright square as lesion."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 12, 10, generator=generator) * 0.5 for _ in range(count)]
    for image in images:
        image[:, 3:7, 2:6] += 0.5
    return [{"image": i, "label": (i.mean(0, keepdim=True) > 0.5).byte(), "key": f"k{n}"} for n, i in enumerate(images)]


def trainer(rule=Supervised, unlabelled: int = 0, epoch_length: int = 3, **kwargs) -> SemiSupervisedTrainer:
    """A trainer of a tiny network, 2 epochs."""
    torch.manual_seed(0)
    network = kwargs.pop("network", None) or TinyNetwork()
    arguments = {"max_epochs": 2, "optimizer": torch.optim.SGD(network.parameters(), lr=0.1)} | kwargs
    loader = TwoStreamLoader(items(4), items(5), 2, unlabelled, epoch_length)
    return SemiSupervisedTrainer(
        device="cpu", train_data_loader=loader, network=network, loss_function=rule(network), **arguments
    )


def validator(network: nn.Module) -> SupervisedEvaluator:
    """An evaluator of the tiny images with the bundle's scores."""
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(items(3)), batch_size=2),
        network=network,
        key_val_metric={"val_mean_dice": SegmentationScores(num_classes=2)},
        decollate=False,
    )


@contextmanager
def full_disk() -> Iterator[None]:
    """The system refuses to let any file grow beyond 2000 bytes, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def workflow(config: str | list[str] = "train.json", run_id: str = "training", **overrides) -> ConfigWorkflow:
    """A training of the bundle's own configs with quick settings, initialised; ``__`` in a name stands for ``#``.

    Ellipsis leaves the config's own value, as ``network_def=...`` for the network that the bundle really trains.
    """
    quick = {"bundle_root": str(ROOT), "image_size": 32, "max_epochs": 2, "epoch_length": 2, "batch_size": 2}
    quick |= {"unlabelled_batch_size": 2, "label_ratio": 4, "device": "cpu", "network_def": SMALL_UNET}
    names = [config] if isinstance(config, str) else config
    made = ConfigWorkflow(
        config_file=[str(ROOT / "configs" / name) for name in names],
        logging_file=False,
        workflow_type="train",
        run_id=run_id,
        **{key.replace("__", "#"): value for key, value in (quick | overrides).items() if value is not ...},
    )
    made.initialize()
    return made


def error_text(error: BaseException) -> str:
    """The sentence of the InputError that an exception of MONAI's came from."""
    return next(str(e) for e in chain(error) if isinstance(e, InputError))


def refusal(data: Path, tmp_path: Path, config: str = "train.json", **overrides) -> str:
    """The sentence with which a run of the data is refused."""
    output = tmp_path / "run"
    made = workflow(config, dataset_dir=str(data), **{"output_dir": str(output)} | overrides)
    with pytest.raises(Exception) as caught:
        made.run()
    assert not (output / "latest.pt").exists()
    return error_text(caught.value)
