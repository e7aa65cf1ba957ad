"""Descriptions of features: plain values that are stored, identify them, and build them again.

Stores and checkpoints hold the value of `describe_features`; digests that decide whether stored
features can be used again cover that of `identify_features`.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from genreclf.audio.features import KINDS
from genreclf.audio.settings import list_changed_settings, list_settings
from genreclf.errors import InputError
from genreclf.source_code import identify_code
from genreclf.trust import OURS, build_part, is_own, refuse_interpolations


def describe_features(features: Any) -> dict[str, Any]:
    """Describe features as plain values for `build_features`: name or `_target_`, and settings.

    Raises:
        InputError: a class of your own does not keep its settings.
    """
    kind = type(features)
    if KINDS.get(features.name) is kind:
        return {"name": features.name, **dataclasses.asdict(features)}
    return {"_target_": _name_class(kind), **list_settings(features)}


def locate_features(stored: dict[str, Any]) -> dict[str, Any]:
    """Return what `describe_features` returned as a config: `_target_` and settings.

    Raises:
        InputError: this version of genreclf does not know the name, or a setting is an
            interpolation.
    """
    refuse_interpolations(stored)
    if "_target_" in stored:
        return stored
    settings = dict(stored)
    kind = KINDS.get(settings.pop("name", ""))
    if kind is None:
        raise InputError(f"features {stored} are not known to this version of genreclf")
    return {"_target_": f"genreclf.audio.{kind.__name__}", **settings}


def identify_features(features: Any) -> dict[str, Any]:
    """Describe what determines the features' values: class, version, settings off their defaults.

    The class goes by the name it is exported under, so that a module can move, and a new setting
    that is left at its default changes nothing. A class of your own without a version is identified
    by its source file, so that features are computed again when you edit it. A field of a dataclass
    of ours that is not compared, such as the path of a file, does not count.

    Raises:
        InputError: a class of your own does not keep its settings.
    """
    kind = type(features)
    if is_own(kind):
        name, version = f"{kind.__module__}.{kind.__qualname__}", identify_code(kind)
        ours = (vars(base).get("version") for base in kind.__mro__ if not is_own(base))
        inherited = next(filter(None, ours), 1)  # of the class of genreclf that it extends
        base = {} if inherited == 1 else {"inherited": inherited}
        return {"class": name, "version": version, **base, **list_changed_settings(features)}
    changed = {
        field.name: getattr(features, field.name)
        for field in dataclasses.fields(features)
        if field.compare and getattr(features, field.name) != field.default
    }
    version = getattr(features, "version", 1)
    return {"class": _name_class(kind), "version": version, **changed}


def _name_class(kind: type) -> str:
    """Name a class in full, by the package that exports it if it is one of ours.

    A class that is not exported goes by its module: another one of its name may be exported.
    """
    ours = (package for package in OURS if kind.__module__.startswith(f"{package}."))
    exporting = (
        package
        for package in ours
        if getattr(sys.modules[package], kind.__qualname__, None) is kind
    )
    return f"{next(exporting, kind.__module__)}.{kind.__qualname__}"


def build_features(stored: dict[str, Any], trust: Sequence[str] = ()) -> Any:
    """Build features from what `describe_features` returned.

    Args:
        stored: name or `_target_`, and settings.
        trust: packages outside genreclf whose code may be imported.

    Raises:
        InputError: this version of genreclf does not know the name or a setting, or the class is
            in a package that is not trusted or not one of features.
    """
    if isinstance(stored, dict) and "_target_" in stored:
        features = build_part(stored, trust)
        if not hasattr(features, "name"):
            raise InputError(f"features: {stored['_target_']} is no class of features")
        return features
    refuse_interpolations(stored)
    try:
        arguments = dict(stored)
        return KINDS[arguments.pop("name")](**arguments)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"features {stored} are not known to this version of genreclf: {error}"
        ) from None
