"""Makes a part of a run from its config, and says in one line why it cannot be made."""

import difflib
import functools
import inspect
import re
from importlib import import_module
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from genreclf.errors import InputError, describe_failure, find_own_line, format_error
from genreclf.trust import find_targets

# What the parts of a group have to be: a base class, and what else they need.
KINDS = {
    "model": ("torch.nn.Module", "whose constructor takes classes, the number of genres"),
    "loss": ("torch.nn.Module", "whose forward takes logits and targets"),
    "augmentation": ("torch.nn.Module", "whose forward takes features (batch, bins, frames)"),
    "oversampling.augmentation": ("torch.nn.Module", "whose forward takes features"),
    "metric": ("torchmetrics.Metric", "whose constructor takes num_classes"),
    "callback": ("pytorch_lightning.Callback", "imported from pytorch_lightning"),
    "trainer.callbacks": ("pytorch_lightning.Callback", "imported from pytorch_lightning"),
}
CLASSES = {  # groups whose parts need no base class, but are no functions either
    "features": "a class with name, sample_rate, duration, shape and __call__",
    "data": "a class with name, duration, tracks() and genres()",
}
PASSED = {  # arguments that genreclf passes
    "classes": "the number of genres",
    "num_classes": "the number of genres",
    "labels": "the genre of each item",
    "seed": "the seed of the epoch",
    "save_dir": "the run's folder",
}
OPTIONAL = ("silence",)  # passed only to what takes it


def instantiate(config: Any, **arguments: Any) -> Any:
    """Make a part from its config, as Hydra's `instantiate` does.

    Lists and mappings in the config arrive as plain ones, unless it says otherwise (`_convert_`).

    Args:
        config: settings with `_target_`; None gives None.
        arguments: what genreclf passes to the part.

    Raises:
        InputError: a target cannot be imported, does not take an argument, fails, or makes
            something that its group cannot hold.
    """
    if config is None:
        return None
    key = str(config._get_full_key(None)) if isinstance(config, DictConfig) else "trainer"
    raw: Any = OmegaConf.to_container(config) if OmegaConf.is_config(config) else config
    if not isinstance(raw, dict) or "_target_" not in raw:
        raise InputError(f"{key}: _target_ is needed, the full name of a class or function")
    for place, target in find_targets(raw, f"{key}."):
        if "${" in target:  # Hydra resolves it
            continue
        kind = locate_target(place, target)
        if place == f"{key}._target_" and not raw.get("_partial_"):
            arguments = _choose_arguments(key, target, kind, arguments)
    convert = {} if "_convert_" in raw or key == "trainer" else {"_convert_": "all"}
    try:
        part = hydra.utils.instantiate(config, **convert, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, OSError) and key.partition(".")[0] == "logger":
            raise  # such as a full disk, which `RunLoggers` reports: it must not cost the run
        raise InputError(_explain_failure(key, raw, config, error)) from error
    _check_kind(key, raw, part)
    return part


