"""`genreclf train`: from a config to a finished run."""

import logging
import os
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from genreclf import files
from genreclf.audio.features import identify_features
from genreclf.commands.identity import (
    changes_nothing,
    check_defaults,
    digest_run,
)
from genreclf.commands.run_folder import set_output_folder
from genreclf.commands.stores import digest_config_split, find_store
from genreclf.data import splits
from genreclf.data.build_store import StorePlan, write_store
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.store import Store, digest_values
from genreclf.errors import InputError, format_error
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import evaluate, format_headline
from genreclf.evaluation.runs import LAST
from genreclf.models import count_parameters
from genreclf.report.page import write_report
from genreclf.report.study import PAGE
from genreclf.training import build, fit, loggers, memory, processes, wandb
from genreclf.training.classifier import predict_part
from genreclf.training.fit import TrainingResult

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """The command: train and test, or reuse the finished run; print the path of result.json."""
    store = find_store(config)
    if isinstance(store, StorePlan):
        build.check_settings(config)
        build.check_genres(store.dataset.genres(), "data")
        store = write_store(store, config.workers)
    folder = choose_folder(config, store)
    set_output_folder(folder)
    if processes.rank():
        fit.help_from_outside(config, folder)
        return
    with FileLock(folder / ".lock"):  # the same command, started twice, trains once
        (folder / runs.FAILURE).unlink(missing_ok=True)
        refused = _run(config, store, folder)
    if refused:
        raise InputError(refused)
    print(folder / runs.RESULT)


def choose_folder(config: DictConfig, store: Store) -> Path:
    """The folder of a run on this store."""
    hydra_config = HydraConfig.get()
    whole = OmegaConf.merge({"hydra": hydra_config}, config)
    features = identify_features(instantiate(config.features))
    data = digest_values([features, digest_config_split(config, store)])
    digest = digest_run(whole, data, build.digest_sources(config))
    name = f"{store.source.dataset}-{hydra_config.runtime.choices['model']}-{digest}"
    return Path(str(config.outputs)) / "train" / name


def _run(config: DictConfig, store: Store, folder: Path) -> str:
    """Train or reuse; what fails is noted in the folder. Returns what memory did not hold.

    That is not raised in here: an exception holds the frames in which it arose, and they the
    tensors, so that the next run of a sweep would find no memory either.
    """
    refused = ""
    try:
        _reuse_or_train(config, store, folder)
    except Exception as error:
        exhausted = memory.is_exhausted(error)
        text = format_error(error)
        if exhausted:
            refused = text = (
                f"batch_size={config.batch_size} does not fit in the memory of "
                f"{memory.name_device()}; a smaller one may"
            )
        files.write_json(folder / runs.FAILURE, {"error": text, "out_of_memory": exhausted})
        if not exhausted:
            raise
    if refused:
        memory.release_memory()
    return refused


def _reuse_or_train(config: DictConfig, store: Store, folder: Path) -> None:
    finished = folder / runs.RESULT
    if finished.exists():
        result = files.read_json(finished)
        check_defaults(folder, result["config"], config)
        log.info("this run is finished: its result is reused; delete its folder to rerun it")
        log.info("%s", _summary(result))
        if config.report and not (folder / PAGE).exists():
            write_report([runs.Run.read(folder)], folder / PAGE)
    else:
        build.check_settings(config)
        build.check_genres(store.classes, "usable tracks")
        _train(config, store, folder)


