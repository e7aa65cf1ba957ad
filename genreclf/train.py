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
from torch import nn

from genreclf import loggers, report, results, splits
from genreclf.callbacks import BEST, LAST, History, callbacks
from genreclf.classifier import Classifier, load_checkpoint, predict, read_checkpoint
from genreclf.datamodule import Oversampling, StoreDataModule, check_loading
from genreclf.errors import InputError
from genreclf.features import settings
from genreclf.metrics import evaluate, in_words
from genreclf.models import MIN_SIZE, parameter_count
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
            _check_settings(config, folder)
            _check_genres(corpus.genres(), "data")
            store = store_for(
                corpus, features, outputs=config.outputs, path=config.store, workers=config.workers
            )
            _check_genres(store.classes, "usable tracks")
            _train(config, store, folder)
    print(finished)


def _check_settings(config: DictConfig, folder: Path) -> None:
    """Notice what is wrong before hours of decoding, not after."""
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed={config.seed}: from 0 to {2**32 - 1} is needed")
    check_loading(config.batch_size, config.num_workers)
    callbacks(folder, config.monitor, config.patience, History(config.seed))
    net = instantiate(config.model, classes=2)
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    Classifier(net, ["a", "b"], optimizer, scheduler).configure_optimizers()
    _augmentations(config, silence=(0.0,))


def _check_genres(genres: list[str], where: str) -> None:
    if len(genres) < 2:
        raise InputError(f"one genre only ({genres[0]}) in the {where}; two are needed")
    if len({name.casefold() for name in genres}) < len(genres):
        raise InputError(f"genres that differ in case alone: {', '.join(genres)}; rename one")


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
    data = _data(config, store)
    leakage = splits.audit(store, data.split, config.allow_identical)
    classifier = _classifier(config, plain, data)
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
        predictions = _test(trainer, data, folder, best)
        test = evaluate(predictions.labels, predictions.scores, store.classes)
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


def _data(config: DictConfig, store: Store) -> StoreDataModule:
    if min(store.shape) < MIN_SIZE:
        bins, frames = store.shape
        raise InputError(
            f"features of {bins} x {frames}; the net needs at least {MIN_SIZE} x {MIN_SIZE}"
        )
    split = instantiate(config.split)(store)
    if missing := [part for part in ("train", "val") if part not in split]:
        raise InputError(f"this split has no {' and no '.join(missing)} part to train with")
    augmentation, oversampling = _augmentations(config, store.scaling.silence)
    return StoreDataModule(
        store,
        split,
        config.batch_size,
        config.num_workers,
        augmentation,
        oversampling,
        config.seed,
    )


def _augmentations(
    config: DictConfig, silence: tuple[float, ...]
) -> tuple[nn.Module, Oversampling]:
    """Of all training tracks, and of the extra copies of some genres."""
    copies = instantiate(config.oversampling.augmentation, silence=silence)
    return (
        instantiate(config.augmentation, silence=silence),
        instantiate(config.oversampling, augmentation=copies),
    )


def _classifier(config: DictConfig, plain: dict[str, Any], data: StoreDataModule) -> Classifier:
    store = data.store
    description = {
        "model": plain["model"],
        "features": settings(instantiate(config.features)),
        "bins": store.shape[0],
        "store": store.source.digest,
        "trained_on": [store.row_sha1[row] for row in data.split["train"]],
    }
    pl.seed_everything(config.seed, verbose=False)  # of the net's first weights
    net = instantiate(config.model, classes=len(store.classes))
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    return Classifier(net, store.classes, optimizer, scheduler, description)


def _announce(data: StoreDataModule, params: int, leakage: dict[str, Any]) -> None:
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    log.info("%d parameters; tracks: %s", params, counts)
    copies = data.oversampling.rows(data.store, data.split["train"])
    if len(copies):
        log.info("%d extra copies of training tracks", len(copies))
    if unknown := set(data.oversampling.genres) - set(data.store.classes):
        log.warning(
            "oversampling.genres: no track is of %s, so nothing of it is copied; there are %s",
            ", ".join(sorted(unknown)),
            ", ".join(data.store.classes),
        )
    if twins := leakage["duplicates"]:
        shown = ", ".join(" = ".join(pair) for pair in twins[:3]) + ", ..." * (len(twins) > 3)
        log.warning("%d identical pairs lie within one part: %s", len(twins), shown)
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


def _test(
    trainer: pl.Trainer, data: StoreDataModule, folder: Path, best: dict[str, float]
) -> results.Predictions:
    """Predict the tested part once, with the kept epoch."""
    trained = load_checkpoint(folder / BEST)
    if trained.epoch != best["epoch"]:
        raise RuntimeError(f"{folder / BEST} is of epoch {trained.epoch}, not {best['epoch']}")
    scores = predict(trainer, trained, data)
    rows = data.split[data.tested_part]
    track_ids = [data.store.track_ids[row] for row in rows]
    predictions = results.Predictions(track_ids, data.store.labels[rows], scores, trained.classes)
    predictions.write(folder / results.PREDICTIONS)
    return predictions


def _description(data: StoreDataModule, leakage: dict[str, Any]) -> dict[str, Any]:
    store = data.store
    return {
        "store": str(store.path),
        "digest": store.source.digest,
        "classes": store.classes,
        "shape": list(store.shape),
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
