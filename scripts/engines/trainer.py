# Copyright (c) The LESS-Net Bundle contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one trainer: runs any learning rule on a labelled and an unlabelled stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from monai.engines import SupervisedTrainer, Trainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from torch import Tensor, nn

from scripts.engines.allocator import keep_freed_memory
from scripts.engines.precision import LossScaler, Precision
from scripts.errors import InputError
from scripts.switches import as_bool

Batch = dict[str, dict[str, Any]]


@contextmanager
def enough_to_average() -> Iterator[None]:
    """Says what to do where BatchNorm is given one value: one small image, whose coarsest map is a single pixel.

    Raises:
        InputError: it was.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "One image of this size leaves BatchNorm a single value to average: pass --batch_size 2 (and "
            "--unlabelled_batch_size 2), or larger views by --image_size and --progressive_size 1"
        ) from error


class SemiSupervisedTrainer(SupervisedTrainer):
    """MONAI's supervised trainer with the loss replaced by a learning rule.

    One iteration: move the batch, weak view of both streams, the rule's named losses under autocast, their weighted
    sum, backward, clipping, step. The loop never waits for the device; ``state.output`` holds detached tensors:
    ``{"loss", "losses": {name: ...}, "statistics": {name: ...}, "keys": [...]}``, and ``"gradient_norm"`` where the
    gradient is clipped without a loss scaler.

    Handlers that carry state through a killed run register it in :attr:`stateful`; :attr:`history` holds one row of
    numbers an epoch (:class:`scripts.handlers.History`).

    Args:
        device: where to train.
        max_epochs: epochs of the run.
        train_data_loader: yields the batches of :class:`scripts.data.TwoStreamLoader`.
        network: the student.
        optimizer: holds the parameters of the student and those that the rule trains.
        loss_function: the :class:`scripts.methods.LearningRule`; moved to ``device``.
        weak_view: ``(image, label or None) -> (image, label or None)`` on whole batches; None: the images as they are.
        max_norm: the gradient's norm is clipped to it; None or 0: no clipping.
        amp: mixed precision: float16 with loss scaling on CUDA, bfloat16 elsewhere; "auto": see :class:`Precision`.
        channels_last: keep images and weights in channels-last memory order, faster on recent GPUs.
        epoch_length: iterations an epoch; default: the loader's length.
        inferer: kept for applications that ask for it; rules call the network themselves.
        train_handlers: Ignite handlers with an ``attach``.
        amp_kwargs: further arguments of ``torch.autocast``, such as ``dtype``.
        compile: ``torch.compile`` the network.
        compile_kwargs: arguments of ``torch.compile``.
        planned_epochs: epochs that the ramps of the rule are stretched over, where a run is only a part of the training
            (the rounds of a federation); default: ``max_epochs``.

    Example:
        >>> trainer = SemiSupervisedTrainer(
        ...     device="cpu", max_epochs=2, train_data_loader=loader, network=network, optimizer=optimizer,
        ...     loss_function=Supervised(network),
        ... )  # doctest: +SKIP
        >>> trainer.run()  # doctest: +SKIP
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: nn.Module,
        weak_view: Callable | None = None,
        max_norm: float | None = None,
        amp: bool | str = False,
        channels_last: bool = False,
        epoch_length: int | None = None,
        inferer: Inferer | None = None,
        train_handlers: Sequence | None = None,
        amp_kwargs: dict[str, Any] | None = None,
        compile: bool = False,
        compile_kwargs: dict[str, Any] | None = None,
        planned_epochs: int | None = None,
    ) -> None:
        # handlers look for these when they attach, inside super().__init__
        self.stateful: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.precision = Precision(amp, torch.device(device))
        if self.precision.auto:
            self.stateful["precision"] = self.precision
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function.to(device),
            amp=bool(self.precision.chosen),
            decollate=False,
            optim_set_to_none=True,
            epoch_length=epoch_length,
            inferer=inferer,
            train_handlers=train_handlers,
            amp_kwargs=amp_kwargs,
        )
        if as_bool(compile, "compile"):
            network.compile(**(compile_kwargs or {}))  # MONAI would wrap it, and sites exchange weights of other names
        self.scaler: torch.amp.GradScaler | None = None
        self.weak_view, self.max_norm, self.planned_epochs = weak_view, max_norm, planned_epochs
        self.memory_format = torch.channels_last if as_bool(channels_last, "channels_last") else torch.contiguous_format
        for module in (network, loss_function):
            module.to(memory_format=self.memory_format)
        cuda = self.state.device.type == "cuda"
        self.non_blocking = cuda
        # some releases of torch (2.8, 2.9) keep the casts of a pass without gradient (a rule's pseudo-labels) for the
        # one with, in which the weights then get none: https://github.com/pytorch/pytorch/issues/112583
        precision = {"dtype": torch.float16 if cuda else torch.bfloat16, "cache_enabled": False}
        self.amp_kwargs = precision | self.amp_kwargs

    @property
    def rule(self) -> nn.Module:
        """The learning rule."""
        return self.loss_function

    @property
    def student(self) -> nn.Module:
        """The network, without the wrapper of distributed training."""
        wrapped = isinstance(self.network, nn.parallel.DistributedDataParallel)
        return self.network.module if wrapped else self.network

    @property
    def progress(self) -> float:
        """Share of the training that is done before the present iteration, in [0, 1)."""
        return (self.state.iteration - 1) / ((self.planned_epochs or self.state.max_epochs) * self.state.epoch_length)

    def run(self) -> None:  # type: ignore[override]
        """Train until ``max_epochs``, or go on where a loaded checkpoint stood."""
        device = self.state.device.type
        if device == "cpu":
            keep_freed_memory()
        if self.scaler is None:  # the rounds of a federation go on with the scale that was found
            scaled = self.amp and device == "cuda" and self.amp_kwargs["dtype"] is torch.float16
            self.scaler = LossScaler(device, enabled=scaled)
        super(Trainer, self).run()  # MONAI's Trainer.run would make a CUDA scaler on any device

    def move(self, batch: Mapping[str, Mapping[str, Any]]) -> Batch:
        """The batch on the device, seen through the weak view; the keys stay behind."""
        moved: Batch = {}
        for stream, content in batch.items():
            image = self.image_of(content)
            label = content.get("label")
            if label is not None:
                label = label.to(self.state.device, torch.long, non_blocking=self.non_blocking)
            if self.weak_view is not None:
                image, label = self.weak_view(image, label)
            moved[stream] = {"image": image} if label is None else {"image": image, "label": label}
        return moved

    def image_of(self, content: Mapping[str, Any]) -> Tensor:
        """The images of a stream's batch on the device, (B, C, X, Y) in float32."""
        return content["image"].to(
            self.state.device, torch.float32, non_blocking=self.non_blocking, memory_format=self.memory_format
        )

    def _iteration(self, engine: SemiSupervisedTrainer, batchdata: Batch) -> dict[str, Any]:
        batch = self.move(batchdata)
        progress = self.progress
        self.network.train()
        self.rule.train()
        if self.precision.chosen is None:  # at full size, whatever size the first views are
            images = self.image_of(batchdata.get("unlabelled") or batchdata["labelled"])
            with enough_to_average():
                self.precision.decide(self.student, images)
        self.amp = bool(self.precision.chosen)
        self.optimizer.zero_grad(set_to_none=self.optim_set_to_none)
        with torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs), enough_to_average():
            losses = self.rule(self.network, batch, progress)
            total = self.rule.total(losses, progress)
        engine.state.output = self.output(batchdata, losses, total)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        self.step(engine, total)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def step(self, engine: SemiSupervisedTrainer, total: Tensor) -> None:
        """Backward, clipping of the unscaled gradient, optimiser step."""
        self.scaler.scale(total).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if self.max_norm:
            self.scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self.max_norm)
            if not self.scaler.is_enabled():  # the scaler itself leaves out a step whose gradient overflowed
                engine.state.output["gradient_norm"] = norm.detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def output(self, batchdata: Batch, losses: Mapping[str, Tensor], total: Tensor) -> dict[str, Any]:
        """What handlers read after an iteration; nothing in it holds a graph or waits for the device."""
        return {
            "loss": total.detach(),
            "losses": {name: loss.detach() for name, loss in losses.items()},
            "statistics": {name: value.detach() for name, value in self.rule.statistics.items()},
            "keys": [key for content in batchdata.values() for key in content.get("key", [])],
        }