def _train(config: DictConfig, store: Store, folder: Path) -> None:
    """Train, test, and fill the run's folder."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    runs.write_config(folder, plain)
    provenance = runs.collect_provenance()  # of the code that runs, whatever is committed meanwhile
    data = build.make_data(config, store)
    leakage = splits.audit_split(store, data.split, config.allow_identical)
    classifier = build.make_classifier(config, plain, data)
    known = {
        "params": count_parameters(classifier.net),
        "data": _description(data, folder, leakage, classifier.description["seen_before"]),
        "sources": classifier.description["sources"],
        **provenance,
        "choices": _choices(),
        "overrides": _overrides(),
        "config": plain,
    }
    _announce(data, known["params"], leakage)
    _announce_seen(data, known["data"]["seen_before"])
    logger: Logger = instantiate(config.logger, save_dir=folder)
    try:
        fitted = fit.fit(config, plain, data, classifier, folder, logger)
        run = _tested(fitted, data, data.tested_part if config.test else "val", config.test)
        run.result.update(known)
        wandb.log_results([logger], run, data)
    except BaseException:
        loggers.close_loggers([logger], "failed")
        raise
    loggers.close_loggers([logger], "success")
    if config.report:
        write_report([run], folder / PAGE)
    files.write_json(folder / runs.RESULT, run.result)
    (folder / LAST).unlink(missing_ok=True)
    log.info("%s", _summary(run.result))


def _tested(fitted: TrainingResult, data: StoreDataModule, part: str, log_it: bool) -> runs.Run:
    """The run with its figures; its predictions of the part are written."""
    predictions = _predict(fitted, data, part)
    predictions.write(fitted.folder / runs.PREDICTIONS)
    test = _figures(predictions)
    val = test if part == "val" else _figures(_predict(fitted, data, "val"))
    tested = {}
    if log_it:
        tested = {f"test/{name}": test[name] for name in ("loss", "accuracy", "f1_macro")}
        fitted.logger.log_metrics(tested)
    kept = {key: value for key, value in fitted.best.items() if "/" in key}
    if not fitted.history.epochs:  # fitted at once
        kept = {f"val/{name}": val[name] for name in ("loss", "accuracy", "f1_macro")}
    result = {
        "metrics": kept | tested,
        "tested_on": part,
        "test": test,
        "val": val,
        "seconds": fitted.history.seconds,
        "device": fitted.device,
        "best_epoch": int(fitted.best["epoch"]),
        "history": fitted.history.epochs,
    }
    return runs.Run(fitted.folder, result, predictions)


def _predict(fitted: TrainingResult, data: StoreDataModule, part: str) -> runs.Predictions:
    scores = predict_part(fitted.tester, fitted.trained, data, part, fitted.fast)
    rows = data.split[part]
    track_ids = [data.store.track_ids[row] for row in rows]
    return runs.Predictions(track_ids, data.store.labels[rows], scores, fitted.trained.classes)


def _announce(data: StoreDataModule, params: int, leakage: dict[str, Any]) -> None:
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    log.info("%d parameters; tracks: %s", params, counts)
    if len(data.copies):
        log.info("%d extra copies of training tracks", len(data.copies))
    if unknown := data.oversampling.unknown(data.store.classes):
        log.warning(
            "oversampling.genres: no track is of %s, so nothing of it is copied; there are %s",
            ", ".join(unknown),
            ", ".join(data.store.classes),
        )
    if twins := leakage["duplicates"]:
        shown = ", ".join(" = ".join(pair) for pair in twins[:3]) + ", ..." * (len(twins) > 3)
        log.warning("%d identical pairs lie within one part: %s", len(twins), shown)
    for parts, found in leakage.items():
        if "-" in parts and found["identical"]:
            count, named = len(found["identical"]), parts.replace("-", " and ")
            log.warning("%d identical pairs lie in %s: allow_identical lets them", count, named)
    if data.tested_part == "val":
        log.warning("this split has no test part: the validation part is tested on")
    shared = leakage.get("train-test", leakage["train-val"])["tracks_of_shared_artists"]
    if shared:
        log.warning(
            "%d of the %d %s tracks are by artists of the training part; split=artist avoids that",
            shared,
            len(data.split[data.tested_part]),
            data.tested_part,
        )


def _announce_seen(data: StoreDataModule, seen_before: dict[str, int | None]) -> None:
    for part, count in seen_before.items():
        if count is None:
            log.warning(
                "not known whether the net that training begins with was trained on the %s tracks: "
                "its rows were stored otherwise",
                part,
            )
        elif count:
            log.warning(
                "the net that training begins with was trained on %d of the %d %s tracks already",
                count,
                len(data.split[part]),
                part,
            )


def _figures(predictions: runs.Predictions) -> dict[str, Any]:
    return evaluate(predictions.labels, predictions.scores, predictions.classes)


def _description(
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


def _choices() -> dict[str, str]:
    """The option of each config group that was chosen."""
    choices = HydraConfig.get().runtime.choices
    return {
        group: str(option) for group, option in choices.items() if option and "hydra" not in group
    }


def _overrides() -> list[str]:
    """What the user changed, less what changes no number."""
    given: list[str] = list(HydraConfig.get().overrides.task)
    return [text for text in given if not changes_nothing(text.partition("=")[0].lstrip("+~"))]


def _summary(result: dict[str, Any]) -> str:
    epochs = len(result["history"])
    kept = f"epoch {result['best_epoch'] + 1} of {epochs}, " if epochs else ""
    return (
        f"{result['tested_on']} {format_headline(result['test'])}; {kept}{result['seconds']:.0f} s"
    )
