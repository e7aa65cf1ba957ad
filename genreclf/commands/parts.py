"""Instantiates the parts of a training run from its config; no other module does."""

from functools import partial
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from genreclf.commands.config_use import check_used
from genreclf.data import Oversampling
from genreclf.training.build import Parts
from genreclf.training.debug import limit_parts
from genreclf.trust import list_targets

SETTINGS = (  # passed on to the parts unchanged
    *("seed", "batch_size", "num_workers", "monitor", "patience", "ema", "label_smoothing"),
    *("mixup", "tracks_per_genre", "fast", "compile", "cuda_graphs", "cache", "test"),
)


def make_parts(config: DictConfig) -> Parts:
    """Make the parts of a run from its config.

    Raises:
        InputError: a setting of a part is out of range.
        hydra.errors.InstantiationException: the same, for a part that Hydra instantiates.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    trainer = {key: value for key, value in plain["trainer"].items() if key != "callbacks"}

    def make_augmentation(silence: tuple[float, ...]) -> nn.Module:
        return instantiate(config.augmentation, silence=silence)

    def make_oversampling(silence: tuple[float, ...]) -> Oversampling:
        copies = instantiate(config.oversampling.augmentation, silence=silence)
        return instantiate(config.oversampling, augmentation=copies)

    def make_metrics(classes: int) -> dict[str, Any]:
        return {
            str(name): instantiate(each, num_classes=classes)
            for name, each in config.metric.items()
        }

    def make_callbacks() -> list[Any]:
        own = [*config.callback.values(), *(config.trainer.get("callbacks") or [])]
        return [instantiate(each) for each in own]

    # One logger; or several, each under a name of its own; or none (logger=none).
    loggers = [config.logger] if "_target_" in config.logger else list(config.logger.values())
    parts = Parts(
        features=instantiate(config.features),
        make_model=partial(instantiate, config.model, _convert_="all"),
        split=instantiate(config.split),
        make_augmentation=make_augmentation,
        make_oversampling=make_oversampling,
        make_sampler=partial(instantiate, config.sampler),
        optimizer=instantiate(config.optimizer),
        scheduler=instantiate(config.scheduler),
        normalise=instantiate(config.normalise),
        make_loss=partial(instantiate, config.loss),
        make_metrics=make_metrics,
        make_callbacks=make_callbacks,
        make_trainer=partial(instantiate, trainer),
        loggers=[partial(instantiate, logger) for logger in loggers],
        distillation=instantiate(config.get("distillation")),
        init=plain["init"]["checkpoint"] if "init" in plain else None,
        allow_identical=config.allow_identical,
        precision=str(plain["trainer"].get("precision", "")),
        progress_bar=plain["trainer"].get("enable_progress_bar") is not False,
        trust=[*plain["trust"], *list_targets([plain["model"], plain["features"]])],
        config=plain,
        **{name: plain[name] for name in SETTINGS},
    )
    check_used(parts.make_model(classes=2))
    return limit_parts(parts, **config.debug) if "debug" in config else parts
