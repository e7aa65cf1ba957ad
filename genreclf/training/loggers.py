"""Loggers: how each begins and ends, and what Weights & Biases is shown of a finished run."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from genreclf.errors import InputError
from genreclf.training import wandb


def make_tensorboard_logger(save_dir: str | Path) -> TensorBoardLogger:
    """TensorBoard's event files below a folder.

    Raises:
        InputError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("logger=tensorboard needs an extra: pip install 'genreclf[tensorboard]'")
    return TensorBoardLogger(save_dir, name="tensorboard", default_hp_metric=False)


def start_loggers(loggers: Iterable[Logger], config: dict[str, Any]) -> None:
    """Note the resolved config of a run; W&B draws its curves over epochs."""
    for logger in loggers:
        logger.log_hyperparams(config)
        if isinstance(logger, WandbLogger):
            wandb.draw_over_epochs(logger)


def close_loggers(loggers: Iterable[Logger], status: Literal["success", "failed"]) -> None:
    """Write what is left; the next run of a sweep, in this process, begins its own."""
    for logger in loggers:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            wandb.finish_run(status)
