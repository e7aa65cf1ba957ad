"""Trains one run and loads the epoch that is kept.

A run that was interrupted continues after its last finished epoch.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from genreclf.audio.cores import count_available_cores
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.seen_tracks import SeenTracks
from genreclf.errors import report_own_failure
from genreclf.evaluation.runs import Run
from genreclf.files import BEST
from genreclf.models import has_no_epochs
from genreclf.models.checkpoint import TrainedModel, load_checkpoint
from genreclf.training import memory, process_group, turns
from genreclf.training.callbacks import History, ProgressBar, make_callbacks
from genreclf.training.checkpoint_files import AtomicCheckpointIO, find_resumable
from genreclf.training.classifier import Classifier
from genreclf.training.cuda_graphs import LogEpoch
from genreclf.training.launch import read_rank
from genreclf.training.pack import TakeTurns
from genreclf.training.parts import Parts


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of training.

    Attributes:
        trained: the model of the kept epoch.
        best: the metrics of that epoch; `{"epoch": 0}` for a model without epochs.
        history: the metrics of all epochs, and the seconds they took.
        tester: a Trainer that predicts in this process only.
        device: name of the device used for training.
    """

    trained: TrainedModel
    best: dict[str, float]
    history: History
    tester: pl.Trainer
    device: str


def fit(
    parts: Parts,
    data: StoreDataModule,
    classifier: Classifier,
    folder: Path,
    loggers: Sequence[Logger] = (),
    provenance: dict[str, Any] | None = None,
) -> TrainingResult | None:
    """Train in this process, together with the others if there are several.

    Args:
        parts: the parts of the run.
        data: its batches.
        classifier: the classifier, with its initial weights.
        folder: the run's folder.
        loggers: the loggers, already started; none in processes whose rank is not 0.
        provenance: commit and versions, which the checkpoint records each time the run starts.

    Returns:
        None in processes whose rank is not 0.

    Raises:
        InputError: training diverged, or another process ended.
    """
    # PyTorch counts the machine's cores, even in a container that may use a few of them.
    torch.set_num_threads(min(torch.get_num_threads(), count_available_cores()))
    history = History(parts.seed, provenance)
    probe = process_group.make_probe(parts.make_trainer)
    single = process_group.list_single_settings(probe)
    if has_no_epochs(classifier.net):
        if read_rank()[0]:
            return None
        trained = _fit_without_epochs(parts, data, classifier, history)
        if trained.net.state_dict():  # a support vector machine has no weights
            checkpoint: dict[str, Any] = {"epoch": 0, "state_dict": classifier.state_dict()}
            classifier.on_save_checkpoint(checkpoint)
            AtomicCheckpointIO().save_checkpoint(checkpoint, folder / BEST)
        tester = _make_tester(parts, single)
        return TrainingResult(trained, {"epoch": 0}, history, tester, "CPU")
    trainer = parts.make_trainer(
        **_list_callback_settings(
            parts,
            *([LogEpoch()] if parts.cuda_graphs else []),
            *make_callbacks(folder, parts.monitor, parts.patience, history, parts.ema),
            *parts.make_callbacks(),
        ),
        default_root_dir=folder,
        enable_model_summary=False,
        logger=list(loggers) or False,
        **process_group.list_settings(probe),
    )
    _run_trainer(trainer, classifier, data, folder)
    if trainer.global_rank:
        return None
    best = history.find_best_epoch(parts.monitor)
    trained = load_checkpoint(folder / BEST, parts.trust)
    if trained.epoch != best["epoch"]:
        raise RuntimeError(f"{folder / BEST} is of epoch {trained.epoch}, not {best['epoch']}")
    device = trainer.strategy.root_device
    tester = trainer if trainer.world_size == 1 else _make_tester(parts, single)
    return TrainingResult(trained, best, history, tester, memory.name_device(device))


def restore(
    parts: Parts, finished: Run, folder: Path, provenance: dict[str, Any]
) -> TrainingResult:
    """Return the outcome of a finished run, as if this run had trained the model.

    Args:
        parts: the parts of the run.
        finished: the run that trained the model; its checkpoint is copied.
        folder: the run's folder.
        provenance: commit and versions, recorded as a further session.
    """
    result = finished.result
    shutil.copyfile(finished.folder / BEST, folder / BEST)
    history = History(parts.seed)
    history.epochs, history.seconds = result["history"], result["seconds"]
    session = {"epoch": len(history.epochs), "device": result["device"], **provenance}
    history.sessions = [*result["sessions"], session]
    tester = _make_tester(
        parts, process_group.list_single_settings(process_group.make_probe(parts.make_trainer))
    )
    trained = load_checkpoint(folder / BEST, parts.trust)
    best = history.epochs[result["best_epoch"]]
    return TrainingResult(trained, best, history, tester, result["device"])


def _list_callback_settings(parts: Parts, *callbacks: Callback) -> dict[str, Any]:
    """List the settings of a Trainer with these callbacks and those that every Trainer has."""
    if member := turns.get_member():  # only one progress bar can be shown at a time
        return {"callbacks": [*callbacks, TakeTurns(member)], "enable_progress_bar": False}
    return {"callbacks": [*callbacks, *([ProgressBar()] if parts.progress_bar else [])]}


def _make_tester(parts: Parts, settings: dict[str, Any]) -> pl.Trainer:
    shown = _list_callback_settings(parts)
    return parts.make_trainer(**shown, enable_checkpointing=False, logger=False, **settings)


def _run_trainer(
    trainer: pl.Trainer, classifier: Classifier, data: StoreDataModule, folder: Path
) -> None:
    """Train; an interrupted run continues after its last finished epoch."""
    with report_own_failure("training"), process_group.heed_ctrl_c():
        try:
            trainer.fit(classifier, data, ckpt_path=find_resumable(folder))
        except RuntimeError as error:
            if process_group.is_connection_lost(error):
                raise process_group.ProcessLostError from error
            raise


def _fit_without_epochs(
    parts: Parts, data: StoreDataModule, classifier: Classifier, history: History
) -> TrainedModel:
    """Train a model by its own `fit` method; there is nothing to resume or load."""
    model: Any = classifier.net
    started, rows = time.perf_counter(), data.split["train"]
    batches = map(classifier.normalise, data.iterate_training_features())
    with report_own_failure("model.fit"):
        model.fit(batches, data.store.labels[rows])
    history.seconds = time.perf_counter() - started
    return TrainedModel(
        classifier.net,
        classifier.classes,
        parts.features,
        data.shape[0],
        SeenTracks().add(data.store, rows),
        normalise=classifier.normalise,
    )
