"""Builds what Lightning trains, the data module and the classifier, from the parts of a run."""

from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
import torch

from genreclf.audio.descriptions import describe_features
from genreclf.audio.own_features import get_silence, get_stored
from genreclf.data import splits
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.preview import check_parts, split_store
from genreclf.data.reader import KEPT, StoreReader
from genreclf.data.seen_tracks import SeenTracks
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.models import fused, get_min_size, initialise_lazy
from genreclf.models.checkpoint import find_last_layer
from genreclf.models.own_code import identify_own_code
from genreclf.protocols import Features
from genreclf.training import finetune, turns
from genreclf.training.classifier import Classifier
from genreclf.training.cuda_graphs import GraphClassifier
from genreclf.training.losses import fit_loss
from genreclf.training.parts import Parts
from genreclf.training.sources import digest_sources

RECOMPILATIONS = 1000  # of the same code by torch.compile, after which it runs without


def check_size(least: int, features: Features, shape: tuple[int, int]) -> None:
    """Check that features (bins, frames) are as large as the model needs.

    Raises:
        InputError: they are smaller.
    """
    if min(shape) < least:
        hint = " (to compute features of waveforms in training: features.on_device=true)"
        raise InputError(
            f"features of {shape[0]} x {shape[1]}; this model needs {least} x {least}"
            + hint * (features.name == "waveform")
        )


def load_pretrained(parts: Parts, bins: int | None = None) -> finetune.TrainedModel | None:
    """Load the model whose weights the run fine-tunes; None for random weights.

    Raises:
        InputError: there is no such checkpoint, or its model or features are different.
    """
    return finetune.load_pretrained(
        parts.init,
        parts.make_model,
        parts.config["model"],
        parts.features,
        parts.normalise,
        bins,
        parts.trust,
        parts.frozen,
    )


def make_data(parts: Parts, store: Store) -> StoreDataModule:
    """Make the data module: the split store with its augmentation.

    Raises:
        InputError: there is no training or validation part, or parts that are not rows.
    """
    split = check_parts(split_store(parts.split, store))
    if parts.tracks_per_genre is not None:
        split = splits.limit_tracks(store, split, parts.tracks_per_genre)
    features, distillation = parts.features, parts.distillation
    silence = _find_silence(features, store)
    return StoreDataModule(
        store,
        split,
        parts.batch_size,
        0 if turns.get_member() else parts.num_workers,  # the runs of a pack share what is read
        parts.make_augmentation(silence),
        parts.make_oversampling(silence),
        parts.seed,
        features,
        parts.cache,
        None if distillation is None else distillation.make_targets(store, split),
        parts.make_sampler,
        _make_reader(store),
    )


def _find_silence(features: Any, store: Store) -> tuple[float, ...]:
    """Find the feature values of a silent frame; a store of audio has those of its features."""
    if callable(features) and (get_stored(features) is not features or not any(store.contents)):
        with suppress(InputError):  # the encoder is not here
            return get_silence(features)
    return store.scaling.silence


def _make_reader(store: Store) -> StoreReader:
    """Make a reader of the store: one for all runs of a pack."""
    kept = KEPT if turns.get_member() else 0
    key = ("store", store.path.absolute(), store.source.digest)
    return turns.share(key, lambda: StoreReader(store, kept))


def _check_segments(data: StoreDataModule, least: int) -> None:
    """Check that augmentation leaves enough frames, the same number for the extra copies."""
    clip = torch.zeros(1, *data.shape)
    bins, frames = data.augmentation(clip).shape[1:]
    if min(bins, frames) < least:
        raise InputError(
            f"augmentation: segments of {bins} x {frames}; this model needs {least} x {least}: "
            "increase augmentation.segment"
        )
    copies = data.oversampling.augmentation(clip).shape[2]
    if len(data.copies) and copies != frames:
        raise InputError(
            f"augmentation gives {frames} frames, the augmentation of the extra copies {copies}: "
            "set augmentation@oversampling.augmentation to give as many"
        )


def make_classifier(parts: Parts, data: StoreDataModule) -> Classifier:
    """Make the classifier: the network with its initial weights, and what its checkpoint records.

    Args:
        parts: the parts of the run.
        data: the data to train on; normalisation is fitted to its training part.

    Raises:
        InputError: the pretrained weights do not fit model or features, or the model needs larger
            features or segments.
    """
    store, pretrained = data.store, load_pretrained(parts, data.shape[0])
    source: Any = pretrained or parts.features  # whose features may be those of a trained model
    seen = _find_seen_tracks(source)
    held_out = [] if seen is None else [part for part in data.split if part != "train"]
    description = {
        **describe_parts(parts),
        "bins": data.shape[0],
        "store": store.source.digest,
        "trained_on": (seen or SeenTracks()).add(store, data.split["train"]).list_digests(),
        "seen_before": {part: seen and seen.count(store, data.split[part]) for part in held_out},
        "sources": digest_sources(parts.distillation, parts.init),
    }
    pl.seed_everything(parts.seed, verbose=False)  # for the initial weights
    model = parts.make_model(classes=len(store.classes))
    check_size(get_min_size(model), parts.features, data.shape)
    with torch.random.fork_rng(devices=[]):  # what follows depends on the seed and model alone
        _check_segments(data, get_min_size(model))
    initialise_lazy(model, data.shape)
    clips = data.compute_features(torch.from_numpy(store.read(data.split["train"][:2])))
    if pretrained is not None:
        finetune.copy_weights(model, pretrained, store.classes, clips, parts.frozen)
    description["last_layer"] = find_last_layer(model, len(store.classes), clips)
    if parts.fast:
        model = fused.fuse(model)
    if pretrained is not None:
        finetune.freeze(model, parts.frozen)
    if parts.compile:
        if turns.get_member():  # the networks of a pack differ, but have their code in common
            torch._dynamo.config.recompile_limit = RECOMPILATIONS
            torch._dynamo.config.accumulated_recompile_limit = RECOMPILATIONS
        model.compile()
    batches = data.iterate_training_features()
    normalise = pretrained.normalise if pretrained else parts.normalise(batches)
    make = GraphClassifier if parts.cuda_graphs else Classifier
    classifier = make(
        model,
        store.classes,
        description=description,
        normalise=normalise,
        **list_classifier_settings(parts, len(store.classes)),
    )
    fit_loss(classifier.loss, store.labels[data.split["train"]], len(store.classes))
    return classifier


def _find_seen_tracks(source: Any) -> SeenTracks | None:
    """Return which tracks a trained model has seen; None if `source` is no such model."""
    try:
        return (source.trained_on or SeenTracks({})) if hasattr(source, "trained_on") else None
    except InputError:  # the model is not here
        return SeenTracks({})


def describe_parts(parts: Parts) -> dict[str, Any]:
    """Describe model and features as plain values, from which a checkpoint rebuilds them.

    `code` identifies the user's own code among them, which may change later.
    """
    model, features = parts.config["model"], describe_features(parts.features)
    described = {"model": model, "features": features}
    code = identify_own_code(model, features)
    return {**described, "code": code} if code else described


def list_classifier_settings(parts: Parts, classes: int) -> dict[str, Any]:
    """List the arguments of a Classifier that do not depend on the data."""
    given = parts.distillation
    return {
        "optimizer": parts.optimizer,
        "scheduler": parts.scheduler,
        "loss": parts.make_loss(),
        "metrics": parts.make_metrics(classes),
        "label_smoothing": parts.label_smoothing,
        "mixup": parts.mixup,
        "distillation": given and (given.read_size(), given.weight, given.labels),
    }
