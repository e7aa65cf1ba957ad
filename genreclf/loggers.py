"""Loggers that need more than a constructor."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import Logger, WandbLogger


def wandb_logger(save_dir: str | Path, project: str) -> WandbLogger:
    """A W&B run named after its folder; offline unless the user is logged in.

    `WANDB_MODE` in the environment decides where it is set; `wandb sync` uploads an offline run.
    """
    import wandb

    offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False)
    mode = "offline" if offline else None  # Lightning's own switch comes too late after login()
    return WandbLogger(name=Path(save_dir).name, save_dir=save_dir, project=project, mode=mode)


def close(loggers: Iterable[Logger], status: Literal["success", "failed"]) -> None:
    """Write what is left; the next run of a sweep, in this process, begins its own."""
    for logger in loggers:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish(exit_code=0 if status == "success" else 1)
