"""Trains and tests one run: data, classifier, training, test."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from genreclf.data import audit
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.near_duplicates import find_near_duplicates
from genreclf.data.splits import get_notes
from genreclf.data.store import Store
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import evaluate
from genreclf.evaluation.provenance import collect_provenance
from genreclf.models import count_parameters
from genreclf.training import loggers, memory
from genreclf.training.build import make_classifier, make_data
from genreclf.training.fit import TrainingResult, fit, restore
from genreclf.training.metrics import compute_log_probabilities
from genreclf.training.novelty import add_novelty
from genreclf.training.parts import Parts
from genreclf.training.prediction import predict_part

log = logging.getLogger(__name__)


@memory.report_killed_worker()
def train_and_test(
    parts: Parts,
    store: Store,
    folder: Path,
    save: Callable[[runs.Run], None],
    finished: runs.Run | None = None,
) -> tuple[runs.Run, bool]:
    """Train and test a model; write config, checkpoint and predictions to the folder.

    Args:
        parts: the parts of the run.
        store: the store to train on.
        folder: the run's folder.
        save: saves the result, before anything of it is logged: no logger can cost a result.
        finished: a finished run that differs only in `test`: its model is tested, none is trained.

    Returns:
        The run, and whether every logger has logged all of it.

    Raises:
        InputError: parts and data do not fit together, or training diverged.
        OutOfMemoryError: a batch does not fit in memory.
    """
    for unfinished in folder.glob(".*.ckpt.*"):  # a process was killed while it wrote them
        unfinished.unlink()
    runs.write_config(folder, parts.config)
    provenance = collect_provenance()  # before anything else is committed
    data = make_data(parts, store)
    near = find_near_duplicates(store)
    leakage = audit.audit_split(store, data.split, parts.allow_identical, near)
    classifier = make_classifier(parts, data)
    description = classifier.description
    known = {
        "params": count_parameters(classifier.net),
        "data": _describe_data(data, folder, leakage, description["seen_before"]),
        "sources": description["sources"],
        **provenance,
        "config": parts.config,
    }
    _log_data(data, known["params"], leakage, parts.allow_identical)
    _warn_of_seen_tracks(data, description["seen_before"])
    with loggers.RunLoggers(parts.loggers, folder, parts.config) as logging_to:
        try:
            if finished:
                trained = restore(parts, finished, folder, provenance)
                logging_to.log_history(finished.result, steps=len(data.train_dataloader()))
            else:
                add_novelty(classifier, data, parts.features)
                with memory.report_exhaustion(parts.batch_size):
                    trained = fit(parts, data, classifier, folder, logging_to.started, provenance)
            assert trained is not None
            with memory.report_exhaustion(parts.batch_size):
                run = _test(trained, data, folder, parts)
        finally:
            data.release_cache()  # exceptions and Lightning's reference cycles would keep it
        run.result.update(known)
        save(run)
        logging_to.log_result(run, data)
    return run, logging_to.are_complete()


def log_finished_run(parts: Parts, store: Store, run: runs.Run) -> bool:
    """Log a finished run from its result, as if it had been trained with these loggers.

    Returns:
        Whether every logger has logged all of it.

    Raises:
        InputError: a logger needs an extra that is not installed, or a setting is wrong.
    """
    data = make_data(replace(parts, distillation=None), store)
    with loggers.RunLoggers(parts.loggers, run.folder, parts.config) as logging_to:
        logging_to.log_history(run.result, steps=len(data.train_dataloader()))
        logging_to.log_result(run, data)
    return logging_to.are_complete()


@memory.report_killed_worker()
def help_train(parts: Parts, store: Store, folder: Path) -> None:
    """Train in a process whose rank is not 0; everything else is left to rank 0.

    Raises:
        InputError: for the reasons of `train_and_test`.
    """
    data = make_data(parts, store)
    audit.audit_split(store, data.split, parts.allow_identical)
    classifier = make_classifier(parts, data)
    with memory.report_exhaustion(parts.batch_size):
        fit(parts, data, classifier, folder)


def _test(trained: TrainingResult, data: StoreDataModule, folder: Path, parts: Parts) -> runs.Run:
    """Test the model: return the run with its metrics, and write its predictions."""
    part = data.tested_part if parts.test else "val"
    predictions = _predict(trained, data, part, parts.fast)
    predictions.write(folder / runs.PREDICTIONS)
    test = _evaluate(predictions)
    validated = predictions if part == "val" else _predict(trained, data, "val", parts.fast)
    val = test if part == "val" else _evaluate(validated)
    metrics = {key: value for key, value in trained.best.items() if "/" in key}
    # Under bf16, validation during training gives slightly other figures: studies choose by these.
    # A model without epochs has no others.
    metrics |= _list_metrics(parts, "val", validated, val)
    if parts.test:
        metrics |= _list_metrics(parts, "test", predictions, test)
    result = {
        "metrics": metrics,
        "tested_on": part,
        "test": test,
        "val": val,
        "seconds": trained.history.seconds,
        "packed": max(session.get("packed", 1) for session in trained.history.sessions or [{}]),
        "device": trained.device,
        "best_epoch": int(trained.best["epoch"]),
        "history": trained.history.epochs,
        "sessions": trained.history.sessions,
    }
    return runs.Run(folder, result, predictions)


def _predict(
    trained: TrainingResult, data: StoreDataModule, part: str, fast: bool
) -> runs.Predictions:
    scores = predict_part(trained.tester, trained.trained, data, part, fast)
    rows = data.split[part]
    track_ids = [data.store.track_ids[row] for row in rows]
    return runs.Predictions(track_ids, data.store.labels[rows], scores, trained.trained.classes)


def _evaluate(predictions: runs.Predictions) -> dict[str, Any]:
    return evaluate(predictions.labels, predictions.scores, predictions.classes)


def _list_metrics(
    parts: Parts, part: str, predictions: runs.Predictions, evaluated: dict[str, Any]
) -> dict[str, float]:
    """List the metrics of a part by their logged names, such as "val/accuracy".

    Those that are not in `evaluated`, such as the user's own, are computed as in training.
    """
    scores, labels = map(torch.from_numpy, (predictions.scores, predictions.labels))
    logs = compute_log_probabilities(scores.log())
    own = parts.make_metrics(len(predictions.classes)).items()
    return {
        **{f"{part}/{name}": float(metric(logs, labels)) for name, metric in own},
        **{f"{part}/{name}": evaluated[name] for name in ("loss", "accuracy", "f1_macro")},
    }


def _describe_data(
    data: StoreDataModule, folder: Path, leakage: dict[str, Any], seen_before: dict[str, int | None]
) -> dict[str, Any]:
    store = data.store
    return {
        "store": os.path.relpath(store.path, folder),
        "table": store.source.table,
        "store_bytes": store.path.stat().st_size,
        "digest": store.source.digest,
        "classes": store.classes,
        "shape": list(data.shape),
        "split": audit.count_tracks(store, data.split),
        "leakage": leakage,
        "seen_before": seen_before,
        "rejected": store.rejected,
    }


def _log_data(
    data: StoreDataModule, params: int, leakage: dict[str, Any], allow_identical: Any
) -> None:
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    size = f"{params} parameters; " if params else ""  # a support vector machine has none
    log.info("%stracks: %s", size, counts)
    for note in get_notes(data.split):
        log.warning("%s", note)
    if len(data.copies):
        log.info("%d extra copies of training tracks", len(data.copies))
    if unknown := data.oversampling.find_unknown_genres(data.store.classes):
        log.warning(
            "oversampling.genres: no track is of %s, so none is copied; the genres are %s",
            ", ".join(unknown),
            ", ".join(data.store.classes),
        )
    if groups := leakage["duplicates"]:
        shown = audit.format_groups(groups)
        log.warning("%d recordings occur more than once within one part: %s", len(groups), shown)
    for pair, found in leakage.items():
        if "-" in pair and found["identical"]:
            count, named = len(found["identical"]), pair.replace("-", " and ")
            log.warning("%d recordings are in %s: allow_identical permits them", count, named)
    for line in audit.list_near_duplicates(leakage, allow_identical):
        log.warning("%s", line)
    if data.tested_part == "val":
        log.warning("this split has no test part: the model is tested on the validation part")
    shared = leakage.get("train-test", leakage["train-val"])["tracks_of_shared_artists"]
    if shared:
        log.warning(
            "%d of the %d %s tracks are by artists of the training part; split=artist avoids that",
            shared,
            len(data.split[data.tested_part]),
            data.tested_part,
        )


def _warn_of_seen_tracks(data: StoreDataModule, seen_before: dict[str, int | None]) -> None:
    for part, count in seen_before.items():
        if count is None:
            log.warning(
                "not known whether the pretrained model was trained on the %s tracks: its rows "
                "cannot be compared with them",
                part,
            )
        elif count:
            log.warning(
                "the pretrained model was trained on %d of the %d %s tracks",
                count,
                len(data.split[part]),
                part,
            )
