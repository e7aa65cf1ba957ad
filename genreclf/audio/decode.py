"""Decoding: audio files to waveforms.

A waveform is a mono float32 array of shape (samples,), nominally in [-1, 1] (lossy decoders
overshoot a little). Channels are averaged; soxr resamples at its "HQ" setting. The samples equal
those of `librosa.load(path, sr=sample_rate, duration=duration)`, except where librosa stops before
the end of the file, and where the channels cancel each other.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from genreclf.audio.checks import SILENCE, check_format
from genreclf.audio.sound_files import DecodeError, read_stretches

MIN_SECONDS = 2.0
LOUDEST = 1e10  # amplitude, above that of 32-bit integers that were stored as floats
CANCELLED = 0.01  # of the channels' mean power (-20 dB): of opposite channels, coding leaves -24 dB
RECOVERED = 0.75  # of a sample rate: files of lower rates get a note
BLOCK = 0.1  # s, in which one audible sample makes all of it count as audible


class AudioWindow(NamedTuple):
    """Part of a file.

    Attributes:
        start: where it begins in the file, in seconds.
        samples: mono float32 (samples,).
        sample_rate: of the samples, in Hz.
        audible: seconds of it with sound above -80 dB of full scale.
    """

    start: float
    samples: np.ndarray
    sample_rate: int
    audible: float


def read_audio(
    path: str | Path, sample_rate: int | None, duration: float, notes: list[str] | None = None
) -> tuple[np.ndarray, int]:
    """Decode the first `duration` seconds of a file, as mono at `sample_rate` Hz.

    Args:
        path: a file of any common format, such as MP3, M4A, FLAC, WAV, OGG, Opus or WMA.
        sample_rate: sample rate of the result in Hz; None keeps the file's own rate.
        duration: maximum number of seconds to read; a shorter file gives a shorter waveform.
        notes: gets a line for each thing about the file that the listener should know.

    Returns:
        float32 array of shape (samples,), and its sample rate.

    Raises:
        DecodeError: the file does not decode, is shorter than 2 s, or is silent (peak under 1e-4).
    """
    notes = [] if notes is None else notes
    with contextlib.closing(read_stretches(Path(path), duration, notes)) as stretches:
        samples, native_rate = next(stretches, (np.empty((0, 1), np.float32), 1))
    _check_length(len(samples) / native_rate, notes)
    waveform = _mix_down(samples)
    if not _measure_audible(waveform, native_rate):
        raise DecodeError("silent: no sample above -80 dB of full scale")
    note_missing_band(native_rate, sample_rate, notes)
    return resample(waveform, native_rate, sample_rate)


def read_windows(
    path: str | Path,
    sample_rate: int | None,
    duration: float,
    overlap: float = 0.0,
    notes: list[str] | None = None,
    keep_silent: bool = False,
) -> Iterator[AudioWindow]:
    """Decode a file of any length in windows, one after the other.

    A remainder of at least 2 s is extended backwards to a full window, which then overlaps the
    previous one more than the others; a shorter remainder is dropped. Silent windows are skipped.

    Args:
        path: as for `read_audio`.
        sample_rate: sample rate of the windows in Hz; None keeps the file's own rate.
        duration: length of a window in seconds; a shorter file is one shorter window.
        overlap: share of a window that the next one repeats, 0 <= overlap < 1.
        notes: as for `read_audio`; complete when the last window has been yielded.
        keep_silent: also yield silent windows, without their samples and with `audible` 0, to show
            that there is progress.

    Raises:
        DecodeError: for the reasons of `read_audio`, at the first or a later window.
    """
    notes = [] if notes is None else notes
    stretches = read_stretches(Path(path), duration, notes)
    yield from _make_windows(stretches, sample_rate, duration, overlap, notes, keep_silent)


def split_waveform(
    waveform: np.ndarray,
    native_rate: int,
    sample_rate: int | None,
    duration: float,
    overlap: float = 0.0,
    notes: list[str] | None = None,
) -> Iterator[AudioWindow]:
    """Split a waveform in memory into the windows that `read_windows` gives for a file.

    Args:
        waveform: float array (samples,) or (channels, samples), nominally in [-1, 1].
        native_rate: sample rate of the waveform in Hz.
        sample_rate: sample rate of the windows in Hz; None keeps the waveform's own rate.
        duration: length of a window in seconds.
        overlap: share of a window that the next one repeats, 0 <= overlap < 1.
        notes: as for `read_audio`.

    Raises:
        DecodeError: the waveform is shorter than 2 s, is silent, or has values that are not finite.
    """
    samples, size = np.atleast_2d(waveform).T, max(1, int(duration * native_rate))
    check_format(native_rate, samples.shape[1])
    stretches = (
        (samples[first : first + size].astype(np.float32), native_rate)
        for first in range(0, len(samples), size)
    )
    yield from _make_windows(stretches, sample_rate, duration, overlap, notes)


def _make_windows(
    stretches: Iterable[tuple[np.ndarray, int]],
    sample_rate: int | None,
    duration: float,
    overlap: float,
    notes: list[str] | None,
    keep_silent: bool = False,
) -> Iterator[AudioWindow]:
    """Resample the windows of samples (n, channels), and skip the silent ones."""
    silent, notes = True, [] if notes is None else notes
    for start, waveform, rate in _cut_windows(stretches, duration, overlap, notes):
        if audible := _measure_audible(waveform, rate):
            if silent:
                note_missing_band(rate, sample_rate, notes)
            silent = False
            yield AudioWindow(start, *resample(waveform, rate, sample_rate), audible)
        elif keep_silent:
            yield AudioWindow(start, waveform[:0], rate, 0.0)
    if silent:
        raise DecodeError("silent: no sample above -80 dB of full scale")


def _cut_windows(
    stretches: Iterable[tuple[np.ndarray, int]], duration: float, overlap: float, notes: list[str]
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Yield start (s), mono samples and rate of each window; extend the last one backwards."""
    first, end, rate = 0, 0, 1  # end: where the last window ends; the buffer begins before it
    buffer = np.empty(0, np.float32)
    for samples, rate in stretches:
        buffer = np.concatenate([buffer, _mix_down(samples)])
        size = int(duration * rate)
        hop = max(1, round(size * (1 - overlap)))
        start = end and end - size + hop  # of the next window
        while first + len(buffer) >= start + size:
            yield start / rate, buffer[start - first : start - first + size], rate
            start, end = start + hop, start + size
        keep = max(0, end - size - first)
        first, buffer = first + keep, buffer[keep:]
    total, size = first + len(buffer), int(duration * rate)
    if not end:
        _check_length(total / rate, notes)
        yield 0.0, buffer, rate
    elif total - end >= MIN_SECONDS * rate:
        yield (total - size) / rate, buffer[total - size - first :], rate


