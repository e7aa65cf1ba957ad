"""`genreclf evaluate`: a checkpoint on any data that has its genres."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from genreclf import files
from genreclf.audio.features import Features, Precomputed
from genreclf.data.build_store import build_store, check_values
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.datasets import Dataset, Npz
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation import metrics, runs
from genreclf.models import count_parameters
from genreclf.models.checkpoint import Trained
from genreclf.models.import_weights import load_any_checkpoint
from genreclf.training import process_group
from genreclf.training.classifier import predict_part

log = logging.getLogger(__name__)
EVALUATION = "evaluation.json"


def run(config: DictConfig) -> None:
    """The command: write evaluation.json and predictions.csv; print the path of the first."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    trained = _trained(config)
    dataset = instantiate(config.data)
    features = _features(config, trained, dataset)
    store = build_store(
        dataset,
        features,
        outputs=config.outputs,
        path=config.store,
        workers=config.workers,
    )
    numbers = _class_numbers(store, trained)
    _announce(trained, features)
    data = _data(config, trained, dataset, features, store)
    probe = process_group.make_probe(partial(instantiate, config.trainer))
    single = process_group.list_single_settings(probe)
    trainer = instantiate(config.trainer, logger=False, default_root_dir=folder, **single)
    scores = predict_part(trainer, trained, data, data.tested_part, config.fast)
    rows = data.split[data.tested_part]
    labels = numbers[store.labels[rows]]
    track_ids = [store.track_ids[row] for row in rows]
    predictions = runs.Predictions(track_ids, labels, scores, trained.classes)
    predictions.write(folder / runs.PREDICTIONS)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    evaluation = {
        **metrics.evaluate(labels, scores, trained.classes),
        "classes": trained.classes,
        "tested_on": data.tested_part,
        "trained_on": _trained_on(trained, store, rows),
        "rejected": store.rejected,
        **runs.collect_provenance(),
        "config": plain,
    }
    files.write_json(folder / EVALUATION, evaluation)
    log.info("%s", metrics.format_headline(evaluation))
    print(folder / EVALUATION)


def _data(
    config: DictConfig, trained: Trained, dataset: Dataset, features: Features, store: Store
) -> StoreDataModule:
    """The tracks, which the checkpoint must be able to take."""
    split = instantiate(config.split)(store)
    data = StoreDataModule(store, split, config.batch_size, config.num_workers, features=features)
    _check_size(data, trained, dataset)
    if isinstance(dataset, Npz) and trained.trained_on is not None:  # else the features are a guess
        check_values(store, trained.features)
    return data


def _trained(config: DictConfig) -> Trained:
    """The checkpoint, or the plain state dict that it is where its classes are named."""
    features = instantiate(config.features) if "features" in config else Precomputed()
    if config.classes is None and not isinstance(features, Precomputed):
        raise InputError("the features come from the checkpoint: leave features=... out")
    return load_any_checkpoint(config.checkpoint, config.classes, config.axis, features)


def _announce(trained: Trained, features: Features) -> None:
    """Say what is taken for granted."""
    if trained.trained_on is None:
        axis = getattr(trained.net, "axis", "")
        along = f" along {axis} (axis=...)" * bool(axis)
        kind, count = type(trained.net).__name__, count_parameters(trained.net)
        log.info("%s of %d parameters%s; what it was trained on is not known", kind, count, along)
    if isinstance(features, Precomputed) and not isinstance(trained.features, Precomputed):
        log.warning("the rows are taken to be %s as the net was trained on", trained.features.name)


def _check_size(data: StoreDataModule, trained: Trained, dataset: Dataset) -> None:
    bins, frames = data.shape
    hint = " unless features=... says something else of this plain state dict"
    if bins != trained.bins:
        raise InputError(
            f"data={dataset.name}: features of {bins} bins, the checkpoint was trained on "
            f"{trained.bins}" + hint * (trained.trained_on is None)
        )
    least: int = trained.net.min_size  # pyright: ignore[reportAssignmentType]
    if frames < least:
        raise InputError(f"data={dataset.name}: {frames} frames, this model needs {least}")


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


def _features(config: DictConfig, trained: Trained, dataset: Dataset) -> Features:
    """The checkpoint's features; rows of an npz are taken to be those."""
    if isinstance(dataset, Npz):
        return Precomputed()
    if isinstance(trained.features, Precomputed):
        raise InputError(
            "the checkpoint was trained on precomputed features, which cannot be made from audio; "
            "evaluate it with data=npz"
        )
    if trained.features.duration != dataset.duration:
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
