"""Decoding: audio files to waveforms.

A waveform is a mono float32 array of shape (samples,), nominally in [-1, 1] (lossy decoders
overshoot a little). Channels are averaged; soxr resamples at its "HQ" setting. The samples equal
those of `librosa.load(path, sr=sample_rate, duration=duration)`.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr

from genreclf.audio.sound_files import DecodeError, read_start, read_stretches

MIN_SECONDS = 2.0
SILENCE = 1e-4  # peak amplitude, -80 dB of full scale


def read_audio(
    path: str | Path, sample_rate: int | None, duration: float
) -> tuple[np.ndarray, int]:
    """Decode the first `duration` seconds of a file, as mono at `sample_rate` Hz.

    Args:
        path: an MP3, WAV, FLAC or OGG file; other formats need FFmpeg.
        sample_rate: sample rate of the result in Hz; None keeps the file's own rate.
        duration: maximum number of seconds to read; a shorter file gives a shorter waveform.

    Returns:
        float32 array of shape (samples,), and its sample rate.

    Raises:
        DecodeError: the file does not decode, is shorter than 2 s, or is silent (peak under 1e-4).
    """
    samples, native_rate = read_start(Path(path), duration)
    _check_length(len(samples) / native_rate)
    waveform = _mix_down(samples)
    if _is_silent(waveform):
        raise DecodeError("silent: no sample above -80 dB of full scale")
    return _resample(waveform, native_rate, sample_rate)


def read_windows(
    path: str | Path, sample_rate: int | None, duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Decode a file of any length in consecutive windows.

    A remainder of at least 2 s is extended backwards to a full window, which then overlaps the
    previous one; a shorter remainder is dropped. Silent windows are skipped.

    Args:
        path: as for `read_audio`.
        sample_rate: sample rate of the windows in Hz; None keeps the file's own rate.
        duration: length of a window in seconds; a shorter file is one shorter window.

    Yields:
        The start of a window in seconds, its float32 samples (n,), and their sample rate in Hz.

    Raises:
        DecodeError: for the reasons of `read_audio`, at the first or a later window.
    """
    yield from _make_windows(read_stretches(Path(path), duration), sample_rate, duration)


def split_waveform(
    waveform: np.ndarray, native_rate: int, sample_rate: int | None, duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Split a waveform in memory into the windows that `read_windows` gives for a file.

    Args:
        waveform: float array (samples,) or (channels, samples), nominally in [-1, 1].
        native_rate: sample rate of the waveform in Hz.
        sample_rate: sample rate of the windows in Hz; None keeps the waveform's own rate.
        duration: length of a window in seconds.

    Raises:
        DecodeError: the waveform is shorter than 2 s, is silent, or has values that are not finite.
    """
    samples, size = np.atleast_2d(waveform).T, int(duration * native_rate)
    stretches = (
        (samples[first : first + size].astype(np.float32), native_rate)
        for first in range(0, len(samples), size)
    )
    yield from _make_windows(stretches, sample_rate, duration)


def _make_windows(
    stretches: Iterable[tuple[np.ndarray, int]], sample_rate: int | None, duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Resample the windows of samples (n, channels), and skip the silent ones."""
    audible = False
    for start, waveform, rate in _complete_windows(stretches, duration):
        if not _is_silent(waveform):
            audible = True
            yield start, *_resample(waveform, rate, sample_rate)
    if not audible:
        raise DecodeError("silent: no sample above -80 dB of full scale")


def _complete_windows(
    stretches: Iterable[tuple[np.ndarray, int]], duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Yield start (s), mono samples and rate of each window; extend the last one backwards."""
    first, before = 0, None
    for samples, rate in stretches:
        waveform, size = _mix_down(samples), int(duration * rate)
        if len(waveform) < size and before is None:
            _check_length(len(waveform) / rate)
        elif len(waveform) < MIN_SECONDS * rate:
            return
        elif len(waveform) < size and before is not None:
            first -= size - len(waveform)
            waveform = np.concatenate([before[len(waveform) :], waveform])
        yield first / rate, waveform, rate
        first, before = first + len(waveform), waveform
    if before is None:
        _check_length(0.0)


def _check_length(seconds: float) -> None:
    if seconds < MIN_SECONDS:
        raise DecodeError(f"too short: {seconds:.2f} s of audio decode, {MIN_SECONDS:g} s needed")


def _is_silent(waveform: np.ndarray) -> bool:
    """Whether no sample is above -80 dB of full scale."""
    peak = max(waveform.max(), -waveform.min())
    if not np.isfinite(peak):
        raise DecodeError("does not decode: samples that are not finite numbers")
    return bool(peak < SILENCE)


def _resample(
    waveform: np.ndarray, native_rate: int, sample_rate: int | None
) -> tuple[np.ndarray, int]:
    if sample_rate in (None, native_rate):
        return waveform, native_rate
    resampled = soxr.resample(waveform, native_rate, sample_rate, quality="HQ")
    size = math.ceil(len(waveform) * (sample_rate / native_rate))  # librosa rounds up, too
    return np.pad(resampled[:size], (0, max(0, size - len(resampled)))), sample_rate


def _mix_down(samples: np.ndarray) -> np.ndarray:
    """Average the channels of (n, channels): `samples.mean(axis=1)`, but twenty times as fast."""
    mixed = samples[:, 0].copy()
    for channel in samples.T[1:]:
        mixed += channel
    return mixed / np.float32(samples.shape[1])
