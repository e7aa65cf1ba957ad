"""`genreclf train`: from a config to a finished run."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from genreclf import composition, loggers, report, results, splits
from genreclf.callbacks import BEST, LAST, History, callbacks
from genreclf.checkpoint import Trained, load_checkpoint, predict, read_checkpoint
from genreclf.classifier import Classifier
from genreclf.datamodule import StoreDataModule
from genreclf.errors import InputError
from genreclf.metrics import evaluate, in_words
from genreclf.models import parameter_count
from genreclf.prepare import source_of, store_for
from genreclf.store import Source, Store

log = logging.getLogger(__name__)
PAGE = "report.html"


def run(config: DictConfig) -> None:
    """The command: train and test, or reuse the finished run; print the path of result.json."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    finished = folder / results.RESULT
    corpus, features = instantiate(config.data), instantiate(config.features)
    source = source_of(corpus, features)
    with FileLock(folder / ".lock"):  # the same command, started twice, trains once
        if finished.exists():
            result = json.loads(finished.read_text(encoding="utf-8"))
            _check_data(finished, result["data"]["digest"], source)
            log.info("this run is finished: its result is reused; delete its folder to rerun it")
            log.info("%s", _summary(result))
            if config.report and not (folder / PAGE).exists():
                report.write([results.Run.read(folder)], folder / PAGE)
        else:
            composition.check_settings(config, folder)
            composition.check_genres(corpus.genres(), "data")
            store = store_for(
                corpus, features, outputs=config.outputs, path=config.store, workers=config.workers
            )
            composition.check_genres(store.classes, "usable tracks")
            _train(config, store, folder)
    print(finished)


def _check_data(file: Path, digest: str, source: Source) -> None:
    if digest != source.digest:
        raise InputError(
            f"{file.parent}: the data or features have changed since this run began (digest "
            f"{digest[:8]}, now {source.digest[:8]}); move or delete that folder to train anew"
        )


def _train(config: DictConfig, store: Store, folder: Path) -> None:
    """Train, test, and fill the run's folder."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    results.write_config(folder, plain)
    provenance = results.provenance()  # of the code that runs, whatever is committed meanwhile
    data = composition.make_data(config, store)
    leakage = splits.audit(store, data.split, config.allow_identical)
    classifier = composition.make_classifier(config, plain, data)
    params = parameter_count(classifier.net)
    _announce(data, params, leakage)
    history = History(config.seed)
    trainer = instantiate(
        config.trainer,
        callbacks=callbacks(folder, config.monitor, config.patience, history),
        logger=instantiate(config.logger, save_dir=folder),
        default_root_dir=folder,
        enable_model_summary=False,
    )
    try:
        _fit(trainer, classifier, data, folder)
        best = history.best_epoch(config.monitor)
        trained = _best(folder, best)
        predictions = _predict(trainer, trained, data, data.tested_part)
        predictions.write(folder / results.PREDICTIONS)
        test = _figures(predictions)
        val = (
            test if data.tested_part == "val" else _figures(_predict(trainer, trained, data, "val"))
        )
        tested = {f"test/{name}": test[name] for name in ("loss", "accuracy", "f1_macro")}
        for logger in trainer.loggers:
            logger.log_metrics(tested)
    except BaseException:
        loggers.close(trainer.loggers, "failed")
        raise
    loggers.close(trainer.loggers, "success")
    result = {
        "metrics": {key: value for key, value in best.items() if "/" in key} | tested,
        "tested_on": data.tested_part,
        "test": test,
        "val": val,
        "params": params,
        "seconds": history.seconds,
        "best_epoch": int(best["epoch"]),
        "history": history.epochs,
        "data": _description(data, leakage),
        **provenance,
        "overrides": _overrides(),
        "config": plain,
    }
    if config.report:
        report.write([results.Run(folder, result, predictions)], folder / PAGE)
    results.write_json(folder / results.RESULT, result)
    (folder / LAST).unlink(missing_ok=True)
    log.info("%s", _summary(result))


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


def _fit(trainer: pl.Trainer, classifier: Classifier, data: StoreDataModule, folder: Path) -> None:
    """Train; after the last finished epoch, if the run was interrupted after one."""
    last = folder / LAST
    if last.exists():
        begun_with = read_checkpoint(last)["genreclf"]["store"]
        _check_data(last, begun_with, data.store.source)
        log.info("this run was interrupted: going on after its last finished epoch")
    try:
        trainer.fit(classifier, data, ckpt_path=last if last.exists() else None)
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None


def _best(folder: Path, best: dict[str, float]) -> Trained:
    """The kept epoch."""
    trained = load_checkpoint(folder / BEST)
    if trained.epoch != best["epoch"]:
        raise RuntimeError(f"{folder / BEST} is of epoch {trained.epoch}, not {best['epoch']}")
    return trained


def _predict(
    trainer: pl.Trainer, trained: Trained, data: StoreDataModule, part: str
) -> results.Predictions:
    scores = predict(trainer, trained, data, part)
    rows = data.split[part]
    track_ids = [data.store.track_ids[row] for row in rows]
    return results.Predictions(track_ids, data.store.labels[rows], scores, trained.classes)


def _figures(predictions: results.Predictions) -> dict[str, Any]:
    return evaluate(predictions.labels, predictions.scores, predictions.classes)


def _description(data: StoreDataModule, leakage: dict[str, Any]) -> dict[str, Any]:
    store = data.store
    return {
        "store": str(store.path),
        "store_bytes": store.path.stat().st_size,
        "digest": store.source.digest,
        "classes": store.classes,
        "shape": list(data.shape),
        "split": splits.sizes(store, data.split),
        "leakage": leakage,
        "rejected": store.rejected,
    }


def _overrides() -> list[str]:
    """What the user changed, less what changes no number."""
    given: list[str] = list(HydraConfig.get().overrides.task)
    return [text for text in given if text.partition("=")[0] not in results.NOT_IDENTITY]


def _summary(result: dict[str, Any]) -> str:
    return (
        f"{result['tested_on']} {in_words(result['test'])}; epoch {result['best_epoch'] + 1} of "
        f"{len(result['history'])}, {result['seconds']:.0f} s"
    )
