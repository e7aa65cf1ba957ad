"""What worker processes do: decode audio files and compute their features."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genreclf.audio import decode
from genreclf.audio.checks import SILENCE
from genreclf.audio.own_features import NotFiniteError, compute_features, get_highest_rate
from genreclf.audio.serving import lift_limits
from genreclf.audio.sound_files import DecodeError
from genreclf.errors import InputError, describe_failure
from genreclf.protocols import Features
from genreclf.trust import is_own

LONGEST = 24 * 3600.0  # s, after which a file is read no further: some damaged ones never end
LEVELS = (0.0, -10.0, 10.0, -20.0, 20.0)  # dB, of the variants of a file
NARROW = 8000  # Hz, the sample rate that the last variant is limited to
NO_PATH = "the path is empty; the current folder is ."
ABSURD = 1e4  # a peak that no audio has, where 1 is full scale

Audio = str | tuple[np.ndarray, int]  # a file's path, or a waveform and its sample rate in Hz


class Clip(NamedTuple):
    """What is computed of a file.

    Attributes:
        values: features, float32 (bins, frames); for `Decoding`, waveform and rate.
        seconds: of audio.
        note: what is wrong with the file; empty if nothing is.
    """

    values: Any
    seconds: float
    note: str = ""


Row = Clip | str  # what is computed of a file, or the reason for having nothing


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
        highest_rate: Hz that the features need; files of much lower rates get a note.
    """

    sample_rate: int | None
    duration: float
    highest_rate: int | None = None


def extract(path: str, features: Features | Decoding) -> Row:
    """Compute the features, decoded seconds and notes of a file, or say why it has none.

    Raises:
        InputError: the features are not what they declare; the message names the file.
    """
    notes: list[str] = []
    try:
        with _explain_failure():
            waveform, rate = decode.read_audio(path, features.sample_rate, features.duration, notes)
        if features.sample_rate is None:
            decode.note_missing_band(rate, get_highest_rate(features), notes)
        values = _compute(features, waveform, rate, path)
        return Clip(values, len(waveform) / rate, "; ".join(notes))
    except DecodeError as error:
        return str(error)


def extract_with_rate(path: str, features: Features) -> tuple[np.ndarray, float, int] | str:
    """Compute the features, decoded seconds and sample rate of a file, or say why it has none."""
    row = extract(path, features)
    if isinstance(row, str):
        return row
    rate = features.sample_rate or decode.read_audio(path, None, features.duration)[1]
    return row.values, row.seconds, rate


def extract_item(
    item: tuple[str, int | None], features: Features | Decoding, compared: Features
) -> Any:
    """Compute `extract_query` of a numbered file, or `compared` alone of one without a number."""
    path, number = item
    return extract(path, compared) if number is None else extract_query(path, features, compared)


def extract_query(
    path: str, features: Features | Decoding, compared: Features
) -> Generator[None, None, tuple[Any, np.ndarray]]:
    """Compute the features of each variant of a file, and others of the file itself.

    Args:
        path: the file; it is decoded once.
        features: what is computed of each of `make_variants`.
        compared: what else is computed.

    Yields:
        None after each variant.

    Returns:
        float32 (variants, bins, frames), or waveform and rate for `Decoding`; and the other
        features (bins, frames).

    Raises:
        DecodeError: the file has no features; the message says why, without the path.
        InputError: the features are not what they declare; the message names the file.
    """
    with _explain_failure():
        if not path:
            raise DecodeError(NO_PATH)
        longest = max(features.duration, compared.duration)
        waveform, rate = decode.read_audio(path, None, longest)
        clip, others = (
            decode.resample(waveform[: int(kind.duration * rate)], rate, kind.sample_rate)
            for kind in (features, compared)
        )
    if np.abs(clip[0]).max() < SILENCE:  # sound may begin later
        raise DecodeError(decode.describe_silence(features.duration))
    computed = _compute(compared, *others, path)
    yield
    if isinstance(features, Decoding):
        return clip, computed
    rows = []
    for variant in make_variants(*clip):
        rows.append(_compute(features, *variant, path))
        yield
    return np.stack(rows), computed


def make_variants(waveform: np.ndarray, rate: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield a waveform at each of `LEVELS`, and without what a sample rate of 8 kHz would lack."""
    for level in LEVELS:
        yield waveform * np.float32(10 ** (level / 20)), rate
    yield decode.resample(*decode.resample(waveform, rate, min(rate, NARROW)), rate)


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
    found = False
    settings = features.sample_rate, features.duration, overlap, notes
    with _explain_failure():
        if isinstance(audio, str) and not audio:
            raise DecodeError(NO_PATH)
        if isinstance(audio, tuple):
            windows = decode.split_waveform(*audio, *settings)
        elif Path(audio).is_dir():
            raise DecodeError("a folder; the paths of its files are needed")
        else:
            windows = decode.read_windows(audio, *settings, keep_silent=True)
    noted = features.sample_rate is not None  # by `windows`
    while True:
        with _explain_failure():
            window = next(windows, None)
        if window is None:
            return notes
        if window.start > LONGEST:
            if not found:
                raise DecodeError(decode.describe_silence(LONGEST))
            notes.append(f"only its first {LONGEST / 3600:g} hours are used")
            return notes
        start, samples, rate, audible, end = window
        if audible:
            if not noted:
                decode.note_missing_band(rate, get_highest_rate(features), notes)
                noted = True
            found = True
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
