"""`genreclf train`: from a config to a finished run."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from genreclf import report, results, splits
from genreclf.callbacks import BEST, LAST, History, callbacks
from genreclf.classifier import Classifier, load_checkpoint, predict, read_checkpoint
from genreclf.datamodule import StoreDataModule
from genreclf.errors import InputError
from genreclf.features import settings
from genreclf.metrics import evaluate
from genreclf.models import parameter_count
from genreclf.prepare import source_of, store_for
from genreclf.store import Source, Store

log = logging.getLogger(__name__)
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
# A run's folder holds more than checkpoints; and batches come ready from one call to HDF5.
warnings.filterwarnings("ignore", ".*exists and is not empty.*")
warnings.filterwarnings("ignore", ".*does not have many workers.*")
warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")


def run(config: DictConfig) -> None:
    """The command: train and test, or reuse the finished run; print the path of result.json."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    finished = folder / results.RESULT
    corpus, features = instantiate(config.data), instantiate(config.features)
    source = source_of(corpus, features)
    if finished.exists():
        _check_data(finished, json.loads(finished.read_text())["data"]["digest"], source)
        log.info("this run is finished: its result is reused; delete its folder to run it again")
    else:
        if len(genres := corpus.genres()) < 2:
            raise InputError(f"data={corpus.name}: one genre only ({genres[0]}); two are needed")
        store = store_for(
            corpus, features, outputs=config.outputs, path=config.store, workers=config.workers
        )
        _train(config, store, folder)
    print(finished)


def _check_data(file: Path, digest: str, source: Source) -> None:
    if digest != source.digest:
        raise InputError(
            f"{file.parent}: begun with data of digest {digest[:8]}, which has changed since "
            f"(now {source.digest[:8]}); delete that folder to train anew"
        )


def _train(config: DictConfig, store: Store, folder: Path) -> None:
    """Train, test, and fill the run's folder."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    results.write_config(folder, plain)
    split = instantiate(config.split)(store)
    if missing := {"train", "val"} - set(split):
        raise InputError(f"this split has no {' and no '.join(sorted(missing))} part to train with")
    leakage = splits.audit(store, split, config.allow_identical)
    pl.seed_everything(config.seed, verbose=False)
    augmentation = instantiate(config.augmentation, silence=store.scaling.silence)
    data = StoreDataModule(
        store, split, config.batch_size, config.num_workers, augmentation, config.seed
    )
    classifier = _classifier(config, plain, store)
    _announce(store, data, parameter_count(classifier.net), leakage)
    history = History(config.seed)
    trainer = instantiate(
        config.trainer,
        callbacks=callbacks(folder, config.monitor, config.patience, history),
        logger=instantiate(config.logger, save_dir=folder),
        default_root_dir=folder,
        enable_model_summary=False,
    )
    try:
        trainer.fit(classifier, data, ckpt_path=_resume_point(folder, store.source))
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    best = history.best_epoch(config.monitor)
    predictions = _test(trainer, data, folder)
    test = evaluate(predictions.labels, predictions.scores, store.classes)
    metrics = {key: value for key, value in best.items() if "/" in key}
    tested = {f"test/{name}": test[name] for name in ("loss", "accuracy", "f1_macro")}
    for logger in trainer.loggers:
        logger.log_metrics(tested)
        logger.finalize("success")
    result = {
        "metrics": metrics | tested,
        "tested_on": data.tested_part,
        "test": test,
        "params": parameter_count(classifier.net),
        "seconds": history.seconds,
        "best_epoch": int(best["epoch"]),
        "history": history.epochs,
        "data": _data(store, split, leakage),
        **results.provenance(),
        "overrides": _overrides(),
        "config": plain,
    }
    if config.report:
        report.write([results.Run(folder, result, predictions)], folder / "report.html")
    results.write_json(folder / results.RESULT, result)
    (folder / LAST).unlink()
    log.info("%s", _summary(result))


def _classifier(config: DictConfig, plain: dict[str, Any], store: Store) -> Classifier:
    description = {
        "model": plain["model"],
        "features": settings(instantiate(config.features)),
        "bins": store.shape[0],
        "store": store.source.digest,
    }
    net = instantiate(config.model, classes=len(store.classes))
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    return Classifier(net, store.classes, optimizer, scheduler, description)


def _announce(store: Store, data: StoreDataModule, params: int, leakage: dict[str, Any]) -> None:
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in data.split.items())
    log.info("%d parameters; tracks: %s", params, counts)
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


def _resume_point(folder: Path, source: Source) -> Path | None:
    """The checkpoint of the last finished epoch, if the run was interrupted after one."""
    last = folder / LAST
    if not last.exists():
        return None
    _check_data(last, read_checkpoint(last)["genreclf"]["store"], source)
    log.info("this run was interrupted: going on after its last finished epoch")
    return last


def _test(trainer: pl.Trainer, data: StoreDataModule, folder: Path) -> results.Predictions:
    """Predict the tested part once, with the kept epoch."""
    trained = load_checkpoint(folder / BEST)
    scores = predict(trainer, trained, data)
    rows = data.split[data.tested_part]
    track_ids = [data.store.track_ids[row] for row in rows]
    predictions = results.Predictions(track_ids, data.store.labels[rows], scores, trained.classes)
    predictions.write(folder / results.PREDICTIONS)
    return predictions


def _data(store: Store, split: splits.Split, leakage: dict[str, Any]) -> dict[str, Any]:
    return {
        "store": str(store.path),
        "digest": store.source.digest,
        "classes": store.classes,
        "shape": list(store.shape),
        "split": splits.sizes(store, split),
        "leakage": leakage,
        "rejected": store.rejected,
    }


def _overrides() -> list[str]:
    """What the user changed, less what changes no number."""
    given: list[str] = list(HydraConfig.get().overrides.task)
    return [text for text in given if text.partition("=")[0] not in results.NOT_IDENTITY]


def _summary(result: dict[str, Any]) -> str:
    test, part = result["test"], result["tested_on"]
    low, high = (100 * bound for bound in test["interval"])
    return (
        f"{part} accuracy {100 * test['accuracy']:.2f} % (95 % interval {low:.1f} to {high:.1f}), "
        f"macro F1 {test['f1_macro']:.3f}, n = {test['n']}; epoch {result['best_epoch'] + 1} of "
        f"{len(result['history'])}, {result['seconds']:.0f} s"
    )
