"""Checks the settings of a run's parts before anything slow happens; `trial` tries the parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from genreclf.audio.own_features import get_stored
from genreclf.data.datamodule import check_loading
from genreclf.data.datasets.track import NO_GENRES
from genreclf.data.sampling import ProcessSampler
from genreclf.errors import InputError
from genreclf.evaluation.metrics import LAST_EPOCH, check_metric, evaluate
from genreclf.models import get_min_size, has_no_epochs
from genreclf.training import process_group
from genreclf.training.augmentation import check_augmentation
from genreclf.training.build import check_size, list_classifier_settings, load_pretrained
from genreclf.training.callbacks import History, check_monitors, make_callbacks
from genreclf.training.classifier import Classifier
from genreclf.training.loggers import check_loggers
from genreclf.training.metrics import check_numbers
from genreclf.training.parts import Parts
from genreclf.training.sources import digest_sources

STANDARD = {"accuracy", "f1_macro"}  # metrics that every result has
GENRES = 10  # of the metrics that are tried: more than the number in top_k


def check_settings(parts: Parts, shape: tuple[int, int] | None = None) -> None:
    """Build every part once, so that a wrong setting is found before hours of decoding.

    Args:
        parts: the parts of a run.
        shape: (bins, frames) of the rows of its store, if that exists.

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
    _check_standard_metrics(parts.make_metrics)
    if has_no_epochs(model):
        if not callable(getattr(model, "fit", None)):
            raise InputError("model: with without_epochs = True, a method fit is needed")
        if parts.monitor.startswith("train/"):
            raise InputError(
                f"monitor={parts.monitor}: a model without epochs logs nothing in training; choose "
                "a metric of validation, such as val/accuracy"
            )
    check_augmentation(parts.make_augmentation((0.0,)), parts.features)
    oversampling = parts.make_oversampling((0.0,))
    if oversampling.genres and oversampling.copies:
        key = "oversampling.augmentation"
        check_augmentation(oversampling.augmentation, parts.features, key)
    list(ProcessSampler(parts.make_sampler, np.arange(12) % 2, parts.seed))
    if callable(parts.features):
        known = shape if get_stored(parts.features) is parts.features else None
        check_size(get_min_size(model), parts.features, known or parts.features.shape)
    rounds = parts.precision.endswith("-true") and parts.precision != "32-true"
    if get_stored(parts.features) is not parts.features and rounds:
        raise InputError(
            f"features.on_device=true with trainer.precision={parts.precision} would round the "
            "waveforms; use bf16-mixed or 16-mixed"
        )


def _check_standard_metrics(make_metrics: Callable[[int], dict[str, Metric]]) -> None:
    """Check that accuracy and f1_macro mean what results, studies and reports mean by them."""
    random, classes = np.random.default_rng(0), 5
    labels = random.integers(0, classes - 1, 40)  # one genre has no tracks
    scores = random.dirichlet(np.ones(classes), 40)
    evaluated = evaluate(labels, scores, [*"abcde"])
    logs, metrics = torch.from_numpy(scores).float().log(), make_metrics(classes)
    for name in sorted(STANDARD & metrics.keys()):
        try:
            value = float(metrics[name](logs, torch.from_numpy(labels)))
        except Exception:  # such as a value for each genre
            value = float("nan")
        if not abs(value - evaluated[name]) < 1e-5:
            raise InputError(
                f"metric.{name}: results and studies need the usual definition under this name; "
                f"give yours another, such as +metric.own_{name}=..., and leave this one as it is"
            )


def check_genres(genres: list[str], where: str) -> None:
    """Check that there is something to classify.

    Raises:
        InputError: there are no genres, there is only one, or two differ only in upper and lower
            case.
    """
    if genres == [""]:
        raise InputError(NO_GENRES)
    if len(genres) < 2:
        raise InputError(f"one genre only ({genres[0]}) in the {where}; two are needed")
    if len({name.casefold() for name in genres}) < len(genres):
        raise InputError(f"genres that differ in case alone: {', '.join(genres)}; rename one")
