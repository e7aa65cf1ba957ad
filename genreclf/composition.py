"""From a config to the parts of a run: split, batches, net, optimizer; all checked beforehand."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from genreclf import fused, initial, splits
from genreclf.callbacks import History, callbacks
from genreclf.checkpoint import digest
from genreclf.classifier import Classifier
from genreclf.datamodule import StoreDataModule, check_loading
from genreclf.errors import InputError
from genreclf.features import Features, Precomputed, Waveform, settings
from genreclf.sampling import Oversampling
from genreclf.store import Store
from genreclf.teacher import Embeddings


def check_settings(config: DictConfig, folder: Path) -> None:
    """Notice what is wrong before hours of decoding, not after."""
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed={config.seed}: from 0 to {2**32 - 1} is needed")
    check_loading(config.batch_size, config.num_workers, config.cache)
    callbacks(folder, config.monitor, config.patience, History(config.seed), config.ema)
    net = instantiate(config.model, classes=2)
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    smoothing, mixup = config.label_smoothing, config.mixup
    teacher = instantiate(config.get("teacher"))
    teaching = _teaching(teacher)
    if teacher:
        teacher.check_place(folder)
    two = ["a", "b"]
    checked = Classifier(
        net, two, optimizer, scheduler, None, None, smoothing, mixup, teaching=teaching
    )
    if any(True for _ in net.parameters()):
        checked.configure_optimizers()
    sources(config)
    initial.begun_with(config, OmegaConf.to_container(config, resolve=True))  # pyright: ignore
    _augmentations(config, silence=(0.0,))
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
        split = splits.reduced(store, split, config.tracks_per_genre)
    features = instantiate(config.features)
    computed = not isinstance(features, Precomputed)
    silence = features.silence if computed else store.scaling.silence
    augmentation, oversampling = _augmentations(config, silence)
    teacher = instantiate(config.get("teacher"))
    targets = teacher and teacher.targets(store, split)
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


def _augmentations(
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
    store, begun = data.store, initial.begun_with(config, plain, data.shape[0])
    description = {
        "model": plain["model"],
        "features": settings(instantiate(config.features)),
        "bins": data.shape[0],
        "store": store.source.digest,
        "trained_on": initial.trained_on(store, data.split, begun),
        "seen_before": initial.seen_before(store, data.split, begun) if begun else {},
        "sources": sources(config),
    }
    pl.seed_everything(config.seed, verbose=False)  # of the net's first weights
    net = instantiate(config.model, classes=len(store.classes))
    if begun is not None:
        initial.take_over(net, begun, store.classes)
    if config.fast:
        net = fused.fuse(net)
    if config.compile:
        net.compile()
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    normalise = begun.normalise if begun else instantiate(config.normalise)(data.training_batches())
    return Classifier(
        net,
        store.classes,
        optimizer,
        scheduler,
        description,
        normalise,
        config.label_smoothing,
        config.mixup,
        teaching=_teaching(instantiate(config.get("teacher"))),
    )


def _teaching(teacher: Embeddings | None) -> tuple[int, float, float] | None:
    return teacher and (teacher.size(), teacher.weight, teacher.labels)


def sources(config: DictConfig) -> dict[str, str]:
    """Digests of the files beside the data that a run is made from: of a teacher, of weights.

    Raises:
        InputError: they are not there.
    """
    found = {}
    if teacher := instantiate(config.get("teacher")):
        found["teacher"] = teacher.digest()
    if "init" in config:
        found["init"] = digest(config.init.checkpoint)
    return found
