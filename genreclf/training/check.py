"""Checks the parts of a run before anything slow happens: settings, shapes, checkpoint."""

import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from genreclf.audio.descriptions import describe_features
from genreclf.audio.own_features import get_stored
from genreclf.data.datamodule import check_loading
from genreclf.data.sampling import ProcessSampler
from genreclf.errors import InputError
from genreclf.evaluation.metrics import LAST_EPOCH, check_metric
from genreclf.models import get_min_size
from genreclf.models.checkpoint import find_last_layer, load_checkpoint
from genreclf.training import process_group
from genreclf.training.augmentation import check_augmentation
from genreclf.training.build import (
    Parts,
    check_size,
    describe_parts,
    list_classifier_settings,
    load_pretrained,
)
from genreclf.training.callbacks import History, check_monitors, make_callbacks
from genreclf.training.classifier import Classifier
from genreclf.training.loggers import check_loggers
from genreclf.training.losses import fit_loss
from genreclf.training.metrics import check_numbers
from genreclf.training.sources import digest_sources

TINY_BATCH = 2  # clips
GENRES = 10  # of the metrics that are tried: more than the number in top_k


def check_settings(parts: Parts) -> None:
    """Build every part once, so that a wrong setting is found before hours of decoding.

    Raises:
        InputError: a setting is out of range, or two parts do not fit together.
    """
    if not 0 <= parts.seed < 2**32:
        raise InputError(f"seed={parts.seed}: choose a number from 0 to {2**32 - 1}")
    check_loggers(parts.loggers, Path(parts.config["outputs"], "train", "run"))
    check_loading(parts.batch_size, parts.num_workers, parts.cache, parts.features)
    process_group.check_processes(process_group.make_probe(parts.make_trainer), parts.batch_size)
    make_callbacks(Path(), parts.monitor, parts.patience, History(parts.seed), parts.ema)
    callbacks = parts.make_callbacks()
    model = parts.make_model(classes=2)
    classifier = Classifier(model, ["a", "b"], **list_classifier_settings(parts, GENRES))
    logged: Any = dict(classifier.val_metrics.items(keep_base=True))
    check_numbers(parts.make_metrics(GENRES), GENRES)
    extra = [] if parts.distillation is None else ["distillation_error"]
    check_monitors(callbacks, [*logged, *extra])
    if parts.monitor != LAST_EPOCH:
        check_metric("monitor", parts.monitor, logged)
    if any(True for _ in model.parameters()):
        scheduler = classifier.configure_optimizers()["lr_scheduler"]
        if isinstance(scheduler, dict) and "monitor" in scheduler:
            check_metric("scheduler.monitor", scheduler["monitor"], logged)
    if parts.distillation is not None:
        parts.distillation.check_folder(Path(parts.config["outputs"], "train", "run"))
    digest_sources(parts.distillation, parts.init)
    load_pretrained(parts)
    check_augmentation(parts.make_augmentation((0.0,)), parts.features)
    oversampling = parts.make_oversampling((0.0,))
    if oversampling.genres and oversampling.copies:
        key = "oversampling.augmentation"
        check_augmentation(oversampling.augmentation, parts.features, key)
    list(ProcessSampler(parts.make_sampler, np.arange(12) % 2, parts.seed))
    if callable(parts.features):
        check_size(get_min_size(model), parts.features, parts.features.shape)
    rounds = parts.precision.endswith("-true") and parts.precision != "32-true"
    if get_stored(parts.features) is not parts.features and rounds:
        raise InputError(
            f"features.on_device=true with trainer.precision={parts.precision} would round the "
            "waveforms; use bf16-mixed or 16-mixed"
        )


def check_genres(genres: list[str], where: str) -> None:
    """Check that there is something to classify.

    Raises:
        InputError: there is only one genre, or two genres differ only in upper and lower case.
    """
    if len(genres) < 2:
        raise InputError(f"one genre only ({genres[0]}) in the {where}; two are needed")
    if len({name.casefold() for name in genres}) < len(genres):
        raise InputError(f"genres that differ in case alone: {', '.join(genres)}; rename one")


