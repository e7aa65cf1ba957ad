"""`genreclf evaluate`: a checkpoint on any data that has its genres."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from genreclf import metrics, processes, results
from genreclf.checkpoint import Trained
from genreclf.classifier import predict
from genreclf.corpora import Corpus, Npz
from genreclf.datamodule import StoreDataModule
from genreclf.errors import InputError
from genreclf.features import Features, Precomputed
from genreclf.models import parameter_count
from genreclf.prepare import check_values, store_for
from genreclf.state_dicts import load_trained
from genreclf.store import Store

log = logging.getLogger(__name__)

EVALUATION = "evaluation.json"


def run(config: DictConfig) -> None:
    """The command: write evaluation.json and predictions.csv; print the path of the first."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    trained = _trained(config)
    corpus = instantiate(config.data)
    features = _features(config, trained, corpus)
    store = store_for(
        corpus,
        features,
        outputs=config.outputs,
        path=config.store,
        workers=config.workers,
    )
    numbers = _class_numbers(store, trained)
    _announce(trained, features)
    data = _data(config, trained, corpus, features, store)
    alone = processes.Team(config.trainer).settings_alone()
    trainer = instantiate(config.trainer, logger=False, default_root_dir=folder, **alone)
    scores = predict(trainer, trained, data, data.tested_part, config.fast)
    rows = data.split[data.tested_part]
    labels = numbers[store.labels[rows]]
    track_ids = [store.track_ids[row] for row in rows]
    predictions = results.Predictions(track_ids, labels, scores, trained.classes)
    predictions.write(folder / results.PREDICTIONS)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    evaluation = {
        **metrics.evaluate(labels, scores, trained.classes),
        "classes": trained.classes,
        "tested_on": data.tested_part,
        "trained_on": _trained_on(trained, store, rows),
        "rejected": store.rejected,
        **results.provenance(),
        "config": plain,
    }
    results.write_json(folder / EVALUATION, evaluation)
    log.info("%s", metrics.in_words(evaluation))
    print(folder / EVALUATION)


def _data(
    config: DictConfig, trained: Trained, corpus: Corpus, features: Features, store: Store
) -> StoreDataModule:
    """The tracks, which the checkpoint must be able to take."""
    split = instantiate(config.split)(store)
    data = StoreDataModule(store, split, config.batch_size, config.num_workers, features=features)
    _check_size(data, trained, corpus)
    if isinstance(corpus, Npz) and trained.trained_on is not None:  # else the features are a guess
        check_values(store, trained.features)
    return data


def _trained(config: DictConfig) -> Trained:
    """The checkpoint, or the plain state dict that it is where its classes are named."""
    features = instantiate(config.features) if "features" in config else Precomputed()
    if config.classes is None and not isinstance(features, Precomputed):
        raise InputError("the features come from the checkpoint: leave features=... out")
    return load_trained(config.checkpoint, config.classes, config.axis, features)


def _announce(trained: Trained, features: Features) -> None:
    """Say what is taken for granted."""
    if trained.trained_on is None:
        axis = getattr(trained.net, "axis", "")
        along = f" along {axis} (axis=...)" * bool(axis)
        kind, count = type(trained.net).__name__, parameter_count(trained.net)
        log.info("%s of %d parameters%s; what it was trained on is not known", kind, count, along)
    if isinstance(features, Precomputed) and not isinstance(trained.features, Precomputed):
        log.warning("the rows are taken to be %s as the net was trained on", trained.features.name)


def _check_size(data: StoreDataModule, trained: Trained, corpus: Corpus) -> None:
    bins, frames = data.shape
    hint = " unless features=... says something else of this plain state dict"
    if bins != trained.bins:
        raise InputError(
            f"data={corpus.name}: features of {bins} bins, the checkpoint was trained on "
            f"{trained.bins}" + hint * (trained.trained_on is None)
        )
    least: int = trained.net.min_size  # pyright: ignore[reportAssignmentType]
    if frames < least:
        raise InputError(f"data={corpus.name}: {frames} frames, this model needs {least}")


def _trained_on(trained: Trained, store: Store, rows: np.ndarray) -> int | None:
    """How many of these rows the checkpoint was trained on; None where that cannot be told."""
    seen = trained.seen((store.row_sha1[row] for row in rows), str(store.dtype))
    if seen is None and trained.trained_on is not None:
        log.warning(
            "not known whether it was trained on these tracks: its rows were stored otherwise"
        )
    if seen:
        log.warning("the checkpoint was trained on %d of these %d tracks", seen, len(rows))
    return seen


def _features(config: DictConfig, trained: Trained, corpus: Corpus) -> Features:
    """The checkpoint's features; rows of an npz are taken to be those."""
    if isinstance(corpus, Npz):
        return Precomputed()
    if isinstance(trained.features, Precomputed):
        raise InputError(
            "the checkpoint was trained on precomputed features, which cannot be made from audio; "
            "evaluate it with data=npz"
        )
    if trained.features.duration != corpus.duration:
        log.info("%g s of each track are used, as in training", trained.features.duration)
    return trained.features


def _class_numbers(store: Store, trained: Trained) -> np.ndarray:
    """For each class of the store its number in the checkpoint, by name, whatever the case."""
    numbers = {name.casefold(): number for number, name in enumerate(trained.classes)}
    if unknown := [name for name in store.classes if name.casefold() not in numbers]:
        raise InputError(
            f"genres that the checkpoint does not know: {', '.join(unknown)} (it knows "
            f"{', '.join(trained.classes)}); leave them out, e.g. data.genres=[...]"
        )
    return np.array([numbers[name.casefold()] for name in store.classes])
