"""What worker processes do: decode audio files and compute their features."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.audio import decode
from genreclf.audio.own_features import NotFiniteError, compute_features
from genreclf.audio.processes import lift_limits
from genreclf.audio.sound_files import DecodeError
from genreclf.errors import InputError, describe_failure
from genreclf.protocols import Features
from genreclf.trust import is_own

LONGEST = 24 * 3600.0  # s, after which a file is read no further: some damaged ones never end
ABSURD = 1e4  # a peak that no audio has, where 1 is full scale

Audio = str | tuple[np.ndarray, int]  # a file's path, or a waveform and its sample rate in Hz
Row = tuple[np.ndarray, float] | str  # features and seconds, or the reason for having none


@dataclass(frozen=True)
class Window:
    """Part of a file.

    Args:
        start: where it begins, in seconds.
        end: where it ends, in seconds.
        audible: seconds of it that are not silent.
        features: float32 (bins, frames).
    """

    start: float
    end: float
    audible: float
    features: np.ndarray


@dataclass(frozen=True)
class Decoding:
    """Stands for features that the calling process computes (`batches`): clips stay waveforms.

    `extract` and `extract_windows` then give (waveform, rate) in place of features.

    Args:
        sample_rate: Hz of the waveforms; None for each file's own.
        duration: seconds of a clip, at most.
    """

    sample_rate: int | None
    duration: float


def extract(path: str, features: Features | Decoding) -> Row:
    """Compute the features and decoded seconds of a file, or say why it has none.

    Raises:
        InputError: the features are not what they declare; the message names the file.
    """
    try:
        with _explain_failure():
            waveform, rate = decode.read_audio(path, features.sample_rate, features.duration)
        return _compute(features, waveform, rate, path), len(waveform) / rate
    except DecodeError as error:
        return str(error)


def extract_with_rate(path: str, features: Features) -> tuple[np.ndarray, float, int] | str:
    """Compute the features, decoded seconds and sample rate of a file, or say why it has none."""
    row = extract(path, features)
    if isinstance(row, str):
        return row
    return *row, features.sample_rate or decode.read_audio(path, None, features.duration)[1]


def extract_levels(
    path: str, features: Features, levels: Sequence[float]
) -> Generator[None, None, np.ndarray]:
    """Compute the features of a file as if it were louder or quieter.

    Args:
        path: the file.
        features: what is computed.
        levels: dB by which it is amplified each time.

    Yields:
        None after each level.

    Returns:
        float32 (levels, bins, frames).

    Raises:
        DecodeError: the file has no features; the message says why, without the path.
        InputError: the features are not what they declare; the message names the file.
    """
    with _explain_failure():
        waveform, rate = decode.read_audio(path, features.sample_rate, features.duration)
    rows = []
    for scaled in amplify(waveform, levels):
        rows.append(_compute(features, scaled, rate, path))
        yield
    return np.stack(rows)


def amplify(waveform: np.ndarray, levels: Sequence[float]) -> Iterator[np.ndarray]:
    """Yield a waveform amplified by each of some levels in dB."""
    for level in levels:
        yield waveform * np.float32(10 ** (level / 20))


def extract_windows(
    audio: Audio, features: Features | Decoding, overlap: float = 0.0
) -> Generator[Window | None, None, list[str]]:
    """Compute the windows of a file or waveform of any length, one by one.

    Args:
        audio: a path, or a waveform and its sample rate.
        features: what is computed of each window.
        overlap: share of a window that the next one repeats, 0 <= overlap < 1.

    Yields:
        The windows; None for one that is silent.

    Returns:
        Remarks about the file, each a line.

    Raises:
        DecodeError: there are no windows, or no more; the message says why, without the path.
        InputError: the features are not what they declare; the message names the file.
    """
    where = audio if isinstance(audio, str) else "waveform"
    notes: list[str] = []
    settings = features.sample_rate, features.duration, overlap, notes
    with _explain_failure():
        if isinstance(audio, tuple):
            windows = decode.split_waveform(*audio, *settings)
        elif Path(audio).is_dir():
            raise DecodeError("a folder; the paths of its files are needed")
        else:
            windows = decode.read_windows(audio, *settings, keep_silent=True)
    while True:
        with _explain_failure():
            window = next(windows, None)
        if window is None:
            return notes
        if window.start > LONGEST:
            notes.append(f"only its first {LONGEST / 3600:g} hours are used")
            return notes
        start, samples, rate, audible = window
        end = start + len(samples) / rate
        if audible:
            yield Window(start, end, audible, _compute(features, samples, rate, where))
        else:
            yield None


def _compute(features: Any, waveform: np.ndarray, rate: int, where: str) -> Any:
    if isinstance(features, Decoding):
        return waveform, rate
    try:
        with (
            lift_limits(f"features={features.name}"),
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),  # reported below
        ):
            return compute_features(features, waveform, rate)
    except NotFiniteError as error:
        peak = max(float(waveform.max()), -float(waveform.min()))
        if is_own(type(features)) and peak < ABSURD:  # a mistake of the class
            raise InputError(f"{where}: {error}") from None
        raise DecodeError(
            f"features={features.name} are not finite numbers: its samples go up to {peak:.3g}, "
            "where 1 is full scale"
        ) from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except Exception as error:  # in features of the user's own
        error.add_note(f"while computing features={features.name} of {where}")
        raise


@contextmanager
def _explain_failure() -> Iterator[None]:
    """Turn whatever a file does to a decoder into a DecodeError."""
    try:
        yield
    except DecodeError:
        raise
    except OSError as error:  # such as a missing permission, or a name that is too long
        raise DecodeError(str(error.strerror or error)) from None
    except MemoryError:
        raise DecodeError("does not decode: it needs more memory than there is") from None
    except Exception as error:
        raise DecodeError(describe_failure("does not decode", error)) from error