def try_parts(parts: Parts, classes: Sequence[str], shape: tuple[int, int]) -> None:
    """Train on a tiny batch of noise, write a checkpoint, and read it back.

    Args:
        parts: the parts of the run.
        classes: names of the genres.
        shape: (bins, frames) of the features.

    Raises:
        InputError: a part fails, the model's logits have another shape than (batch, classes), or
            the model that the checkpoint gives back computes something else.
    """
    clips = torch.randn(TINY_BATCH, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(TINY_BATCH) % len(classes)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the tiny batch
        pretrained = load_pretrained(parts, shape[0])
        try:
            model = parts.make_model(classes=len(classes))
            augmented = parts.make_augmentation((0.0,))(clips)
            normalise = pretrained.normalise if pretrained else parts.normalise(iter([clips]))
            if hasattr(model, "fit"):  # it is fitted to all tracks together, without epochs
                return
            _check_logits(model.eval()(normalise(clips)), len(classes))
            find_last_layer(model, len(classes), normalise(clips))  # if it names one, is it that?
            settings = list_classifier_settings(parts, len(classes))
            classifier = Classifier(
                model.train(),
                list(classes),
                description={**describe_parts(parts), "bins": shape[0], "trained_on": {}},
                normalise=normalise,
                **settings,
            )
            fit_loss(classifier.loss, labels.numpy(), len(classes))
            batch = (augmented, labels, *_make_targets(settings["distillation"], len(classes)))
            with tempfile.TemporaryDirectory() as folder:
                path = _train_tiny(parts, classifier, batch, Path(folder))
                _check_checkpoint(parts, classifier, clips, path)
        except InputError:
            raise
        except Exception as error:
            where = _find_own_line(error)
            text = " ".join(str(error).split())
            raise InputError(
                f"a tiny batch of features {tuple(clips.shape)} fails{where}: "
                f"{type(error).__name__}: {text}"
            ) from error


def _make_targets(distillation: tuple[int, float, float] | None, classes: int) -> list[Tensor]:
    """Make targets of knowledge distillation for the tiny batch, if there is any."""
    if distillation is None:
        return []
    size, _, labels = distillation
    soft = torch.full((TINY_BATCH, classes), 1 / classes)
    return [torch.cat([torch.zeros(TINY_BATCH, size), soft[:, : classes if labels else 0]], dim=1)]


def _check_logits(logits: Any, classes: int) -> None:
    if not isinstance(logits, Tensor) or logits.shape != (TINY_BATCH, classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"model: its output for {TINY_BATCH} clips is {got}; logits ({TINY_BATCH}, {classes}), "
            "one per genre, are needed"
        )


def _train_tiny(parts: Parts, classifier: Classifier, batch: Any, folder: Path) -> Path:
    """Train on one batch and validate on it; return the path of a checkpoint."""
    probe = process_group.make_probe(parts.make_trainer)
    settings = {"max_epochs": 1, "max_steps": -1, "fast_dev_run": False, "overfit_batches": 0}
    shown = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = parts.make_trainer(
        **process_group.list_single_settings(probe),
        **settings,
        **shown,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        profiler=None,
        default_root_dir=folder,
    )
    train, val = (DataLoader([each], batch_size=None) for each in (batch, batch[:2]))  # pyright: ignore
    trainer.fit(classifier, train, val)
    path = folder / "tiny.ckpt"
    trainer.save_checkpoint(path)
    return path


def _check_checkpoint(parts: Parts, classifier: Classifier, clips: Tensor, path: Path) -> None:
    trained = load_checkpoint(path, parts.trust)
    if describe_features(trained.features) != describe_features(parts.features):
        raise InputError("features: the checkpoint gives back features with other settings")
    classifier.cpu().eval()
    with torch.inference_mode():
        before = classifier(clips).float()
        after = trained.net(trained.normalise(clips)).float()
    if not torch.allclose(before, after, rtol=1e-3, atol=1e-4):
        raise InputError(
            "model: rebuilt from its checkpoint, it computes something else; parameters and "
            "buffers must be all that its outputs depend on, and normalise must be one of genreclf"
        )


def _find_own_line(error: Exception) -> str:
    """Find the last line of the user's own code in an error's traceback, such as net.py, line 8."""
    libraries = ("site-packages", "dist-packages", str(Path(__file__).parents[1]), "/lib/python")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in libraries):
            return f" in {Path(frame.filename).name}, line {frame.lineno}"
    return ""
