"""Instantiates the parts of a training run from its config; no other module does."""

from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from genreclf.commands.config_use import check_used
from genreclf.commands.instantiation import instantiate
from genreclf.data import Oversampling
from genreclf.errors import InputError
from genreclf.training.debug import limit_parts
from genreclf.training.parts import Parts
from genreclf.trust import list_code

SETTINGS = (  # passed on to the parts unchanged
    *("seed", "batch_size", "num_workers", "monitor", "patience", "ema", "label_smoothing"),
    *("mixup", "tracks_per_genre", "fast", "compile", "cuda_graphs", "cache", "test"),
)


def make_parts(config: DictConfig) -> Parts:
    """Make the parts of a run from its config.

    Raises:
        InputError: a part cannot be made, or is not what its group holds.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    trainer = {key: value for key, value in plain["trainer"].items() if key != "callbacks"}

    def make_augmentation(silence: tuple[float, ...]) -> nn.Module:
        return instantiate(config.augmentation, silence=silence)

    def make_oversampling(silence: tuple[float, ...]) -> Oversampling:
        copies = instantiate(config.oversampling.augmentation, silence=silence)
        return instantiate(config.oversampling, augmentation=copies)

    def make_metrics(classes: int) -> dict[str, Any]:
        metrics = _list_named(config.metric)
        return {name: instantiate(each, num_classes=classes) for name, each in metrics.items()}

    def make_callbacks() -> list[Any]:
        own = [
            *_list_named(config.callback).values(),
            *(config.trainer.get("callbacks") or []),
        ]
        return [instantiate(each) for each in own]

    # One logger; or several, each under a name of its own; or none (logger=none).
    loggers = [config.logger] if "_target_" in config.logger else list(config.logger.values())
    parts = Parts(
        features=instantiate(config.features),
        make_model=partial(instantiate, config.model),
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
        trust=[*plain["trust"], *list_code([plain["model"], plain["features"]])],
        config=plain,
        frozen=plain["init"].get("frozen") or [] if "init" in plain else [],
        **{name: plain[name] for name in SETTINGS},
    )
    check_used(config, parts.make_model(classes=2))
    return limit_parts(parts, **config.debug) if "debug" in config else parts


def _list_named(group: DictConfig) -> dict[str, Any]:
    """List the parts of a group that holds several, each under a name of its own.

    Raises:
        InputError: one of them has no name.
    """
    key = str(group._get_full_key(None))
    parts = {str(name): each for name, each in group.items()}
    if "_target_" in parts:
        raise InputError(
            f"{key}: a {key} needs a name: indent its _target_ and its settings below a line "
            f"NAME: in the option's file, or type '+{key}.NAME={{_target_: {parts['_target_']}}}'"
        )
    for name, each in parts.items():
        if not isinstance(each, DictConfig):
            raise InputError(f"{key}.{name}={each}: a group of settings with _target_ is needed")
    return parts
