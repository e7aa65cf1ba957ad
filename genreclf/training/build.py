"""Builds what Lightning trains, the data module and the classifier, from the parts of a run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from genreclf.audio.descriptions import describe_features
from genreclf.audio.own_features import get_silence
from genreclf.data import splits
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.preview import split_store
from genreclf.data.reader import KEPT, StoreReader
from genreclf.data.sampling import Oversampling
from genreclf.data.seen_tracks import SeenTracks
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.models import fused, get_min_size, initialise_lazy
from genreclf.models.checkpoint import find_last_layer
from genreclf.models.own_code import identify_own_code
from genreclf.protocols import Features, MakeSampler
from genreclf.training import finetune, turns
from genreclf.training.classifier import Classifier
from genreclf.training.cuda_graphs import GraphClassifier
from genreclf.training.distillation import Embeddings
from genreclf.training.losses import fit_loss
from genreclf.training.sources import digest_sources

RECOMPILATIONS = 1000  # of the same code by torch.compile, after which it runs without


@dataclass(frozen=True)
class Parts:
    """The parts of one training run; `genreclf.commands.parts` makes them from a config.

    Attributes:
        features: the input of the network.
        make_model: `make_model(classes=n)` makes a network with random weights.
        split: splits a store into the rows of each part.
        make_augmentation: makes the augmentation, given the values of a silent frame.
        make_oversampling: likewise, for the extra copies of some genres.
        make_sampler: makes the sampler of an epoch's training tracks, given `labels` and `seed`.
        optimizer: makes an optimizer for parameters.
        scheduler: makes Lightning's scheduler config for an optimizer.
        normalise: makes a module that normalises features, given batches of training features.
        make_loss: makes the loss (`genreclf.protocols.Loss`).
        make_metrics: makes the metrics to log, by name, given the number of classes; they take
            log-probabilities (batch, classes) and labels (batch,).
        make_callbacks: makes the user's own Lightning callbacks.
        make_trainer: makes Lightning's Trainer, given further keyword arguments.
        loggers: makes each of Lightning's loggers, given `save_dir`, the run's folder.
        distillation: knowledge distillation; None for none.
        init: checkpoint of the pretrained weights to fine-tune; None for random weights.
        seed: seed of weights, order of tracks, augmentation and dropout.
        batch_size: number of tracks per batch, over all processes.
        num_workers: number of processes that read batches.
        monitor: the metric whose best epoch is kept; "last" keeps the last epoch.
        patience: number of epochs without improvement before training stops.
        ema: decay of the moving average of the weights; None for no average.
        label_smoothing: share of each training target that is spread over all genres.
        mixup: alpha of the Beta distribution of mixup; 0 for none.
        tracks_per_genre: most training tracks per genre, other parts in proportion; None for all.
        fast: whether layers are fused and weights stored channels last.
        compile: whether the network is compiled by torch.compile.
        cuda_graphs: whether training steps run as CUDA graphs.
        cache: where all stored values are kept, one of `genreclf.data.cache.KINDS`.
        allow_identical: track ids that may occur in two parts of the split, or "all".
        test: whether to use the test part; otherwise the validation part replaces it.
        precision: precision of Lightning's Trainer.
        progress_bar: whether training shows a progress bar.
        trust: what a checkpoint may import besides genreclf (`genreclf.trust`).
        config: the resolved config, which result.json and the loggers record.
        frozen: names of the layers that keep their pretrained weights.
    """

    features: Features
    make_model: Callable[..., nn.Module]
    split: Callable[[Store], dict[str, np.ndarray]]
    make_augmentation: Callable[[tuple[float, ...]], nn.Module]
    make_oversampling: Callable[[tuple[float, ...]], Oversampling]
    make_sampler: MakeSampler
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    scheduler: Callable[[Optimizer], dict[str, Any]]
    normalise: Callable[[Iterable[Tensor]], nn.Module]
    make_loss: Callable[[], nn.Module]
    make_metrics: Callable[[int], dict[str, Metric]]
    make_callbacks: Callable[[], list[Callback]]
    make_trainer: Callable[..., pl.Trainer]
    loggers: list[Callable[..., Logger]]
    distillation: Embeddings | None
    init: str | None
    seed: int
    batch_size: int
    num_workers: int
    monitor: str
    patience: int
    ema: float | None
    label_smoothing: float
    mixup: float
    tracks_per_genre: int | None
    fast: bool
    compile: bool
    cuda_graphs: bool
    cache: str
    allow_identical: Any
    test: bool
    precision: str
    progress_bar: bool
    trust: list[str]
    config: dict[str, Any]
    frozen: Sequence[str] = ()


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
    split = split_store(parts.split, store)
    if missing := [part for part in ("train", "val") if part not in split]:
        raise InputError(f"this split has no {' and no '.join(missing)} part to train with")
    if parts.tracks_per_genre is not None:
        split = splits.limit_tracks(store, split, parts.tracks_per_genre)
    features, distillation = parts.features, parts.distillation
    silence = get_silence(features) if callable(features) else store.scaling.silence
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
    inherited = hasattr(source, "trained_on")
    seen = source.trained_on or SeenTracks({}) if inherited else SeenTracks()
    held_out = [part for part in data.split if part != "train"] if inherited else []
    description = {
        **describe_parts(parts),
        "bins": data.shape[0],
        "store": store.source.digest,
        "trained_on": seen.add(store, data.split["train"]).list_digests(),
        "seen_before": {part: seen.count(store, data.split[part]) for part in held_out},
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
