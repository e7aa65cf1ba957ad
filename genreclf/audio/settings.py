"""Settings of features: the arguments with which an object was built."""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.audio.decode import MIN_SECONDS
from genreclf.errors import InputError
from genreclf.trust import is_own


def check_settings(features: Any) -> None:
    """Reject impossible settings, and store 30 as 30.0 where the field is a float.

    Fields that a class of your own adds are its own affair.

    Raises:
        InputError: a setting is no number above 0, no whole number where one is needed, or
            neither true nor false.
    """
    bases = [base for base in type(features).__mro__ if not is_own(base)]
    known = {name for base in bases for name in vars(base).get("__annotations__", {})}
    for field in dataclasses.fields(features):
        value = getattr(features, field.name)
        if field.name not in known:
            continue
        if isinstance(field.default, bool):
            if not isinstance(value, bool):
                raise InputError(f"features.{field.name}={value!r}: set true or false")
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise InputError(f"features.{field.name}={value!r}: set a number above 0")
        if isinstance(field.default, float):
            object.__setattr__(features, field.name, float(value))
        elif value % 1:
            raise InputError(f"features.{field.name}={value!r}: set a whole number above 0")
        else:
            object.__setattr__(features, field.name, int(value))


def check_duration(features: Any) -> None:
    """Reject a duration that is too short for a clip, and store 30 as 30.0.

    Raises:
        InputError: it is not a number of at least 2 s.
    """
    duration = features.duration
    number = isinstance(duration, int | float) and not isinstance(duration, bool)
    if not number or not MIN_SECONDS <= duration < math.inf:
        raise InputError(f"features.duration={duration!r}: at least {MIN_SECONDS:g} s are needed")
    object.__setattr__(features, "duration", float(duration))


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
    if isinstance(value, np.generic):  # first: np.float64 is a float, but pickled as NumPy's
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
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
