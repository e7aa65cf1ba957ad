"""Starts and closes the loggers of a run, and logs its result.

A logger can fail at any time: the network is down, the disk is full, a server refuses. This never
costs a run its result. The logger is left out from then on, and one line says so.
"""

import importlib.util
import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from genreclf.data.datamodule import StoreDataModule
from genreclf.errors import InputError, format_error
from genreclf.evaluation.runs import Run
from genreclf.training import mlflow, wandb

log = logging.getLogger(__name__)
METHODS = (  # what Lightning calls while it trains
    *("log_hyperparams", "log_metrics", "log_graph", "save", "after_save_checkpoint", "finalize"),
)


class SafeLogger:
    """A logger that stops logging, with one line of warning, when it first fails.

    Attributes:
        logger: Lightning's logger; its methods no longer raise an `Exception`.
        failed: whether it has failed.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger, self.failed = logger, False
        for name in METHODS:
            method = getattr(logger, name)
            setattr(logger, name, lambda *a, method=method, **k: self.attempt(method, *a, **k))

    def attempt(self, action: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        """Do something with the logger, unless it has failed before."""
        if self.failed:
            return
        try:
            action(*arguments, **settings)
        except Exception as error:
            self._note_failure(error)

    def close(self, status: Literal["success", "failed"]) -> None:
        """Flush and close, so that the next run of a sweep in this process starts its own."""
        self.logger.finalize(status)
        if isinstance(self.logger, WandbLogger):  # its run is ended even if it has failed
            try:
                wandb.finish_run(self.logger, "failed" if self.failed else status)
            except Exception as error:
                self._note_failure(error)

    def _note_failure(self, error: Exception) -> None:
        if not self.failed:
            _warn_of_failure(type(self.logger).__name__, error)
        self.failed = True


def _warn_of_failure(name: str, error: Exception) -> None:
    cause: BaseException = error
    while cause.__cause__ is not None:  # Hydra wraps what a constructor raises
        cause = cause.__cause__
    log.warning(
        "%s failed and logs nothing more (%s: %s); the result is not affected, and the same "
        "command logs the finished run again",
        name,
        type(cause).__name__,
        format_error(cause),
    )


def make_tensorboard_logger(save_dir: str | Path) -> TensorBoardLogger:
    """Make a logger that writes TensorBoard's event files below a folder.

    Raises:
        InputError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("logger=tensorboard needs an extra: pip install 'genreclf[tensorboard]'")
    return TensorBoardLogger(save_dir, name="tensorboard", default_hp_metric=False)


def check_loggers(makers: Iterable[Callable[..., Logger]], folder: Path) -> None:
    """Check that loggers can be made; nothing is started.

    Raises:
        InputError: a logger needs an extra that is not installed, or a setting is wrong.
    """
    for make in makers:
        try:
            make(save_dir=folder)
        except Exception as error:
            if _is_wrong_setting(error):
                raise


class RunLoggers:
    """The loggers of a run, as a context manager that closes them at the end.

    Args:
        makers: makes each of Lightning's loggers, given `save_dir`.
        folder: the run's folder.
        config: the run's resolved config, which is logged first.

    Attributes:
        started: Lightning's loggers that could be started.

    Raises:
        InputError: a logger needs an extra that is not installed, or a setting is wrong.
    """

    def __init__(
        self, makers: Collection[Callable[..., Logger]], folder: Path, config: dict[str, Any]
    ) -> None:
        self._safe: list[SafeLogger] = []
        self._count = len(makers)
        for make in makers:
            try:
                safe = SafeLogger(make(save_dir=folder))
            except Exception as error:
                if _is_wrong_setting(error):
                    raise
                _warn_of_failure("a logger", error)
                continue
            safe.attempt(_start_logger, safe.logger, config)
            if safe.failed:
                safe.close("failed")
            else:
                self._safe.append(safe)
        self.started = [safe.logger for safe in self._safe]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for safe in self._safe:
            safe.close("success" if kind is None else "failed")

    def are_complete(self) -> bool:
        """Whether every logger has logged everything so far."""
        return len(self._safe) == self._count and not any(safe.failed for safe in self._safe)

    def log_history(self, result: dict[str, Any], steps: int) -> None:
        """Log the metrics of all epochs of a finished run, as its training would have.

        Args:
            result: the run's result.
            steps: number of training steps per epoch.
        """
        for logger in self.started:
            for number, epoch in enumerate(result["history"], start=1):
                figures = {k: value for k, value in epoch.items() if value is not None}  # no NaN
                logger.log_metrics(figures, number * steps - 1)

    def log_result(self, run: Run, data: StoreDataModule) -> None:
        """Log a run's test metrics; on W&B and MLflow, also what else they can show.

        Args:
            run: the finished run.
            data: the data module with the tested tracks, without a cache.
        """
        metrics = run.result["metrics"].items()
        tested = {key: value for key, value in metrics if key.startswith("test/")}
        summary = _summarise_result(run.result)
        for safe in self._safe:
            if tested:
                safe.logger.log_metrics(tested)
            if isinstance(safe.logger, WandbLogger):
                safe.attempt(wandb.log_result, safe.logger, run, data, summary)
            if isinstance(safe.logger, MLFlowLogger):
                safe.attempt(mlflow.log_result, safe.logger, run, summary)


def _is_wrong_setting(error: BaseException | None) -> bool:
    """Whether an exception, perhaps one that Hydra has wrapped, is about the user's settings."""
    return error is not None and (
        isinstance(error, InputError | TypeError) or _is_wrong_setting(error.__cause__)
    )


def _start_logger(logger: Logger, config: dict[str, Any]) -> None:
    with mlflow.keep_environment():
        for name in ("name", "version", "save_dir", "experiment"):  # Lightning reads them unguarded
            getattr(logger, name, None)
    logger.log_hyperparams(config)
    if isinstance(logger, WandbLogger):
        wandb.draw_over_epochs(logger)


def _summarise_result(result: dict[str, Any]) -> dict[str, Any]:
    """Collect the metrics of the kept epoch; plain names hold those of the last epoch."""
    figures = result["metrics"].items()
    best = {f"best/{key}": value for key, value in figures if not key.startswith("test/")}
    return best | {key: result[key] for key in ("best_epoch", "params", "seconds")}
