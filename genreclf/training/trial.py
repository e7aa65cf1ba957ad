"""Tries the parts of a run on a tiny batch: training, a checkpoint, and the model read back."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from genreclf.audio.descriptions import describe_features
from genreclf.audio.on_device import build_batch_features
from genreclf.audio.own_features import compute_noise_features
from genreclf.data.store import Store
from genreclf.errors import InputError, describe_failure, find_own_line
from genreclf.models import fused, get_min_size, has_no_epochs
from genreclf.models.checkpoint import find_last_layer, load_checkpoint
from genreclf.protocols import Features
from genreclf.training import memory, process_group
from genreclf.training.build import (
    check_size,
    describe_parts,
    list_classifier_settings,
    load_pretrained,
)
from genreclf.training.checkpoint_files import check_plain
from genreclf.training.classifier import Classifier
from genreclf.training.finetune import find_new_layer
from genreclf.training.losses import fit_loss
from genreclf.training.parts import Parts

TINY_BATCH = 2  # clips


def make_clips(features: Features) -> Tensor:
    """Make features (clips, bins, frames) of noise, to try the parts on before anything is decoded.

    Raises:
        InputError: features of your own are not what they declare.
    """
    return torch.from_numpy(compute_noise_features(features, TINY_BATCH))


def read_clips(features: Features, store: Store) -> Tensor:
    """Read features (clips, bins, frames) of the first track of two genres of a store."""
    _, rows = np.unique(store.labels, return_index=True)
    stored = torch.from_numpy(store.read_features(rows[:TINY_BATCH]))
    return build_batch_features(features)(stored)


def try_parts(parts: Parts, classes: Sequence[str], clips: Tensor) -> None:
    """Train on a tiny batch, write a checkpoint, and read it back.

    Args:
        parts: the parts of the run.
        classes: names of the genres.
        clips: features (clips, bins, frames).

    Raises:
        InputError: a part fails, the model's logits have another shape than (batch, classes), or
            the model that the checkpoint gives back computes something else.
        OutOfMemoryError: there is not enough memory for this.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the tiny batch
        pretrained = load_pretrained(parts, clips.shape[1])
        try:
            normalise = pretrained.normalise if pretrained else parts.normalise(iter([clips]))
            if pretrained:  # first, because it is quick
                find_new_layer(pretrained, list(classes), clips, parts.frozen)
            _try_training(parts, list(classes), clips, normalise)
        except InputError:
            raise
        except Exception as error:
            if memory.is_exhausted(error):
                raise memory.make_error(parts.batch_size) from error
            what = f"a tiny batch of features {tuple(clips.shape)} fails{find_own_line(error)}"
            raise InputError(describe_failure(what, error)) from error


def _try_training(parts: Parts, classes: list[str], clips: Tensor, normalise: nn.Module) -> None:
    model = parts.make_model(classes=len(classes))
    if has_no_epochs(model):  # it may need more than two clips
        return
    check_size(get_min_size(model), parts.features, (clips.shape[1], clips.shape[2]))
    for batch in (clips, clips[:1]):
        _check_logits(model.eval()(normalise(batch)), len(batch), len(classes))
    find_last_layer(model, len(classes), normalise(clips))  # if it names one, is it that?
    if parts.fast:
        model = fused.fuse(model)
    processes = process_group.count_processes(process_group.make_probe(parts.make_trainer))
    trained = clips[: max(1, parts.batch_size // processes)]
    settings = list_classifier_settings(parts, len(classes))
    classifier = Classifier(
        model.train(),
        classes,
        description={**describe_parts(parts), "bins": clips.shape[1], "trained_on": {}},
        normalise=normalise,
        **settings,
    )
    labels = torch.arange(len(trained)) % len(classes)
    fit_loss(classifier.loss, labels.numpy(), len(classes))
    targets = _make_targets(settings["distillation"], len(labels), len(classes))
    batch = (parts.make_augmentation((0.0,))(trained), labels, *targets)
    with tempfile.TemporaryDirectory() as folder:
        path = _train_tiny(parts, classifier, batch, Path(folder))
        _check_checkpoint(parts, classifier, clips, path)
    for callback in parts.make_callbacks():
        try:
            state = callback.state_dict()
        except Exception:  # it may need what its hooks set
            continue
        check_plain(f"callback {callback.state_key}", state)


def _make_targets(
    distillation: tuple[int, float, float] | None, count: int, classes: int
) -> list[Tensor]:
    """Make targets of knowledge distillation for the tiny batch, if there is any."""
    if distillation is None:
        return []
    size, _, labels = distillation
    soft = torch.full((count, classes), 1 / classes)
    return [torch.cat([torch.zeros(count, size), soft[:, : classes if labels else 0]], dim=1)]


def _check_logits(logits: Any, count: int, classes: int) -> None:
    if not isinstance(logits, Tensor) or logits.shape != (count, classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"model: its output for {count} clips is {got}; logits ({count}, {classes}), one per "
            "genre, are needed"
        )
    if logits.isnan().any():
        raise InputError(
            f"model: its logits for {count} clips are not numbers (NaN): does it suit the range of "
            "the features? normalise=... changes it"
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
    with process_group.heed_ctrl_c():
        trainer.fit(classifier, train, val)
    check_plain("model, loss or metric", classifier.state_dict())
    for optimizer in trainer.optimizers:
        check_plain("optimizer", optimizer.state_dict())
    for each in trainer.lr_scheduler_configs:
        check_plain("scheduler", each.scheduler.state_dict())
    path = folder / "tiny.ckpt"
    trainer.save_checkpoint(path)
    return path


def _check_checkpoint(parts: Parts, classifier: Classifier, clips: Tensor, path: Path) -> None:
    trained = load_checkpoint(path, parts.trust)
    if describe_features(trained.features) != describe_features(parts.features):
        raise InputError("features: the checkpoint gives back features with other settings")
    classifier.cpu().float().eval()  # as the rebuilt model, whatever the precision of training
    with torch.inference_mode():
        before = classifier(clips).float()
        after = trained.net(trained.normalise(clips)).float()
    atol = 1e-4 * max(1.0, float(before.abs().max()))
    if not torch.allclose(before, after, rtol=1e-3, atol=atol, equal_nan=True):
        raise InputError(
            "model: rebuilt from its checkpoint, it computes something else; parameters and "
            "buffers must be all that its outputs depend on, and normalise must be one of genreclf"
        )
