"""Callbacks of training: history, early stopping, checkpoints, progress."""

import math
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    RichProgressBar,
)

from genreclf.errors import DivergedError, InputError
from genreclf.evaluation.metrics import LAST_EPOCH, check_metric, find_direction
from genreclf.files import BEST, LAST
from genreclf.training import memory, turns
from genreclf.training.optimizers import read_rate


class History(Callback):
    """Records the metrics of each epoch in the checkpoint, and reseeds at each epoch.

    Because of the reseeding, a run that was interrupted and resumed gives the same numbers as one
    that was not.

    Attributes:
        epochs: the number ("epoch", from 0), logged metrics and "lr" of each finished epoch.
        seconds: the time spent in training and validation; in a pack, that of the run's own turns.
        sessions: for each start of the run, the code and libraries used ("commit", "versions"),
            the "device", the first "epoch", and how many runs trained at a time in the same process
            ("packed", if it was not alone).
    """

    def __init__(self, seed: int, provenance: dict[str, Any] | None = None) -> None:
        self.seed, self._provenance = seed, provenance or {}
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0
        self.sessions: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After an interruption, log the earlier epochs again, so that the new log is complete."""
        device = memory.name_device(trainer.strategy.root_device)
        started = {"epoch": trainer.current_epoch, "device": device}
        self.sessions.append({**started, **self._provenance})
        for number, figures in enumerate(self.epochs, start=1):
            _log_figures(trainer, figures, number * trainer.global_step // len(self.epochs))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed dropout and augmentation from run, epoch and process."""
        self._started = turns.read_clock()
        entropy = [self.seed, trainer.current_epoch, trainer.global_rank]
        seed = np.random.SeedSequence(entropy).generate_state(1)[0]
        torch.manual_seed(int(seed))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the metrics; those of validation are already known here."""
        self.seconds += turns.read_clock() - self._started
        if member := turns.get_member():
            self.sessions[-1]["packed"] = member.sharing
        figures = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        figures["lr"] = read_rate(trainer.optimizers[0].param_groups[0]["lr"])
        self.epochs.append({"epoch": trainer.current_epoch, **figures})
        learning_rate = {"epoch": trainer.current_epoch, "lr": figures["lr"]}
        _log_figures(trainer, learning_rate, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint stores."""
        return {"epochs": self.epochs, "seconds": self.seconds, "sessions": self.sessions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what the checkpoint stores."""
        self.epochs, self.seconds = state_dict["epochs"], state_dict["seconds"]
        self.sessions = state_dict["sessions"]

    def find_best_epoch(self, monitor: str) -> dict[str, float]:
        """Find the first epoch with the best value, as ModelCheckpoint does, or the last one.

        Raises:
            DivergedError: training had diverged by then.
            InputError: no epoch was trained.
        """
        if not self.epochs:
            raise InputError("trainer.max_epochs: no epoch was trained; at least 1 is needed")
        if monitor == LAST_EPOCH:
            return self._check_finite(self.epochs[-1])
        sign = 1 if find_direction(monitor) == "min" else -1

        def badness(epoch: dict[str, float]) -> float:
            return sign * epoch[monitor] if math.isfinite(epoch[monitor]) else math.inf

        return self._check_finite(min(self.epochs, key=badness))

    @staticmethod
    def _check_finite(epoch: dict[str, float]) -> dict[str, float]:
        if not math.isfinite(epoch["val/loss"]):
            raise DivergedError("training diverged: val/loss is not a number; lower optimizer.lr")
        return epoch


def _log_figures(trainer: pl.Trainer, figures: dict[str, float], steps: int) -> None:
    """Log metrics of an epoch after `steps` steps; Lightning numbers steps from 0."""
    for logger in trainer.loggers:
        logger.log_metrics(figures, steps - 1)


class Checkpoint(ModelCheckpoint):
    """Lightning's checkpoint, written after each epoch; it still works if the folder was moved."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(
            path.parent,
            filename=path.stem,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
            **settings,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with all paths pointing to the current folder."""
        here = Path(str(self.dirpath))
        moved = {
            key: str(here / Path(path).name)
            for key in ("best_model_path", "kth_best_model_path", "last_model_path")
            if (path := state_dict[key])
        }
        kept = {str(here / Path(k).name): v for k, v in state_dict["best_k_models"].items()}
        moved_state = {**state_dict, **moved, "best_k_models": kept, "dirpath": self.dirpath}
        super().load_state_dict(moved_state)


class Patience(EarlyStopping):
    """Lightning's early stopping, whose decision survives a resumed run."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not train further if training had stopped and only the test was interrupted."""
        trainer.should_stop = self.stopped_epoch > 0


class Terminable(Callback):
    """Makes the processes that train one run stop on SIGTERM, as a single process does.

    Lightning's own handler broadcasts the signal at any point of training, and all wait forever.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler, which Lightning removes at the end."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            first = trainer.is_global_zero
            signal.signal(signal.SIGTERM, signal.default_int_handler if first else signal.SIG_DFL)


class ProgressBar(RichProgressBar):
    """Lightning's progress bar, without the logger's version number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the metrics shown next to the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {key: value for key, value in metrics.items() if key != "v_num"}


def check_monitors(callbacks: Sequence[Callback], logged: Sequence[str]) -> None:
    """Check that training logs what the user's callbacks monitor.

    Callbacks of the user's own classes may log metrics themselves, so where there are some, nothing
    is refused.

    Args:
        callbacks: the user's callbacks.
        logged: names of the metrics that training logs besides the loss.

    Raises:
        InputError: a metric is not logged.
    """
    if any(not type(each).__module__.startswith("pytorch_lightning.") for each in callbacks):
        return
    for each in callbacks:
        monitor = getattr(each, "monitor", None)
        if monitor not in (None, "epoch", "step"):  # which Lightning knows
            key = f"callback {type(each).__name__}: monitor"
            check_metric(key, str(monitor), dict.fromkeys(logged))


def make_callbacks(
    folder: Path, monitor: str, patience: int, history: History, ema: float | None = None
) -> list[Callback]:
    """Make all callbacks of a training run except its progress bar.

    Args:
        folder: the folder for `best.ckpt` and, during training, `last.ckpt`.
        monitor: metric that chooses the best epoch; "last" keeps the last epoch, without early
            stopping.
        patience: number of epochs without improvement before training stops.
        history: the run's history.
        ema: decay per step of the exponential moving average of the weights, which is validated
            and saved instead of the weights themselves; None for no average.

    Raises:
        InputError: the metric is not logged, the patience is under 1, or the decay is not between 0
            and 1.
    """
    if patience < 1:
        raise InputError(f"patience={patience}: at least 1 epoch is needed")
    if ema is not None and not 0 < ema < 1:
        raise InputError(f"ema={ema}: a decay between 0 and 1 is needed; null for no average")
    average = [] if ema is None else [EMAWeightAveraging(decay=ema)]
    last = Checkpoint(folder / LAST)
    if monitor == LAST_EPOCH:
        kept: list[Callback] = [Checkpoint(folder / BEST, monitor="epoch", mode="max")]
    else:
        mode = find_direction(monitor)
        stop = Patience(monitor, mode=mode, patience=patience, check_on_train_epoch_end=True)
        kept = [stop, Checkpoint(folder / BEST, monitor=monitor, mode=mode)]
    return [history, *average, *kept, last, Terminable()]
