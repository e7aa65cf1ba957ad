"""Training of one run, by one process or several, up to the epoch that is kept.

What was interrupted goes on after its last finished epoch.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from genreclf.audio import workers
from genreclf.data.build_store import build_store
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.store import Store
from genreclf.evaluation import runs
from genreclf.evaluation.runs import BEST, LAST
from genreclf.models import SVM
from genreclf.models.checkpoint import Trained, load_checkpoint
from genreclf.training import build, loggers, memory, processes
from genreclf.training.callbacks import History, ProgressBar, make_callbacks
from genreclf.training.classifier import Classifier

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves."""

    folder: Path
    trained: Trained  # the net of the kept epoch
    best: dict[str, float]  # the figures of that epoch
    history: History
    logger: Logger
    tester: pl.Trainer  # for predictions, which are made by this process alone
    fast: bool  # how these are to be computed
    device: str  # that trained


def fit(
    config: DictConfig,
    plain: dict[str, Any],
    data: StoreDataModule,
    classifier: Classifier,
    folder: Path,
    logger: Logger,
) -> TrainingResult:
    """Train, by as many processes as `config.trainer` wants.

    Args:
        config: of the run.
        plain: the same, resolved.
        data: its batches.
        classifier: with fresh weights.
        folder: of the run.
        logger: of the first process; the others have none.

    Raises:
        InputError: training diverged, more processes than tracks in a batch, one of the processes
            ended, or what was interrupted had begun with other data.
    """
    history = History(config.seed)
    if isinstance(classifier.net, SVM):
        return _fit_at_once(config, plain, data, classifier, classifier.net, folder, logger)
    team = processes.Team(config.trainer)
    team.check(config.batch_size, len(data.split["train"]))
    trainer = _make_trainer(config, folder, history, logger=logger, **team.settings())
    loggers.start_loggers(trainer.loggers, plain)
    with team.beside(_help, plain, data.store.path, folder):
        _run_trainer(trainer, classifier, data, folder)
    tester = trainer if team.size == 1 else _make_tester(config, **team.settings_alone())
    best = history.best_epoch(config.monitor)
    device = memory.name_device(trainer.strategy.root_device)
    return TrainingResult(
        folder, _load_best(folder, best), best, history, logger, tester, config.fast, device
    )


def _make_trainer(
    config: DictConfig, folder: Path, history: History, **settings: Any
) -> pl.Trainer:
    return instantiate(
        config.trainer,
        callbacks=[
            *make_callbacks(folder, config.monitor, config.patience, history, config.ema),
            *_bar(config),
        ],
        default_root_dir=folder,
        enable_model_summary=False,
        **settings,
    )


def _bar(config: DictConfig) -> list[Callback]:
    return [ProgressBar()] if config.trainer.get("enable_progress_bar", True) else []


def _make_tester(config: DictConfig, **settings: Any) -> pl.Trainer:
    """A Trainer for predictions by one process, where several have trained."""
    return instantiate(
        config.trainer,
        callbacks=_bar(config),
        enable_checkpointing=False,
        logger=False,
        **settings,
    )


def _run_trainer(
    trainer: pl.Trainer, classifier: Classifier, data: StoreDataModule, folder: Path
) -> None:
    """Train; after the last finished epoch, if the run was interrupted after one."""
    last = folder / LAST
    if last.exists():
        log.info("this run was interrupted: going on after its last finished epoch")
    try:
        trainer.fit(classifier, data, ckpt_path=last if last.exists() else None)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None


def _fit_at_once(
    config: DictConfig,
    plain: dict[str, Any],
    data: StoreDataModule,
    classifier: Classifier,
    machine: SVM,
    folder: Path,
    logger: Logger,
) -> TrainingResult:
    """Without epochs; nothing is left to resume or to load."""
    loggers.start_loggers([logger], plain)
    history, begun, rows = History(config.seed), time.perf_counter(), data.split["train"]
    batches = map(classifier.normalise, data.iterate_training_features())
    machine.fit(batches, data.store.labels[rows])
    history.seconds = time.perf_counter() - begun
    trained = Trained(
        machine,
        classifier.classes,
        instantiate(config.features),
        data.shape[0],
        {str(data.store.dtype): frozenset(data.store.row_sha1[row] for row in rows)},
        normalise=classifier.normalise,
    )
    tester = _make_tester(config, **processes.Team(config.trainer).settings_alone())
    return TrainingResult(
        folder, trained, {"epoch": 0}, history, logger, tester, config.fast, "CPU"
    )


def _load_best(folder: Path, best: dict[str, float]) -> Trained:
    """The kept epoch."""
    trained = load_checkpoint(folder / BEST)
    if trained.epoch != best["epoch"]:
        raise RuntimeError(f"{folder / BEST} is of epoch {trained.epoch}, not {best['epoch']}")
    return trained


def _help(settings: dict[str, Any], plain: dict[str, Any], store: Path, folder: Path) -> None:
    """Train beside the process that does everything else."""
    config = OmegaConf.create(plain)
    if config.fast:
        workers.keep_memory()
    data = build.make_data(config, Store(store))
    classifier = build.make_classifier(config, plain, data)
    if isinstance(classifier.net, SVM):
        return  # the first process fits it alone
    trainer = _make_trainer(config, folder, History(config.seed), logger=False, **settings)
    _run_trainer(trainer, classifier, data, folder)


def help_from_outside(config: DictConfig, folder: Path) -> None:
    """The same in a process that torchrun or Slurm started; the first one logs."""
    logging.disable()
    if (folder / runs.RESULT).exists():
        return
    store = build_store(
        instantiate(config.data),
        instantiate(config.features),
        outputs=config.outputs,
        path=config.store,
        workers=config.workers,
    )
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    _help(processes.Team(config.trainer).settings(), plain, store.path, folder)