def locate_target(key: str, target: str) -> Any:
    """Import what a target names.

    Raises:
        InputError: there is no such module or name, or the user's code fails when it is imported.
    """
    found: Any = None
    names = target.split(".")
    for count, name in enumerate(names):
        place = ".".join(names[: count + 1])
        try:
            if found is not None and hasattr(found, name):
                found = getattr(found, name)
            elif found is None or inspect.ismodule(found):
                found = import_module(place)
            else:
                raise ModuleNotFoundError(name=place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                where = f"{key}={target}: importing it fails{find_own_line(error)}"
                raise InputError(describe_failure(where, error)) from error
            holder = ".".join(names[:count])
            near = difflib.get_close_matches(name, dir(found) if holder else [], 1)
            known = f"; did you mean {holder}.{near[0]}?" if near else ""
            inside = f" in {holder}" if holder else ", or it is not installed"
            raise InputError(f"{key}={target}: there is no {name}{inside}{known}") from None
        except Exception as error:
            where = f"{key}={target}: importing it fails{find_own_line(error)}"
            raise InputError(describe_failure(where, error)) from error
    return found


def accepts_argument(target: Any, name: str) -> bool:
    """Whether a class or function takes a keyword argument; True if that cannot be known."""
    if getattr(getattr(target, "__init__", None), "__module__", "") == "torch.nn.modules.module":
        return False  # the constructor of torch.nn.Module, which has **kwargs but takes none
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(
        each.kind == each.VAR_KEYWORD or (each.name == name and each.kind != each.POSITIONAL_ONLY)
        for each in parameters
    )


def _choose_arguments(
    key: str, target: str, kind: Any, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Choose what to pass to a part: everything, except what it may leave out.

    Raises:
        InputError: it does not take an argument that it must take.
    """
    refused = [name for name in arguments if not accepts_argument(kind, name)]
    for name in refused:
        if name not in OPTIONAL:
            last, taken = (
                target.rpartition(".")[2],
                [each for each in arguments if each not in refused],
            )
            inner = ", ".join(f"{each}={each}" for each in taken) or "..."
            if name == "classes" and accepts_argument(kind, "num_classes"):
                inner = "num_classes=classes"
            raise InputError(
                f"{key}: {target} takes no argument {name}, which genreclf passes"
                f"{f' ({PASSED[name]})' if name in PASSED else ''}; name a function of yours that "
                f"takes it, such as def make({', '.join(arguments)}): return {last}({inner})"
            )
    return {name: value for name, value in arguments.items() if name not in refused}


def _explain_failure(key: str, raw: dict[str, Any], config: Any, error: Exception) -> str:
    """Explain why a part could not be made."""
    text = format_error(error)  # of an InputError that Hydra has wrapped, its own
    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, InputError):
        return _blame_source(text, key, raw, config)
    if cause is error or not isinstance(cause, Exception):
        return f"{key}: {text}"
    text = describe_failure(f"{key}: {raw['_target_']} fails{find_own_line(cause)}", cause)
    group = _find_group(key)
    if group in KINDS and isinstance(cause, TypeError) and "missing" in text:
        text += f"; {_name_need(group)}"
    if "ListConfig" in text or "'list' object" in text:
        text += "; where a tensor is needed, write a class that makes one of the list"
    return text


def _blame_source(message: str, key: str, raw: dict[str, Any], config: Any) -> str:
    """Name the key that the user set where a setting only refers to it, as ${data.duration}."""
    if not isinstance(config, DictConfig):
        return message
    root = config._get_root()
    for name, value in raw.items():
        found = re.fullmatch(r"\$\{(?:oc\.select:\s*)?([\w.]+)(?:,[^{}]*)?\}", str(value))
        if found and OmegaConf.select(root, found[1]) is not None:
            message = message.replace(f"{key}.{name}=", f"{found[1]}=")
    return message


def _check_kind(key: str, raw: dict[str, Any], part: Any) -> None:
    """Check that a part is what its group holds.

    Raises:
        InputError: says what it is instead, and what is needed.
    """
    group = _find_group(key)
    is_call = inspect.isroutine(part) or isinstance(part, functools.partial)
    if group in CLASSES and not is_call:
        return
    if group in KINDS:
        module, _, name = KINDS[group][0].rpartition(".")
        if isinstance(part, getattr(import_module(module), name)):
            return
    elif group not in CLASSES:
        return
    given = "with _partial_: true is a function" if is_call else f"gives a {type(part).__name__}"
    raise InputError(f"{key}: {raw['_target_']} {given}; {_name_need(group)}")


def _find_group(key: str) -> str:
    """Find the group of a part, such as metric of metric.kappa."""
    known = (*KINDS, *CLASSES)
    return max(
        (each for each in known if f"{key}[".startswith((f"{each}.", f"{each}["))), default=""
    )


def _name_need(group: str) -> str:
    if group in CLASSES:
        return f"{CLASSES[group]} is needed"
    base, also = KINDS[group]
    return f"a {base} is needed, {also}"
