"""`genreclf spectrogram`: draw the features of a clip, and what a checkpoint predicts for it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf.commands.config_use import check_used_to_load
from genreclf.commands.instantiation import instantiate
from genreclf.errors import InputError
from genreclf.figures import style
from genreclf.figures.spectrogram import ClipPrediction, draw_clip, read_clip
from genreclf.models.checkpoint import TrainedModel
from genreclf.models.import_weights import load_any_checkpoint
from genreclf.paths import name_sibling

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Run the command: write the drawing and print its path."""
    check_used_to_load(config)
    features, trained = instantiate(config.features), None
    if config.checkpoint is not None:
        trained = load_any_checkpoint(
            config.checkpoint, config.classes, config.axis, features, config.trust
        )
        features = trained.features if config.classes else _choose_features(trained)
    path = Path(str(config.clip))
    default = Path(config.outputs, "figures", path.stem)
    default = name_sibling(default, f"-{features.name}.svg")
    if not callable(features):
        raise InputError("precomputed features cannot be made from audio: choose another features=")
    picture = style.choose_picture_path(config.file, default)
    clip = read_clip(path, features)
    prediction = None if trained is None else _predict(trained, clip.values)
    if prediction is not None:
        shares = (f"{genre} {100 * share:.1f} %" for genre, share in prediction.scores.items())
        log.info("%s", ", ".join(shares))
    style.save_figure(draw_clip(clip, prediction), picture)
    print(picture)


def _choose_features(trained: TrainedModel) -> Any:
    """Return the checkpoint's features; the command line must not ask for others."""
    for override in HydraConfig.get().overrides.task:
        if override.startswith(("features", "data.")):
            raise InputError(f"the features come from the checkpoint: leave {override} out")
    if not callable(trained.features):
        raise InputError(
            "the checkpoint was trained on precomputed features, which cannot be made from audio"
        )
    return trained.features


def _predict(trained: TrainedModel, values: np.ndarray) -> ClipPrediction:
    """Predict the genre from features (bins, frames), with attention where the model has it."""
    net: Any = trained.net
    with torch.no_grad():
        batch = trained.normalise(torch.from_numpy(values)[None])
        scores = net(batch)[0].softmax(dim=0).numpy()
        ranked = {trained.classes[n]: float(scores[n]) for n in np.argsort(-scores, kind="stable")}
        if not hasattr(net, "compute_attention"):
            return ClipPrediction(ranked)
        return ClipPrediction(ranked, net.axis, net.compute_attention(batch)[0].numpy())
