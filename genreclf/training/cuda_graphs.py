"""Runs each training step as one CUDA graph (`cuda_graphs=true`).

Small networks on a GPU mostly wait for Python to launch kernels. A CUDA graph records the kernels
of one step (forward, loss, backward, gradient clipping, optimizer) and launches them all at once
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). Without a GPU, or where a step
cannot be captured, the same code runs the step as it is, so that results agree up to rounding.
"""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from genreclf.data.datamodule import Batch
from genreclf.errors import format_error
from genreclf.training.capture import (
    CapturedStep,
    HostState,
    can_capture,
    find_obstacle,
    list_numbers,
    make_capturable,
    make_pool,
    run_aside,
)
from genreclf.training.classifier import Classifier
from genreclf.training.epoch_record import EpochRecord
from genreclf.training.metrics import compute_log_probabilities
from genreclf.training.optimizers import read_rate

WARM_UP = 3  # steps of each shape before its capture, in which libraries allocate and compile
SHORT = 20  # steps; a graph that is needed for fewer costs more time than it saves
log = logging.getLogger(__name__)


class GraphClassifier(Classifier):
    """A Classifier whose training and validation steps are captured as CUDA graphs.

    The first steps of each shape run as usual, on a stream of their own; then the step is captured,
    and from then on replayed. Metrics are computed once per epoch, from the logits of all batches,
    so the host never waits for the GPU within an epoch. A setting of the optimizer that is a number
    is part of the graph, which is captured again when the number changes; the learning rate of
    optimizers that can be `capturable` is a tensor instead.

    What cannot be captured runs without a graph; the log says why, in one line. A model whose
    forward pass depends on Python's own state (counters, `random`) needs `cuda_graphs=false`.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._graphs: dict[Any, CapturedStep] = {}
        self._pool: Any = None
        self._records: dict[str, EpochRecord] = {}
        self._steps: Counter[Any] = Counter()
        self._whole, self._capture = False, False  # whether steps run as a whole; are captured
        self._numbers: list[Any] = []
        self._since_change = SHORT

    def on_train_start(self) -> None:
        """Decide whether steps can run as a whole; prepare the optimizer."""
        self._free()
        self._steps.clear()
        self._numbers, self._since_change = [], SHORT
        reason = find_obstacle(self.trainer)
        self._whole, self._capture = not reason, not reason and can_capture(self.device)
        if reason:
            log.warning("cuda_graphs: %s, so no CUDA graphs are used", reason)
        elif self._capture:
            make_capturable(self.trainer.optimizers[0])
            self._pool = make_pool()
        else:
            log.info("cuda_graphs: no GPU is used, so no CUDA graphs are either")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Run a whole step, with backward pass and optimizer, and return the loss."""
        if not self._whole:
            return super().training_step(batch, batch_idx)
        record = self._get_record("train", batch)
        self._note_changes()
        loss = self._run("train", self._step, batch, record)
        record.note_batch(len(batch[1]))
        return loss

    def _step(self, record: EpochRecord, *batch: Tensor) -> Tensor:
        """Update the weights with a batch. This is what is captured."""
        optimizer = self.trainer.optimizers[0]
        logits, labels, loss, error = self._compute_training_loss(*batch)
        total = loss if error is None else loss + self.distillation_weight * error
        with torch.autocast(self.device.type, enabled=False):
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            clipping = self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
            self.configure_gradient_clipping(optimizer, *clipping)
            optimizer.step()
            record.write(loss, logits, labels, error)
        return total.detach()

    def backward(self, loss: Tensor, *arguments: Any, **settings: Any) -> None:
        """Do nothing: the step has done it."""
        if not self._whole:
            super().backward(loss, *arguments, **settings)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Do nothing: the step has done it."""
        if not self._whole:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Run the step; it calls the optimizer itself."""
        if self._whole and optimizer_closure is not None:
            optimizer_closure()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Record the logits of a batch."""
        if not self._whole or self.trainer.sanity_checking:
            super().validation_step(batch, batch_idx)
            return
        record = self._get_record("val", batch)
        self._run("val", self._validate, batch, record)
        record.note_batch(len(batch[1]))

    def _validate(self, record: EpochRecord, features: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            logits = self(features)
            loss = functional.cross_entropy(logits, labels)
            record.write(loss, logits, labels)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the metrics of training, unless LogEpoch has; then step the schedulers."""
        self.log_epoch("train", self.train_metrics)
        super().on_train_epoch_end()

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of validation."""
        self.log_epoch("val", self.val_metrics)

    def log_epoch(self, part: str, metrics: MetricCollection) -> None:
        """Log the metrics of the batches recorded since the last call, if any."""
        record = self._records.get(part)
        if record is None or not record.sizes:
            return
        loss, error, logits, labels = record.read()
        metrics.update(compute_log_probabilities(logits), labels)
        at_epoch: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(labels)}
        self.log(f"{part}/loss", loss, prog_bar=True, **at_epoch)
        if part == "train" and self.embedding_head is not None:
            self.log("train/distillation_error", error, **at_epoch)
        self.log_dict(metrics, **at_epoch)  # pyright: ignore[reportArgumentType]

    def on_fit_end(self) -> None:
        """Free the memory of the graphs."""
        self._free()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the optimizer's settings as numbers, so that any device can resume the run."""
        super().on_save_checkpoint(checkpoint)
        for state in checkpoint.get("optimizer_states", []):
            for group in state["param_groups"]:
                if isinstance(group["lr"], Tensor):
                    group.update(lr=read_rate(group["lr"]), capturable=False)

    def _free(self) -> None:
        self._graphs.clear()
        self._records.clear()

    def _get_record(self, part: str, batch: Batch) -> EpochRecord:
        if part not in self._records:
            batches = self.trainer.num_training_batches
            if part == "val":
                batches = sum(self.trainer.num_val_batches)
            with torch.inference_mode(False):
                self._records[part] = EpochRecord(
                    int(batches), len(batch[1]), len(self.classes), self.device
                )
        return self._records[part]

    def _note_changes(self) -> None:
        """Drop the graphs that contain other numbers than the optimizer's settings now."""
        numbers = list_numbers(self.trainer.optimizers[0])
        self._since_change += 1
        if numbers == self._numbers:
            return
        if self._capture and self._numbers and self._since_change < SHORT:
            self._stop_capturing("a setting of the optimizer changes too often")
        self._numbers, self._since_change = numbers, 0
        self._graphs = {key: step for key, step in self._graphs.items() if key[0] != "train"}

    def _run(
        self, part: str, function: Callable[..., Tensor], batch: Batch, record: EpochRecord
    ) -> Tensor:
        """Run a step: as it is, or by its graph once its shape has been seen often enough."""
        key = (part, *(tuple(each.shape) for each in batch))
        self._steps[key] += 1
        if not self._capture:
            return function(record, *batch)
        if self._steps[key] <= WARM_UP:
            return run_aside(function, record, *batch)
        if key not in self._graphs:
            optimizer = self.trainer.optimizers[0]
            before = HostState(optimizer)
            try:
                graph = CapturedStep(partial(function, record), batch, self._pool)
                if before.has_changed():
                    raise RuntimeError(f"{type(optimizer).__name__} counts on the CPU")
            except Exception as error:  # whatever the model, the loss or the optimizer does
                before.restore()
                optimizer.zero_grad(set_to_none=True)
                self._stop_capturing(format_error(error))
                return function(record, *batch)
            self._graphs[key] = graph
        return self._graphs[key].replay(batch)

    def _stop_capturing(self, reason: str) -> None:
        self._capture = False
        self._graphs.clear()
        log.warning("cuda_graphs: a step cannot be captured (%s): it runs as it is", reason)


class LogEpoch(Callback):
    """Logs the training metrics of an epoch before other callbacks read them; it goes first."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the metrics, also those of an epoch that ended early."""
        if isinstance(pl_module, GraphClassifier):
            pl_module.log_epoch("train", pl_module.train_metrics)
