"""Checks that what the user typed has an effect.

Only overrides count, never what an experiment, a phase or another option contains. In a sweep and
in a study, other runs may use them: there, overrides without an effect are only reported.
"""

import logging
from functools import cache
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch import nn

from genreclf.commands.config_keys import list_interpolated_keys
from genreclf.errors import InputError
from genreclf.evaluation.metrics import LAST_EPOCH
from genreclf.evaluation.runs import get_key
from genreclf.models import has_no_epochs

log = logging.getLogger(__name__)

USED_WITHOUT_EPOCHS = (  # keys and groups that a model without epochs makes use of
    *("data", "features", "split", "split_seed", "normalise", "model", "tracks_per_genre", "seed"),
    *("allow_identical", "store", "outputs", "workers", "num_workers", "batch_size", "cache"),
    *("fast", "trainer", "logger", "metric", "report", "test", "trust"),
    *("experiment", "phase", "debug", "hydra"),
)
USED_TO_PREDICT = (  # flags of the Trainer that count where nothing is trained in epochs
    *("accelerator", "devices", "deterministic", "enable_progress_bar", "inference_mode"),
    "precision",
)
FOR_EPOCHS = (  # options of groups that otherwise count
    *("trainer=ddp", "debug=overfit", "debug=profile"),
)


def check_used(config: DictConfig, model: nn.Module) -> None:
    """Refuse overrides that have no effect on a training run.

    Args:
        config: the config of the run.
        model: its model; one without epochs, such as the SVM, uses few settings.

    Raises:
        InputError: names the overrides.
    """
    typed = _list_typed()
    unused = []
    if has_no_epochs(model):
        unused = [key for key, text in typed.items() if not _is_used_without_epochs(key, text)]
        chosen = HydraConfig.get().runtime.choices["model"]
        _refuse(f"model={chosen}", [typed.pop(key) for key in unused])
    _check_settings(config, typed)


def check_used_to_evaluate(config: DictConfig) -> None:
    """Refuse overrides that have no effect on `genreclf evaluate`.

    Raises:
        InputError: names the overrides.
    """
    typed = _list_typed()
    unused = [key for key, text in typed.items() if not _is_used_to_predict(key, text)]
    _refuse("genreclf evaluate", [typed.pop(key) for key in unused])
    _check_settings(config, typed)


def check_used_to_load(config: DictConfig) -> None:
    """Refuse `classes=...` and `axis=...` if they have no effect on how a checkpoint is read.

    Raises:
        InputError: names the overrides.
    """
    typed = _list_typed()
    if config.checkpoint is None:
        given = [typed[key] for key in ("classes", "axis") if key in typed]
        _refuse("checkpoint=null", given, "name a checkpoint")
    elif config.classes is None and "axis" in typed:
        hint = "name the genres of a plain state dict: classes=[...]"
        _refuse("a checkpoint of genreclf train", [typed["axis"]], hint)


def _list_typed() -> dict[str, str]:
    """List the overrides of the job by key, `augmentation@KEY` by KEY."""
    texts = HydraConfig.get().overrides.task
    return {get_key(text).rpartition("@")[2]: text for text in texts}


def _is_used_without_epochs(key: str, text: str) -> bool:
    return key.partition(".")[0] in USED_WITHOUT_EPOCHS and _is_used_to_predict(key, text)


def _is_used_to_predict(key: str, text: str) -> bool:
    """Whether an override has an effect where nothing is trained in epochs."""
    value = text.partition("=")[2].strip("'\"")
    if key == "trainer.precision":  # mixed precision is that of training alone
        return not value.endswith("-mixed") and value not in ("16", "bf16")
    group, _, flag = key.partition(".")
    return f"{key}={value}" not in FOR_EPOCHS and (
        group != "trainer" or not flag or flag.partition(".")[0] in USED_TO_PREDICT
    )


def _check_settings(config: DictConfig, typed: dict[str, str]) -> None:
    """Refuse overrides that have no effect beside other settings.

    Raises:
        InputError: names the first of them.
    """
    plain: Any = OmegaConf.to_container(config)
    trainer, choices = plain["trainer"], HydraConfig.get().runtime.choices

    def refuse(what: str, keys: tuple[str, ...], hint: str = "") -> None:
        _refuse(what, [text for key, text in typed.items() if key.startswith(keys)], hint)

    if "split_seed" not in list_interpolated_keys(plain):
        refuse(f"split={choices['split']}", ("split_seed",))
    if plain.get("monitor") == LAST_EPOCH:  # there is no early stopping
        refuse(f"monitor={LAST_EPOCH}", ("patience",))
    if plain.get("oversampling", {}).get("genres") == []:
        hint = "name the genres to copy: oversampling.genres=[...]"
        refuse("oversampling.genres=[]", ("oversampling.copies", "oversampling.augmentation"), hint)
    if trainer.get("gradient_clip_val") is None:
        hint = "set trainer.gradient_clip_val"
        refuse("trainer.gradient_clip_val=null", ("trainer.gradient_clip_algorithm",), hint)
    most = trainer.get("max_epochs")
    if most and 0 < most < (trainer.get("min_epochs") or 0):
        refuse(f"trainer.max_epochs={most}", ("trainer.min_epochs",))


def _refuse(what: str, texts: list[str], hint: str = "") -> None:
    """Refuse overrides; in a sweep, only report them.

    Raises:
        InputError: there are such overrides.
    """
    if not texts:
        return
    line = f"{what} does not use {' '.join(texts)}"
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        _warn_once(line)
    else:
        raise InputError(f"{line}; leave that out{hint and f', or {hint}'}")


@cache
def _warn_once(line: str) -> None:
    log.warning("%s", line)
