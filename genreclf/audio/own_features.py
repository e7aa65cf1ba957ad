"""Features of any class: what they need not declare, and checks.

A class of your own needs only what `genreclf.protocols.Features` demands. Everything else is looked
up here, with a default, so that no other module asks for a concrete class.
"""

import re
from typing import Any

import numpy as np

from genreclf.audio.settings import list_settings
from genreclf.errors import InputError, report_own_failure
from genreclf.trust import is_own

REQUIRED = ("name", "sample_rate", "duration", "shape", "__call__")
RATE = 22_050  # Hz, of the noise on which features are tried that take any sample rate


class NotFiniteError(InputError):
    """Features of a clip that are infinite or not numbers."""


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


def is_padded(features: Any) -> bool:
    """Whether a short clip is padded with silence to `duration`: see `compute_features`."""
    if hasattr(features, "padded"):
        return bool(features.padded)
    return features.sample_rate is not None


def get_highest_rate(features: Any) -> int | None:
    """Return the highest sample rate in Hz that they or their parts are computed at, if fixed.

    Features that take each file's own rate may declare it as `highest_rate`.
    """
    return getattr(features, "highest_rate", None) or features.sample_rate


def is_batched(features: Any) -> bool:
    """Whether one process computes many clips at a time, by `compute_batch`: see `batches`."""
    return bool(getattr(features, "batched", False))


def compute_features(features: Any, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Compute float32 features (bins, frames) of a waveform (samples,).

    They get exactly `duration` seconds: a longer waveform is cut, a shorter one is padded with
    zeros. Features with an attribute `padded` that is False, or without it a `sample_rate` that is
    None, get shorter waveforms as they are.

    Raises:
        InputError: the values are not finite numbers, or not of the declared shape; or the user's
            own code fails.
    """
    size = int(features.duration * sample_rate)
    waveform = waveform[:size]
    if len(waveform) < size and is_padded(features):
        waveform = np.pad(waveform, (0, size - len(waveform)))
    with report_own_failure(f"features={features.name}: computing them"):
        values = np.asarray(features(waveform, sample_rate))
    return check_values(features, values)


def check_values(features: Any, values: np.ndarray) -> np.ndarray:
    """Check the computed values (bins, frames) of a clip, and return them as float32.

    Raises:
        InputError: they are not finite numbers, or not of the declared shape.
    """
    if values.shape != tuple(features.shape):
        raise InputError(
            f"features={features.name}: values of shape {values.shape}, but its attribute shape "
            f"is {tuple(features.shape)}; {explain_origin(features)}"
        )
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"features={features.name}: values of type {values.dtype}, not real numbers; "
            f"{explain_origin(features)}"
        )
    with np.errstate(over="ignore"):  # reported as infinite
        values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise NotFiniteError(
            f"features={features.name}: values that are not finite numbers; "
            f"{explain_origin(features)}"
        )
    return values


def explain_origin(features: Any) -> str:
    """Say what computes wrong values: the user's class, or a model that the user named."""
    if is_own(type(features)):
        return f"correct {type(features).__qualname__}"
    for setting in ("model", "checkpoint"):
        if named := getattr(features, setting, None):
            return f"features.{setting}={named} computes them: choose another"
    return "this is a fault of genreclf, please report it"


def compute_noise_features(features: Any, count: int) -> np.ndarray:
    """Compute float32 features (count, bins, frames) of clips of noise, to try a model on.

    Raises:
        InputError: as `compute_features`.
    """
    noise = (_make_noise(features, seed) for seed in range(count))
    return np.stack([compute_features(features, *clip) for clip in noise])


def check_available(features: Any) -> None:
    """Check that what features need is there, such as the weights of a network.

    Raises:
        InputError: the features' own `check_available` says what is missing.
    """
    if hasattr(features, "check_available"):
        features.check_available()


def check_features(features: Any) -> None:
    """Check that features can be computed; those of a class of your own on a clip of noise.

    Raises:
        InputError: the features' own `check_available` says so, the class lacks something, or its
            settings cannot be stored.
    """
    check_available(features)
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
    with report_own_failure(f"{name}: its attribute shape"):
        shape = features.shape
    _check_shape(name, shape)
    compute_features(features, *_make_noise(features))


def _check_shape(name: str, shape: Any) -> None:
    """Check that a declared shape is (bins, frames)."""
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    whole = all(isinstance(size, int | np.integer) and size > 0 for size in sizes)
    if len(sizes) != 2 or not whole:
        raise InputError(
            f"{name}: its attribute shape is {shape}; (bins, frames), two numbers, is needed"
        )


def _make_noise(features: Any, seed: int = 0) -> tuple[np.ndarray, int]:
    """Make a clip of noise, float32 (samples,), and its sample rate in Hz."""
    rate = features.sample_rate or RATE
    noise = np.random.default_rng(seed).normal(0, 0.1, int(features.duration * rate))
    return noise.astype(np.float32), rate
