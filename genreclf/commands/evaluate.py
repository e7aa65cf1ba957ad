"""`genreclf evaluate`: test a checkpoint on any data with the same genres."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from genreclf import files
from genreclf.audio import Precomputed
from genreclf.audio.cores import check_workers
from genreclf.audio.descriptions import identify_features
from genreclf.commands.config_use import check_used_to_evaluate, check_used_to_load
from genreclf.commands.identity import DIGITS
from genreclf.commands.instantiation import instantiate
from genreclf.commands.run_folder import set_output_folder
from genreclf.commands.split_checks import check_config_split
from genreclf.commands.stores import digest_config_split
from genreclf.data.build_store import build_store, check_values, plan_store, write_store
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.datasets.track import NO_GENRES
from genreclf.data.preview import list_certain_genres, split_store
from genreclf.data.recorded_features import check_recorded
from genreclf.data.spelling import suggest_renaming
from genreclf.data.splits import get_notes
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation import metrics, runs
from genreclf.evaluation.provenance import collect_provenance
from genreclf.files import digest_values
from genreclf.models import count_parameters, get_min_size
from genreclf.models.checkpoint import TrainedModel
from genreclf.models.import_weights import load_any_checkpoint
from genreclf.models.model_files import digest_checkpoint
from genreclf.protocols import Dataset, FeatureDataset
from genreclf.training import process_group
from genreclf.training.prediction import predict_part

log = logging.getLogger(__name__)
EVALUATION = "evaluation.json"
RECORDED = "embed these tracks with the features of the checkpoint: genreclf embed"


def run(config: DictConfig) -> None:
    """Run the command: write evaluation.json and predictions.csv; print the path of the first."""
    check_used_to_evaluate(config)
    check_used_to_load(config)
    trained = _load_model(config)
    dataset = instantiate(config.data)
    features = _choose_features(trained, dataset)
    is_built = config.store is not None and Path(str(config.store)).exists()
    can_rename = hasattr(dataset, "rename") and not is_built
    with trained.explain_missing_encoders():
        if is_built:
            store = build_store(dataset, features, outputs=config.outputs, path=config.store)
        else:
            check_workers(config.workers)
            plan = plan_store(dataset, features, outputs=config.outputs, path=config.store)
            if not plan.path.exists():
                _match_classes(list_certain_genres(plan.tracks), trained, can_rename)
                check_config_split(config, plan, to_train=False)
            store = write_store(plan, config.workers)
    class_numbers = _match_classes(store.classes, trained, can_rename)
    _log_assumptions(trained, features)
    data = _make_data(config, trained, dataset, features, store)
    folder = _choose_folder(config, features, store)
    set_output_folder(folder)
    probe = process_group.make_probe(partial(instantiate, config.trainer))
    single = process_group.list_single_settings(probe)
    trainer = instantiate(config.trainer, logger=False, default_root_dir=folder, **single)
    scores = predict_part(trainer, trained, data, data.tested_part, config.fast)
    rows = data.split[data.tested_part]
    labels = class_numbers[store.labels[rows]]
    track_ids = [store.track_ids[row] for row in rows]
    predictions = runs.Predictions(track_ids, labels, scores, trained.classes)
    predictions.write(folder / runs.PREDICTIONS)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    evaluation = {
        **metrics.evaluate(labels, scores, trained.classes),
        "classes": trained.classes,
        "tested_on": data.tested_part,
        "trained_on": _count_seen(trained, store, rows),
        "rejected": store.rejected,
        "noted": store.noted,
        **collect_provenance(),
        "config": plain,
    }
    files.write_json(folder / EVALUATION, evaluation)
    log.info("%s", metrics.format_headline(evaluation))
    print(folder / EVALUATION)


def _load_model(config: DictConfig) -> TrainedModel:
    """Load the checkpoint, or a plain state dict if `classes` is set."""
    features = instantiate(config.features) if "features" in config else Precomputed()
    if config.classes is None and callable(features):
        raise InputError("the features come from the checkpoint: leave out features=...")
    return load_any_checkpoint(
        config.checkpoint, config.classes, config.axis, features, config.trust
    )


def _choose_features(trained: TrainedModel, dataset: Dataset) -> Any:
    """Use the checkpoint's features; rows of a dataset are assumed to be those, or record it.

    Raises:
        InputError: they record that they are others, or there is no audio to compute them from.
    """
    if isinstance(dataset, FeatureDataset):
        is_recorded = check_recorded(dataset, trained.features, RECORDED)
        return trained.features if is_recorded else Precomputed()
    if not trained.takes_audio:
        raise InputError(
            "the checkpoint was trained on precomputed features, which cannot be computed from "
            "audio; evaluate it with data=npz"
        )
    if trained.features.duration != dataset.duration:
        log.info("%g s of each track are used, as in training", trained.features.duration)
    return trained.features


def _match_classes(classes: list[str], trained: TrainedModel, can_rename: bool) -> np.ndarray:
    """Find the checkpoint's number of each class of the data, by name, ignoring case."""
    if classes == [""]:
        raise InputError(NO_GENRES)
    numbers = {name.casefold(): number for number, name in enumerate(trained.classes)}
    if unknown := [name for name in classes if name.casefold() not in numbers]:
        meant = ""
        if can_rename:
            meant = suggest_renaming(unknown, trained.classes)
        raise InputError(
            f"genres that the checkpoint does not know: {', '.join(unknown)} (it knows "
            f"{', '.join(trained.classes)}); " + (meant or "leave them out, e.g. data.genres=[...]")
        )
    return np.array([numbers[name.casefold()] for name in classes])


