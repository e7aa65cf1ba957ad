"""Makes, starts and closes the loggers of a run."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from genreclf.errors import InputError
from genreclf.training import wandb


def make_tensorboard_logger(save_dir: str | Path) -> TensorBoardLogger:
    """Make a logger that writes TensorBoard's event files below a folder.

    Raises:
        InputError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("logger=tensorboard needs an extra: pip install 'genreclf[tensorboard]'")
    return TensorBoardLogger(save_dir, name="tensorboard", default_hp_metric=False)


def start_loggers(loggers: Iterable[Logger], config: dict[str, Any]) -> None:
    """Log the resolved config of a run; make W&B draw curves over epochs."""
    for logger in loggers:
        logger.log_hyperparams(config)
        if isinstance(logger, WandbLogger):
            wandb.draw_over_epochs(logger)


def close_loggers(loggers: Iterable[Logger], status: Literal["success", "failed"]) -> None:
    """Flush and close, so that the next run of a sweep in this process starts its own loggers."""
    for logger in loggers:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            wandb.finish_run(status)
