"""Leaves out augmentation that presupposes time and frequency, for features without both."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genreclf.errors import InputError

FOR_SPECTROGRAMS = ("genreclf.training.NoiseShiftMask", "genreclf.training.SegmentEqualiseMask")
NONE = {"_target_": "torch.nn.Identity"}
COPIES = "oversampling.augmentation"


def drop_augmentation(config: DictConfig, features: Any, shape: tuple[int, int]) -> list[str]:
    """Replace augmentation of ours by none if features are a single frame, such as an embedding.

    Frames cannot be shifted then, and neighbouring bins, unless they are frequencies, have nothing
    in common. The user's own augmentation stays.

    Args:
        config: the config of a run, which is changed.
        features: the run's features.
        shape: (bins, frames) of each clip.

    Returns:
        The keys of the augmentation that was replaced.
    """
    if shape[1] > 1 or getattr(features, "bin_axis", None) == "frequency":
        return []
    copied = config.oversampling.genres and config.oversampling.get("copies")
    dropped = [
        key
        for key in ("augmentation", *([COPIES] if copied else []))
        if OmegaConf.select(config, f"{key}._target_") in FOR_SPECTROGRAMS
    ]
    for key in dropped:
        OmegaConf.update(config, key, NONE, merge=False)
    return dropped


def refuse_dropped(keys: list[str], features: Any) -> None:
    """Refuse augmentation that the user asked for and that `drop_augmentation` has left out.

    In a sweep, which may have other features as well, it is just left out.

    Raises:
        InputError: names the overrides.
    """
    hydra_config = HydraConfig.get()
    from genreclf.evaluation.runs import get_key  # imports NumPy

    prefixes = [prefix for key in keys for prefix in (key, f"augmentation@{key}")]
    typed = [
        text
        for text in hydra_config.overrides.task
        if any(f"{get_key(text)}.".startswith(f"{prefix}.") for prefix in prefixes)
    ]
    if typed and hydra_config.mode != RunMode.MULTIRUN:
        raise InputError(
            f"features={features.name} are a single frame without frequencies, which "
            f"{' '.join(typed)} is not made for; leave that out"
        )
