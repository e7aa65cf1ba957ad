"""`genreclf spectrogram`: draw the features of a clip, and what a checkpoint makes of it."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from genreclf.audio.features import Precomputed
from genreclf.errors import InputError
from genreclf.figures import style
from genreclf.figures.spectrogram import draw_clip, log, predict_clip, read_clip
from genreclf.models.checkpoint import Trained
from genreclf.models.import_weights import load_any_checkpoint


def run(config: DictConfig) -> None:
    """The command: write the drawing, print its path."""
    features, trained = instantiate(config.features), None
    if config.checkpoint is not None:
        trained = load_any_checkpoint(config.checkpoint, config.classes, config.axis, features)
        features = trained.features if config.classes else _features_of(trained)
    if isinstance(features, Precomputed):
        raise InputError("precomputed features cannot be made from audio: choose another features=")
    path = Path(str(config.clip))
    default = Path(config.outputs, "figures", f"{path.stem}-{features.name}.svg")
    picture = style.choose_picture_path(config.file, default)
    clip = read_clip(path, features)
    opinion = None if trained is None else predict_clip(trained, clip.values)
    if opinion is not None:
        log.info("%s", ", ".join(f"{genre} {100 * p:.1f} %" for genre, p in opinion.scores.items()))
    style.save_figure(draw_clip(clip, opinion), picture)
    print(picture)


def _features_of(trained: Trained) -> Any:
    """The checkpoint's features; no others may have been asked for."""
    for override in HydraConfig.get().overrides.task:
        if override.startswith(("features", "data.")):
            raise InputError(f"the features come from the checkpoint: leave {override} out")
    if isinstance(trained.features, Precomputed):
        raise InputError(
            "the checkpoint was trained on precomputed features, which cannot be made from audio"
        )
    return trained.features
