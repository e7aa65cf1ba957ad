"""Trains and tests one run: data, classifier, training, test."""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from genreclf.data import splits
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.store import Store
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import evaluate
from genreclf.models import count_parameters
from genreclf.training import loggers, wandb
from genreclf.training.build import Parts, make_classifier, make_data
from genreclf.training.classifier import predict_part
from genreclf.training.fit import TrainingResult, fit

log = logging.getLogger(__name__)


def train_and_test(parts: Parts, store: Store, folder: Path) -> runs.Run:
    """Train and test a model; write config, checkpoint and predictions to the folder.

    Returns:
        The run; its result is not written yet.

    Raises:
        InputError: parts and data do not fit together, or training diverged.
    """
    runs.write_config(folder, parts.config)
    provenance = runs.collect_provenance()  # before anything else is committed
    data = make_data(parts, store)
    leakage = splits.audit_split(store, data.split, parts.allow_identical)
    classifier = make_classifier(parts, data)
    description = classifier.description
    known = {
        "params": count_parameters(classifier.net),
        "data": _describe_data(data, folder, leakage, description["seen_before"]),
        "sources": description["sources"],
        **provenance,
        "config": parts.config,
    }
    _log_data(data, known["params"], leakage)
    _warn_of_seen_tracks(data, description["seen_before"])
    logger = parts.make_logger(folder)
    try:
        trained = fit(parts, data, classifier, folder, logger, provenance)
        assert trained is not None
        run = _test(trained, data, folder, parts)
        if parts.test:
            tested = run.result["metrics"].items()
            logger.log_metrics({key: value for key, value in tested if key.startswith("test/")})
        run.result.update(known)
        wandb.log_results([logger], run, data)
    except BaseException:
        loggers.close_loggers([logger], "failed")
        raise
    finally:
        data.release_cache()  # exceptions and Lightning's reference cycles would keep it
    loggers.close_loggers([logger], "success")
    return run


def help_train(parts: Parts, store: Store, folder: Path) -> None:
    """Train in a process whose rank is not 0; everything else is left to rank 0.

    Raises:
        InputError: for the reasons of `train_and_test`.
    """
    data = make_data(parts, store)
    splits.audit_split(store, data.split, parts.allow_identical)
    fit(parts, data, make_classifier(parts, data), folder)


def _test(trained: TrainingResult, data: StoreDataModule, folder: Path, parts: Parts) -> runs.Run:
    """Test the model: return the run with its metrics, and write its predictions."""
    part = data.tested_part if parts.test else "val"
    predictions = _predict(trained, data, part, parts.fast)
    predictions.write(folder / runs.PREDICTIONS)
    test = _evaluate(predictions)
    val = test if part == "val" else _evaluate(_predict(trained, data, "val", parts.fast))
    names = ("loss", "accuracy", "f1_macro")
    metrics = {key: value for key, value in trained.best.items() if "/" in key}
    if not trained.history.epochs:  # a model without epochs
        metrics = {f"val/{name}": val[name] for name in names}
    if parts.test:
        metrics |= {f"test/{name}": test[name] for name in names}
        metrics |= {f"test/{name}": value for name, value in _score(parts, predictions).items()}
    result = {
        "metrics": metrics,
        "tested_on": part,
        "test": test,
        "val": val,
        "seconds": trained.history.seconds,
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


def _score(parts: Parts, predictions: runs.Predictions) -> dict[str, float]:
    """Compute the metrics that only training logs, such as the user's own."""
    scores, labels = map(torch.from_numpy, (predictions.scores, predictions.labels))
    found = parts.make_metrics(len(predictions.classes)).items()
    return {
        name: float(metric(scores, labels))
        for name, metric in found
        if name not in ("accuracy", "f1_macro")
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
        "split": splits.count_tracks(store, data.split),
        "leakage": leakage,
        "seen_before": seen_before,
        "rejected": store.rejected,
    }


def _log_data(data: StoreDataModule, params: int, leakage: dict[str, Any]) -> None:
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    log.info("%d parameters; tracks: %s", params, counts)
    if len(data.copies):
        log.info("%d extra copies of training tracks", len(data.copies))
    if unknown := data.oversampling.find_unknown_genres(data.store.classes):
        log.warning(
            "oversampling.genres: no track is of %s, so none is copied; the genres are %s",
            ", ".join(unknown),
            ", ".join(data.store.classes),
        )
    if pairs := leakage["duplicates"]:
        shown = ", ".join(" = ".join(pair) for pair in pairs[:3]) + ", ..." * (len(pairs) > 3)
        log.warning("%d identical pairs within one part: %s", len(pairs), shown)
    for parts, found in leakage.items():
        if "-" in parts and found["identical"]:
            count, named = len(found["identical"]), parts.replace("-", " and ")
            log.warning("%d identical pairs in %s: allow_identical permits them", count, named)
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