def _log_assumptions(trained: TrainedModel, features: Any) -> None:
    """Log what cannot be checked."""
    if trained.trained_on is None:
        axis = getattr(trained.net, "axis", "")
        along = f" along {axis} (axis=...)" * bool(axis)
        kind, count = type(trained.net).__name__, count_parameters(trained.net)
        log.info("%s of %d parameters%s; what it was trained on is not known", kind, count, along)
    if trained.takes_audio and not callable(features):
        log.warning("the rows are assumed to be %s as in training", trained.features.name)


def _make_data(
    config: DictConfig, trained: TrainedModel, dataset: Dataset, features: Any, store: Store
) -> StoreDataModule:
    """Make batches of the tracks, and check that they suit the checkpoint."""
    split = split_store(instantiate(config.split), store)
    for note in get_notes(split):
        log.warning("%s", note)
    data = StoreDataModule(store, split, config.batch_size, config.num_workers, features=features)
    bins, frames = data.shape
    if bins != trained.bins:
        hint = "; if this plain state dict was trained on others: features=..."
        raise InputError(
            f"data={dataset.name}: features of {bins} bins, the checkpoint was trained on "
            f"{trained.bins}" + hint * (trained.trained_on is None)
        )
    least = get_min_size(trained.net)
    if frames < least:
        raise InputError(f"data={dataset.name}: {frames} frames, this model needs {least}")
    # The features of a plain state dict are a guess.
    if not callable(features) and trained.trained_on is not None:
        check_values(store, trained.features)
    return data


def _choose_folder(config: DictConfig, features: Any, store: Store) -> Path:
    """Choose the folder of this evaluation, named after the contents of data and checkpoint."""
    data = [identify_features(features), digest_config_split(config, store)]
    model = [digest_checkpoint(config.checkpoint), str(config.classes), config.axis]
    name = f"{store.source.dataset}-{digest_values([data, model])[:DIGITS]}"
    return Path(str(config.outputs)) / "evaluate" / name


def _count_seen(trained: TrainedModel, store: Store, rows: np.ndarray) -> int | None:
    """Count the rows that the checkpoint was trained on; None if that cannot be known."""
    if trained.trained_on is None:
        return None
    seen = trained.trained_on.count(store, rows)
    if seen is None:
        log.warning(
            "not known whether the checkpoint was trained on these tracks: its training rows "
            "cannot be compared with them"
        )
    if seen:
        log.warning("the checkpoint was trained on %d of these %d tracks", seen, len(rows))
    return seen
