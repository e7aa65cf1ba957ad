"""Callbacks of training: history, early stopping, checkpoints, progress."""

import math
import signal
import threading
import time
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

from genreclf.errors import InputError
from genreclf.evaluation.metrics import find_direction
from genreclf.files import BEST, LAST
from genreclf.training import memory

LAST_EPOCH = "last"  # as `monitor`


class History(Callback):
    """Records the figures of each epoch in the checkpoint; reseeds the random numbers.

    Reseeding at each epoch makes a resumed run give the numbers of an uninterrupted one.

    Attributes:
        epochs: for each finished epoch its number ("epoch", from 0), logged metrics and "lr".
        seconds: that training and validation took.
        sessions: for each start of the run the code and libraries that trained ("commit",
            "versions"), the "device", and the first "epoch".
    """

    def __init__(self, seed: int, provenance: dict[str, Any] | None = None) -> None:
        self.seed, self._provenance = seed, provenance or {}
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0
        self.sessions: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epochs before an interruption again, which makes the new log complete."""
        device = memory.name_device(trainer.strategy.root_device)
        started = {"epoch": trainer.current_epoch, "device": device}
        self.sessions.append({**started, **self._provenance})
        for number, figures in enumerate(self.epochs, start=1):
            _log_figures(trainer, figures, number * trainer.global_step // len(self.epochs))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed dropout and augmentation by run, epoch and process."""
        self._started = time.perf_counter()
        entropy = [self.seed, trainer.current_epoch, trainer.global_rank]
        seed = np.random.SeedSequence(entropy).generate_state(1)[0]
        torch.manual_seed(int(seed))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the figures; those of validation are there already."""
        self.seconds += time.perf_counter() - self._started
        figures = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        figures["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.epochs.append({"epoch": trainer.current_epoch, **figures})
        learning_rate = {"epoch": trainer.current_epoch, "lr": figures["lr"]}
        _log_figures(trainer, learning_rate, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return {"epochs": self.epochs, "seconds": self.seconds, "sessions": self.sessions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self.epochs, self.seconds = state_dict["epochs"], state_dict["seconds"]
        self.sessions = state_dict["sessions"]

    def find_best_epoch(self, monitor: str) -> dict[str, float]:
        """The first epoch with the best value, as ModelCheckpoint chooses, or the last epoch.

        Raises:
            InputError: training diverged, or there was no epoch.
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
            raise InputError("training diverged: val/loss is not a number; lower optimizer.lr")
        return epoch


def _log_figures(trainer: pl.Trainer, figures: dict[str, float], steps: int) -> None:
    """Log figures of an epoch after this many steps; Lightning counts steps from 0."""
    for logger in trainer.loggers:
        logger.log_metrics(figures, steps - 1)


class Checkpoint(ModelCheckpoint):
    """Lightning's checkpoint at the end of each epoch, which survives moving the run's folder."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(
            path.parent,
            filename=path.stem,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
            **settings,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with the paths of the folder as it is now."""
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
    """Lightning's early stopping, which survives an interruption."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not continue where training had stopped and the test was interrupted."""
        trainer.should_stop = self.stopped_epoch > 0


class Terminable(Callback):
    """Makes several processes that train one run end on SIGTERM, as on Ctrl-C.

    Lightning's handler would broadcast the signal in the middle of training, and all would hang.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's handler, which Lightning removes at the end."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            first = trainer.is_global_zero
            signal.signal(signal.SIGTERM, signal.default_int_handler if first else signal.SIG_DFL)


class ProgressBar(RichProgressBar):
    """Lightning's progress bar, without the version number of the logger."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The metrics that are shown next to the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {key: value for key, value in metrics.items() if key != "v_num"}


def make_callbacks(
    folder: Path, monitor: str, patience: int, history: History, ema: float | None = None
) -> list[Callback]:
    """All callbacks of a training run except its progress bar.

    Args:
        folder: of `best.ckpt` and, until the run is finished, `last.ckpt`.
        monitor: the metric whose best epoch is kept; "last" keeps the last epoch, without early
            stopping.
        patience: epochs without improvement before training stops.
        history: of the run.
        ema: decay per step of the exponential moving average of the weights, which is validated and
            kept instead of the weights; None for no average.

    Raises:
        InputError: a metric that is not logged, a patience under 1, or a decay outside 0 to 1.
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
