"""MLflow: its logger, and the files of a finished run."""

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger

from genreclf.errors import InputError
from genreclf.evaluation.runs import PAGE, PREDICTIONS, RESULT, Run
from genreclf.files import BEST
from genreclf.locks import hold_lock

URI = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
ARTIFACTS = "mlflow_artifacts"  # next to the SQLite file
LOCK = ".mlflow.lock"  # likewise


def make_mlflow_logger(
    save_dir: str | Path,
    experiment: str,
    tracking_uri: str,
    group: str | None = None,
    job_type: str | None = None,
    name: str | None = None,
) -> MLFlowLogger:
    """Make an MLflow run, in a local SQLite file or on a tracking server.

    Args:
        save_dir: the run's folder.
        experiment: the MLflow experiment; made if it is missing.
        tracking_uri: "sqlite:///FILE", or the address of a server.
        group: the study or sweep; becomes a tag.
        job_type: the phase; becomes a tag.
        name: the settings that differ from the defaults; None or empty for the folder's name.

    Raises:
        InputError: MLflow is not installed.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise InputError("logger=mlflow needs an extra: pip install 'genreclf[mlflow]'")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves unless asked
    for library in ("mlflow", "alembic"):  # which log how they make their tables
        logging.getLogger(library).setLevel(logging.WARNING)
    # Lightning warns that it makes the experiment, which is what `experiment` is for.
    logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy")  # in MLflow's own tables
    folder, artifacts, lock = Path(save_dir), None, contextlib.nullcontext()
    if tracking_uri.startswith(SQLITE):
        place = Path(tracking_uri.removeprefix(SQLITE)).absolute().parent
        place.mkdir(parents=True, exist_ok=True)
        artifacts = (place / ARTIFACTS).as_uri()
        lock = hold_lock(place / LOCK, "another run that makes MLflow's tables")
    tags = {"group": group, "job_type": job_type}
    with lock:  # several processes that start together cannot all make MLflow's tables
        logger = MLFlowLogger(
            experiment_name=experiment,
            run_name=name or folder.name,
            tracking_uri=tracking_uri,
            tags={"folder": folder.name, **{key: value for key, value in tags.items() if value}},
            artifact_location=artifacts,
        )
        if artifacts:
            logger._mlflow_client.search_experiments(max_results=1)  # makes the tables
    return logger


@contextlib.contextmanager
def keep_environment() -> Iterator[None]:
    """Undo that MLflow notes the store of a run in the environment, for all later ones."""
    before = os.environ.get(URI)
    try:
        yield
    finally:
        os.environ.pop(URI, None)
        if before is not None:
            os.environ[URI] = before


def log_result(logger: MLFlowLogger, run: Run, summary: dict[str, Any]) -> None:
    """Log the metrics of the kept epoch, and keep the checkpoint, report and result as artifacts.

    Args:
        logger: the run's logger.
        run: the finished run.
        summary: the metrics of the kept epoch.
    """
    logger.log_metrics(summary)
    for name in (BEST, PAGE, RESULT, PREDICTIONS):
        if (run.folder / name).exists():  # a support vector machine has no checkpoint
            logger.experiment.log_artifact(logger.run_id, str(run.folder / name))
