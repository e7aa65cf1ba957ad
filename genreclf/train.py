"""`genreclf train`: from a config to a finished run."""

import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar

from genreclf import report, results, splits
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

BEST, LAST = "best.ckpt", "last.ckpt"
MONITORS = [f"{p}/{m}" for p in ("val", "train") for m in ("loss", "accuracy", "f1_macro")]


class History(Callback):
    """The figures of each epoch, kept in the checkpoint; and an epoch's own random numbers.

    Reseeding at each epoch makes a run that was interrupted and resumed give the same numbers as
    one that was not.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed dropout and augmentation by run and epoch."""
        self._started = time.perf_counter()
        seed = np.random.SeedSequence([self.seed, trainer.current_epoch]).generate_state(1)[0]
        torch.manual_seed(int(seed))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the figures; those of validation are there already."""
        self.seconds += time.perf_counter() - self._started
        figures = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        figures["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.epochs.append({"epoch": trainer.current_epoch, **figures})

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"epochs": self.epochs, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.epochs, self.seconds = state_dict["epochs"], state_dict["seconds"]


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
    """Train, test, and write the run's folder; `result.json` comes last."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    results.write_config(folder, plain)
    split = instantiate(config.split)(store)
    if missing := {"train", "val"} - set(split):
        raise InputError(f"this split has no {' and no '.join(sorted(missing))} part to train with")
    leakage = splits.audit(store, split, config.allow_identical)
    pl.seed_everything(config.seed, verbose=False)
    data = StoreDataModule(
        store,
        split,
        config.batch_size,
        config.num_workers,
        instantiate(config.augmentation, silence=store.scaling.silence),
        config.seed,
    )
    classifier = _classifier(config, plain, store)
    params = parameter_count(classifier.net)
    _announce(store, data, params, leakage)
    history = History(config.seed)
    trainer = _trainer(config, folder, history)
    try:
        trainer.fit(classifier, data, ckpt_path=_resume_point(folder, store.source))
    except SystemExit:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from None
    scores = predict(trainer, load_checkpoint(folder / BEST), data)
    labels = store.labels[split[data.tested_part]]
    test = evaluate(labels, scores, store.classes)
    best = _best_epoch(history.epochs, config.monitor)
    metrics = {key: value for key, value in best.items() if "/" in key}
    metrics |= {f"test/{name}": test[name] for name in ("loss", "accuracy", "f1_macro")}
    for logger in trainer.loggers:
        logger.log_metrics({k: v for k, v in metrics.items() if k.startswith("test/")})
        logger.finalize("success")
    track_ids = [store.track_ids[row] for row in split[data.tested_part]]
    predictions = results.Predictions(track_ids, labels, scores, store.classes)
    predictions.write(folder / results.PREDICTIONS)
    result = {
        "metrics": metrics,
        "tested_on": data.tested_part,
        "test": test,
        "params": params,
        "seconds": history.seconds,
        "best_epoch": int(best["epoch"]),
        "history": history.epochs,
        "data": {
            "store": str(store.path),
            "digest": store.source.digest,
            "classes": store.classes,
            "shape": list(store.shape),
            "split": splits.sizes(store, split),
            "leakage": leakage,
            "rejected": store.rejected,
        },
        **results.provenance(),
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


def _trainer(config: DictConfig, folder: Path, history: History) -> pl.Trainer:
    if config.monitor not in MONITORS:
        raise InputError(f"monitor={config.monitor}: choose one of {', '.join(MONITORS)}")
    mode = _mode(config.monitor)
    stop = EarlyStopping(
        config.monitor, mode=mode, patience=config.patience, check_on_train_epoch_end=True
    )
    keep = ModelCheckpoint(
        folder,
        filename=Path(BEST).stem,
        monitor=config.monitor,
        mode=mode,
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return instantiate(
        config.trainer,
        callbacks=[history, stop, keep, RichProgressBar()],
        logger=instantiate(config.logger, save_dir=folder),
        default_root_dir=folder,
        enable_model_summary=False,
    )


def _mode(monitor: str) -> str:
    return "min" if monitor.endswith("loss") else "max"


def _best_epoch(epochs: list[dict[str, float]], monitor: str) -> dict[str, float]:
    """The first epoch of the best value, as ModelCheckpoint chooses."""
    choose = min if _mode(monitor) == "min" else max
    return choose(epochs, key=lambda epoch: epoch[monitor])


def _resume_point(folder: Path, source: Source) -> Path | None:
    """The checkpoint of the last finished epoch, if the run was interrupted after one."""
    last = folder / LAST
    if not last.exists():
        return None
    _check_data(last, read_checkpoint(last)["genreclf"]["store"], source)
    log.info("this run was interrupted: going on after its last finished epoch")
    return last


def _summary(result: dict[str, Any]) -> str:
    test, part = result["test"], result["tested_on"]
    low, high = (100 * bound for bound in test["interval"])
    return (
        f"{part} accuracy {100 * test['accuracy']:.2f} % (95 % interval {low:.1f} to {high:.1f}), "
        f"macro F1 {test['f1_macro']:.3f}, n = {test['n']}; epoch {result['best_epoch'] + 1} of "
        f"{len(result['history'])}, {result['seconds']:.0f} s"
    )