def _check_length(seconds: float, notes: list[str]) -> None:
    """Raise DecodeError if there is too little audio, with the notes, which may say why."""
    if seconds < MIN_SECONDS:
        reason = f"too short: {seconds:.2f} s of audio decode, {MIN_SECONDS:g} s needed"
        raise DecodeError("; ".join([reason, *notes]))


def _measure_audible(waveform: np.ndarray, rate: int) -> float:
    """Measure how many seconds have a sample above -80 dB of full scale, in blocks of 0.1 s."""
    size = max(1, round(BLOCK * rate))
    edges = np.arange(0, len(waveform), size)
    peaks = np.maximum(np.maximum.reduceat(waveform, edges), -np.minimum.reduceat(waveform, edges))
    loudest = peaks.max()
    if not np.isfinite(loudest):
        raise DecodeError("does not decode: samples that are not finite numbers")
    if loudest > LOUDEST:
        raise DecodeError(f"does not decode: samples of up to {loudest:.0e}, where 1 is full scale")
    lengths = np.diff(edges, append=len(waveform))
    return float(lengths[peaks >= SILENCE].sum() / rate)


def note_missing_band(native_rate: int, sample_rate: int | None, notes: list[str]) -> None:
    """Note that a file lacks some of the band of a higher sample rate in Hz; None needs none."""
    if sample_rate and native_rate < RECOVERED * sample_rate:
        notes.append(
            f"sampled at {native_rate} Hz, so it lacks the band above {native_rate // 2} Hz that "
            "the model was trained with"
        )


def resample(
    waveform: np.ndarray, native_rate: int, sample_rate: int | None
) -> tuple[np.ndarray, int]:
    """Resample a waveform (samples,) from one rate in Hz to another; None keeps its rate.

    Returns:
        The waveform, whose length is rounded up, and its sample rate.
    """
    if sample_rate in (None, native_rate):
        return waveform, native_rate
    resampled = soxr.resample(waveform, native_rate, sample_rate, quality="HQ")
    size = math.ceil(len(waveform) * (sample_rate / native_rate))  # librosa rounds up, too
    return np.pad(resampled[:size], (0, max(0, size - len(resampled)))), sample_rate


def _mix_down(samples: np.ndarray) -> np.ndarray:
    """Average the channels of (n, channels), or take the loudest where they cancel each other.

    The average equals `samples.mean(axis=1)`, but twenty times as fast.
    """
    mixed, channels = samples[:, 0].copy(), samples.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):  # refused later
        for channel in samples.T[1:]:
            mixed += channel
        mixed /= np.float32(channels)
        if channels > 1 and _sum_squares(mixed) < CANCELLED / channels * _sum_squares(samples):
            powers = [_sum_squares(np.ascontiguousarray(channel)) for channel in samples.T]
            return samples[:, int(np.argmax(powers))].copy()
    return mixed


def _sum_squares(samples: np.ndarray) -> float:
    flat = samples.reshape(-1)
    return float(np.dot(flat, flat))
