# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps network and rule equal on all ranks of a distributed training."""

from __future__ import annotations

from collections.abc import Iterator

from ignite.engine import Events
from monai.engines.utils import IterationEvents
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scripts import distributed
from scripts.engines.trainer import SemiSupervisedTrainer


class Synchronise:
    """Averages the gradients of everything the optimiser trains, before they are clipped.

    Instead of ``DistributedDataParallel``, which wraps one module and one forward: a rule calls the network several
    times in an iteration, with and without gradient, and trains modules of its own (heads, a second network). What is
    exchanged is small: 1.4 M numbers an iteration for LESSNet.

    At the start all ranks take the weights, buffers and teacher of rank 0. On GPUs the batch-norm layers become
    synchronised ones; torch has none for the CPU, where each rank normalises by its own share of the batch and the
    running statistics are averaged.

    Stands last among the handlers. Does nothing in a single process.
    """

    converted = False

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Register with the trainer."""
        if distributed.active():
            engine.add_event_handler(Events.STARTED, self.start)
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.average_gradients)

    def start(self, engine: SemiSupervisedTrainer) -> None:
        """Equal parts on all ranks."""
        modules = (engine.student, engine.rule)
        if engine.state.device.type == "cuda":
            # once: timm's layers with an activation are other ones by then, and would lose it
            for module in () if self.converted else modules:
                convert_sync_batchnorm(module)
            self.converted = True
        elif not engine.has_event_handler(self.average_statistics):
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.average_statistics)
        distributed.copy_from_main_(t for module in modules for t in module.state_dict(keep_vars=True).values())

    def average_gradients(self, engine: SemiSupervisedTrainer) -> None:
        """The mean over the ranks; parameters without gradient have none on any rank."""
        parameters = (p for group in engine.optimizer.param_groups for p in group["params"])
        distributed.average_(p.grad for p in parameters if p.grad is not None)

    def average_statistics(self, engine: SemiSupervisedTrainer) -> None:
        """The running statistics of the batch-norm layers that are in training mode."""
        distributed.average_(statistics(engine.student, engine.rule))


def statistics(*modules: nn.Module) -> Iterator[Tensor]:
    """Running means and variances of the batch-norm layers in training mode, in one order on all ranks."""
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, _BatchNorm) and layer.training and layer.running_mean is not None:
            yield layer.running_mean
            yield layer.running_var
