"""Features of any class: what they need not declare, what identifies them, and checks.

A class of your own needs only what `genreclf.protocols.Features` demands. Everything else is looked
up here, with a default, so that no other module asks for a concrete class.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.errors import InputError

REQUIRED = ("name", "sample_rate", "duration", "shape", "__call__")
RATE = 22_050  # Hz, of the noise on which features are tried that take any sample rate


def is_own(kind: type) -> bool:
    """Whether a class is not part of genreclf."""
    return kind.__module__.partition(".")[0] != "genreclf"


def get_stored(features: Any) -> Any:
    """Return what a store keeps for these features: themselves, unless they say otherwise."""
    return getattr(features, "stored", features)


def get_silence(features: Any) -> tuple[float, ...]:
    """Return the values of a silent frame: one for all bins, or one per bin.

    Without an attribute `silence`, they are measured: the last frame of noise that is followed by
    silence.
    """
    declared = getattr(features, "silence", None)
    if declared is not None:
        return tuple(float(value) for value in np.atleast_1d(declared))
    noise, rate = _make_noise(features)
    noise[len(noise) // 2 :] = 0
    return tuple(compute_features(features, noise, rate)[:, -1].tolist())


def compute_features(features: Any, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Compute float32 features (bins, frames) of a waveform (samples,).

    Features of a fixed sample rate get exactly `duration` seconds: a longer waveform is cut, a
    shorter one is padded with zeros.

    Raises:
        InputError: the values are not finite numbers, or not of the declared shape.
    """
    if features.sample_rate is not None:
        size = int(features.duration * sample_rate)
        waveform = np.pad(waveform[:size], (0, max(0, size - len(waveform))))
    values = np.asarray(features(waveform, sample_rate))
    if values.shape != tuple(features.shape):
        raise InputError(
            f"features={features.name}: values of shape {values.shape}, but its attribute shape "
            f"is {tuple(features.shape)}; correct {type(features).__qualname__}"
        )
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"features={features.name}: values of type {values.dtype}, not real numbers; correct "
            f"{type(features).__qualname__}"
        )
    with np.errstate(over="ignore"):  # reported as infinite
        values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise InputError(
            f"features={features.name}: values that are not finite numbers; correct "
            f"{type(features).__qualname__}"
        )
    return values


def check_features(features: Any) -> None:
    """Check features of a class that is not part of genreclf, on a clip of noise.

    Raises:
        InputError: the class lacks something, or its settings cannot be stored.
    """
    kind = type(features)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if not is_own(kind):
        return
    if missing := [wanted for wanted in REQUIRED if wanted not in dir(features)]:
        raise InputError(
            f"{name} has no {', no '.join(missing)}, which features need: see "
            "genreclf.protocols.Features"
        )
    if not re.fullmatch(r"[\w.-]+", str(features.name)):
        raise InputError(f"{name}: its name {features.name!r} is not one word, such as 'loudness'")
    if kind.__module__ == "__main__":
        raise InputError(
            f"{name}: put the class into a file of its own and import it: the processes that "
            "compute features cannot import a script"
        )
    if get_stored(features) is not features:
        raise InputError(
            f"features.on_device=true: {name} has no counterpart that computes whole batches; set "
            "features.on_device=false"
        )
    settings = list_settings(features)
    if list_settings(kind(**settings)) != settings:
        raise InputError(
            f"{name}: built again from its settings {settings}, it has others; keep each argument "
            "of the constructor unchanged in the attribute of the same name"
        )
    compute_features(features, *_make_noise(features))


def _make_noise(features: Any) -> tuple[np.ndarray, int]:
    """Make a clip of noise, float32 (samples,), and its sample rate in Hz."""
    rate = features.sample_rate or RATE
    noise = np.random.default_rng(0).normal(0, 0.1, int(features.duration * rate))
    return noise.astype(np.float32), rate


def list_settings(part: Any) -> dict[str, Any]:
    """List the arguments with which an object was built, as plain values.

    An argument is looked up in the attribute of the same name, with or without a leading
    underscore, as it is in dataclasses.

    Raises:
        InputError: there is no such attribute, or its value cannot be stored.
    """
    settings = {}
    for name in _list_arguments(type(part)):
        found = [getattr(part, key) for key in (name, f"_{name}") if hasattr(part, key)]
        if not found:
            raise InputError(
                f"{type(part).__module__}.{type(part).__qualname__}: keep the argument {name} of "
                f"the constructor (self.{name} = {name}), so that checkpoints can record it"
            )
        settings[name] = _make_plain(found[0], f"{type(part).__qualname__}.{name}")
    return settings


def list_changed_settings(part: Any) -> dict[str, Any]:
    """List the settings that differ from the defaults of the constructor; 30.0 counts as 30."""
    arguments, settings = _list_arguments(type(part)), list_settings(part)
    changed = {
        name: value
        for name, value in settings.items()
        if value != (list(default) if isinstance(default := arguments[name], tuple) else default)
    }
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in changed.items()
    }


def _list_arguments(kind: type) -> dict[str, Any]:
    """List the defaults of the constructor's arguments, `Parameter.empty` where there is none."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:  # a constructor that takes **others passes them on
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = {
            p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }
        found = {**named, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def _make_plain(value: Any, where: str) -> Any:
    """Convert a setting to what JSON can hold."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _make_plain(item, where) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_make_plain(item, where) for item in value]
    raise InputError(
        f"{where} is a {type(value).__name__}; only numbers, texts, lists and mappings can be "
        "settings, because checkpoints record them"
    )
