"""From a config to the parts of a run: split, batches, net, optimizer; all checked beforehand."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from genreclf.audio.features import Features, Precomputed, Waveform, describe_features
from genreclf.data import splits
from genreclf.data.datamodule import StoreDataModule, check_loading
from genreclf.data.sampling import Oversampling
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.models import fused
from genreclf.models.checkpoint import digest_checkpoint
from genreclf.training import finetune
from genreclf.training.callbacks import History, make_callbacks
from genreclf.training.classifier import Classifier
from genreclf.training.distillation import Embeddings


def check_settings(config: DictConfig) -> None:
    """Notice what is wrong before hours of decoding, not after."""
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed={config.seed}: from 0 to {2**32 - 1} is needed")
    check_loading(config.batch_size, config.num_workers, config.cache)
    make_callbacks(Path(), config.monitor, config.patience, History(config.seed), config.ema)
    net = instantiate(config.model, classes=2)
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    smoothing, mixup = config.label_smoothing, config.mixup
    distillation = instantiate(config.get("distillation"))
    teaching = _teaching(distillation)
    if distillation:
        distillation.check_place(Path(config.outputs, "train", "run"))
    two = ["a", "b"]
    checked = Classifier(
        net, two, optimizer, scheduler, None, None, smoothing, mixup, teaching=teaching
    )
    if any(True for _ in net.parameters()):
        checked.configure_optimizers()
    digest_sources(config)
    finetune.load_pretrained(config, OmegaConf.to_container(config, resolve=True))  # pyright: ignore
    _make_augmentations(config, silence=(0.0,))
    features = instantiate(config.features)
    if not isinstance(features, Precomputed):
        _check_size(net.min_size, features, features.shape)
    precision = str(config.trainer.get("precision", ""))
    if features.stored != features and precision.endswith("-true") and precision != "32-true":
        raise InputError(
            f"features.on_device=true with trainer.precision={precision}, which would round the "
            "waveforms; use bf16-mixed or 16-mixed"
        )


def _check_size(least: int, features: Features, shape: tuple[int, int]) -> None:
    if min(shape) < least:
        hint = " (to compute features of waveforms in training: features.on_device=true)"
        raise InputError(
            f"features of {shape[0]} x {shape[1]}; this model needs {least} x {least}"
            + hint * isinstance(features, Waveform)
        )


def check_genres(genres: list[str], where: str) -> None:
    """Refuse what is no task: one genre, or two that are told apart by case alone."""
    if len(genres) < 2:
        raise InputError(f"one genre only ({genres[0]}) in the {where}; two are needed")
    if len({name.casefold() for name in genres}) < len(genres):
        raise InputError(f"genres that differ in case alone: {', '.join(genres)}; rename one")


def make_data(config: DictConfig, store: Store) -> StoreDataModule:
    """The split store with its augmentation.

    Raises:
        InputError: no training or no validation part, or features too small for the model.
    """
    split = instantiate(config.split)(store)
    if missing := [part for part in ("train", "val") if part not in split]:
        raise InputError(f"this split has no {' and no '.join(missing)} part to train with")
    if config.tracks_per_genre is not None:
        split = splits.limit_training_tracks(store, split, config.tracks_per_genre)
    features = instantiate(config.features)
    computed = not isinstance(features, Precomputed)
    silence = features.silence if computed else store.scaling.silence
    augmentation, oversampling = _make_augmentations(config, silence)
    distillation = instantiate(config.get("distillation"))
    targets = distillation and distillation.targets(store, split)
    data = StoreDataModule(
        store,
        split,
        config.batch_size,
        config.num_workers,
        augmentation,
        oversampling,
        config.seed,
        features,
        config.cache,
        targets,
    )
    least: int = instantiate(config.model, classes=2).min_size
    _check_size(least, features, data.shape)
    _check_segments(data, least)
    return data


def _check_segments(data: StoreDataModule, least: int) -> None:
    """Refuse augmentation that leaves too few frames, or other numbers of them than the copies'."""
    clip = torch.zeros(1, *data.shape)
    bins, frames = data.augmentation(clip).shape[1:]
    if min(bins, frames) < least:
        raise InputError(
            f"augmentation: segments of {bins} x {frames}; this model needs {least} x {least}: set "
            "a greater augmentation.segment"
        )
    copies = data.oversampling.augmentation(clip).shape[2]
    if len(data.copies) and copies != frames:
        raise InputError(
            f"augmentation gives {frames} frames, that of the extra copies {copies}: choose "
            "augmentation@oversampling.augmentation accordingly"
        )


def _make_augmentations(
    config: DictConfig, silence: tuple[float, ...]
) -> tuple[nn.Module, Oversampling]:
    """Of all training tracks, and of the extra copies of some genres."""
    copies = instantiate(config.oversampling.augmentation, silence=silence)
    return (
        instantiate(config.augmentation, silence=silence),
        instantiate(config.oversampling, augmentation=copies),
    )


def make_classifier(config: DictConfig, plain: dict[str, Any], data: StoreDataModule) -> Classifier:
    """The net with fresh weights, its optimizer, and what its checkpoint will say of it.

    Args:
        config: of the run.
        plain: the same, resolved.
        data: what it will be trained on; normalisation is fitted to its training part.
    """
    store, begun = data.store, finetune.load_pretrained(config, plain, data.shape[0])
    description = {
        "model": plain["model"],
        "features": describe_features(instantiate(config.features)),
        "bins": data.shape[0],
        "store": store.source.digest,
        "trained_on": finetune.list_training_rows(store, data.split, begun),
        "seen_before": finetune.count_seen(store, data.split, begun) if begun else {},
        "sources": digest_sources(config),
    }
    pl.seed_everything(config.seed, verbose=False)  # of the net's first weights
    net = instantiate(config.model, classes=len(store.classes))
    if begun is not None:
        finetune.copy_weights(net, begun, store.classes)
    if config.fast:
        net = fused.fuse(net)
    if config.compile:
        net.compile()
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    normalise = (
        begun.normalise
        if begun
        else instantiate(config.normalise)(data.iterate_training_features())
    )
    return Classifier(
        net,
        store.classes,
        optimizer,
        scheduler,
        description,
        normalise,
        config.label_smoothing,
        config.mixup,
        teaching=_teaching(instantiate(config.get("distillation"))),
    )


def _teaching(distillation: Embeddings | None) -> tuple[int, float, float] | None:
    return distillation and (distillation.size(), distillation.weight, distillation.labels)


def digest_sources(config: DictConfig) -> dict[str, str]:
    """Digests of the files beside the data that a run is made from: of a distillation, of weights.

    Raises:
        InputError: they are not there.
    """
    found = {}
    if distillation := instantiate(config.get("distillation")):
        found["distillation"] = distillation.digest()
    if "init" in config:
        found["init"] = digest_checkpoint(config.init.checkpoint)
    return found
