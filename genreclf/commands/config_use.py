"""Checks that what the user typed has an effect.

Only overrides count, never what an experiment, a phase or another option contains. Parts that a run
does not use are refused. Flags and numbers that scripts give to all their runs, such as
`trainer.max_epochs`, are only reported, and so is everything in a sweep or a study, where other
runs may use it.
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
    """Refuse or report overrides that have no effect on a training run.

    Args:
        config: the config of the run.
        model: its model; one without epochs, such as the SVM, uses few settings.

    Raises:
        InputError: names the overrides.
    """
    typed = _list_typed()
    if has_no_epochs(model):
        what = f"model={HydraConfig.get().runtime.choices['model']}"
        unused = [key for key in typed if key.partition(".")[0] not in USED_WITHOUT_EPOCHS]
        _refuse(what, [typed.pop(key) for key in unused])
        _report_flags(what, typed)
    _report_settings(config, typed)


def check_used_to_evaluate(config: DictConfig) -> None:
    """Report overrides that have no effect on `genreclf evaluate`."""
    typed = _list_typed()
    _report_flags("genreclf evaluate", typed)
    _report_settings(config, typed)


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


def _report_flags(what: str, typed: dict[str, str]) -> None:
    """Report flags that count only where a model is trained in epochs, and drop them from typed."""
    unused = [key for key, text in typed.items() if not _is_used_to_predict(key, text)]
    _report(what, [typed.pop(key) for key in unused])


def _is_used_to_predict(key: str, text: str) -> bool:
    """Whether an override has an effect where nothing is trained in epochs."""
    value = text.partition("=")[2].strip("'\"")
    if key == "trainer.precision":  # mixed precision is that of training alone
        return not value.endswith("-mixed") and value not in ("16", "bf16")
    if key == "trainer.devices":  # one process predicts: this may say on which GPU
        return value == "1" or value.startswith("[")
    group, _, flag = key.partition(".")
    return f"{key}={value}" not in FOR_EPOCHS and (
        group != "trainer" or not flag or flag.partition(".")[0] in USED_TO_PREDICT
    )


def _report_settings(config: DictConfig, typed: dict[str, str]) -> None:
    """Report overrides that have no effect because of other settings."""
    plain: Any = OmegaConf.to_container(config)
    trainer, choices = plain["trainer"], HydraConfig.get().runtime.choices

    def report(what: str, keys: tuple[str, ...], hint: str = "") -> None:
        _report(what, [text for key, text in typed.items() if key.startswith(keys)], hint)

    if "split_seed" not in list_interpolated_keys(plain):
        report(f"split={choices['split']}", ("split_seed",))
    if plain.get("monitor") == LAST_EPOCH:  # there is no early stopping
        report(f"monitor={LAST_EPOCH}", ("patience",))
    if plain.get("oversampling", {}).get("genres") == []:
        hint = "name the genres to copy: oversampling.genres=[...]"
        report("oversampling.genres=[]", ("oversampling.copies", "oversampling.augmentation"), hint)
    if trainer.get("gradient_clip_val") is None:
        hint = "set trainer.gradient_clip_val"
        report("trainer.gradient_clip_val=null", ("trainer.gradient_clip_algorithm",), hint)
    most = trainer.get("max_epochs")
    if most and 0 < most < (trainer.get("min_epochs") or 0):
        report(f"trainer.max_epochs={most}", ("trainer.min_epochs",))


def _refuse(what: str, texts: list[str], hint: str = "") -> None:
    """Refuse overrides; in a sweep, only report them.

    Raises:
        InputError: there are such overrides.
    """
    if texts and HydraConfig.get().mode != RunMode.MULTIRUN:
        raise InputError(f"{_explain(what, texts)}; leave that out{hint and f', or {hint}'}")
    _report(what, texts)


def _report(what: str, texts: list[str], hint: str = "") -> None:
    """Report overrides; in a sweep, once."""
    if texts:
        warn = _warn_once if HydraConfig.get().mode == RunMode.MULTIRUN else log.warning
        warn(_explain(what, texts) + (hint and f"; {hint}"))


def _explain(what: str, texts: list[str]) -> str:
    return f"{what} does not use {' '.join(texts)}"


@cache
def _warn_once(line: str) -> None:
    log.warning(line)
