"""Decoding: audio files to waveforms.

A waveform is a mono float32 array of shape (samples,), nominally in [-1, 1] (lossy decoders
overshoot a little). Channels are averaged; soxr resamples at its "HQ" setting. The samples equal
those of `librosa.load(path, sr=sample_rate, duration=duration)`, except where librosa stops before
the end of the file, where the channels cancel each other, and where there is a constant offset,
which is subtracted.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from genreclf.audio.checks import check_format
from genreclf.audio.silence import OFFSET, leave_out_silence, measure_blocks, remove_offset
from genreclf.audio.sound_files import DecodeError, read_stretches
from genreclf.audio.windows import MIN_SECONDS as MIN_SECONDS
from genreclf.audio.windows import check_length, cut_windows, number_samples

CANCELLED = 0.01  # of the channels' mean power (-20 dB): of opposite channels, coding leaves -24 dB
RECOVERED = 0.75  # of a sample rate: files of lower rates get a note
SILENT = "silent: no sample above -80 dB of full scale"


class AudioWindow(NamedTuple):
    """Part of a file.

    Attributes:
        start: where it begins in the file, in seconds.
        samples: mono float32 (samples,).
        sample_rate: of the samples, in Hz.
        audible: seconds of it with sound above -80 dB of full scale.
        end: where it ends in the file, in seconds. Silence that is left out of a window makes it
            longer in the file.
    """

    start: float
    samples: np.ndarray
    sample_rate: int
    audible: float
    end: float


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
        check_length(len(samples) / native_rate, notes)
        waveform = _mix_down(samples)
        blocks = measure_blocks(waveform, native_rate)
        if blocks.silent.all():
            raise DecodeError(
                describe_silence(duration) if any(True for _ in stretches) else SILENT
            )
    waveform = remove_offset(waveform, blocks)
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

    Silence of at least 0.5 s at the beginning or the end of the file is left out, and all but 0.5 s
    of longer silence within it. A remainder of at least 2 s is extended backwards to a full window,
    which then overlaps the previous one more than the others; a shorter remainder is dropped. If
    less than 2 s of a longer file are left, zeros follow.

    Args:
        path: as for `read_audio`.
        sample_rate: sample rate of the windows in Hz; None keeps the file's own rate.
        duration: length of a window in seconds; a shorter file is one shorter window.
        overlap: share of a window that the next one repeats, 0 <= overlap < 1.
        notes: as for `read_audio`; complete when the last window has been yielded.
        keep_silent: also yield windows without samples and with `audible` 0 during long silence, to
            show that there is progress.

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
    whole: bool = False,
) -> Iterator[AudioWindow]:
    """Split a waveform in memory into the windows that `read_windows` gives for a file.

    Args:
        waveform: float array (samples,) or (channels, samples), nominally in [-1, 1].
        native_rate: sample rate of the waveform in Hz.
        sample_rate: sample rate of the windows in Hz; None keeps the waveform's own rate.
        duration: length of a window in seconds.
        overlap: share of a window that the next one repeats, 0 <= overlap < 1.
        notes: as for `read_audio`.
        whole: keep all silence and a constant offset, as for parts of what `read_audio` gave.

    Raises:
        DecodeError: the waveform is shorter than 2 s, is silent, or has values that are not finite.
    """
    samples, size = np.atleast_2d(waveform).T, max(1, int(duration * native_rate))
    check_format(native_rate, samples.shape[1])
    stretches = (
        (samples[first : first + size].astype(np.float32), native_rate)
        for first in range(0, len(samples), size)
    )
    yield from _make_windows(stretches, sample_rate, duration, overlap, notes, whole=whole)


def _make_windows(
    stretches: Iterable[tuple[np.ndarray, int]],
    sample_rate: int | None,
    duration: float,
    overlap: float,
    notes: list[str] | None,
    keep_silent: bool = False,
    whole: bool = False,
) -> Iterator[AudioWindow]:
    """Resample the windows of samples (n, channels), and skip the silent ones."""
    silent, notes = True, [] if notes is None else notes
    mono = ((_mix_down(samples), rate) for samples, rate in stretches)
    pieces = number_samples(mono) if whole else leave_out_silence(mono)
    for start, end, waveform, rate in cut_windows(pieces, duration, overlap, notes):
        blocks = measure_blocks(waveform, rate) if len(waveform) else None
        if blocks and not blocks.silent.all():
            if silent:
                note_missing_band(rate, sample_rate, notes)
            silent = False
            cleaned = waveform if whole else remove_offset(waveform, blocks)
            audible = float(blocks.lengths[~blocks.silent].sum() / rate)
            yield AudioWindow(start, *resample(cleaned, rate, sample_rate), audible, end)
        elif keep_silent:
            yield AudioWindow(start, waveform[:0], rate, 0.0, end)
    if silent:
        raise DecodeError(SILENT)


def describe_silence(duration: float) -> str:
    """Say that the first seconds of a file are silent, and that no more of it was read."""
    return f"{SILENT} in its first {duration:g} s, and no more is read"


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
    missing = size - len(resampled)
    return np.pad(resampled, (0, missing)) if missing > 0 else resampled[:size], sample_rate


def _mix_down(samples: np.ndarray) -> np.ndarray:
    """Average the channels of (n, channels), or take the loudest where they cancel each other.

    The average equals `samples.mean(axis=1)`, but twenty times as fast.
    """
    channels = samples.shape[1]
    if channels == 1 or not len(samples):
        return samples[:, 0].copy()
    with np.errstate(over="ignore", invalid="ignore"):  # refused later
        mixed = samples[:, 0] + samples[:, 1]
        for channel in samples.T[2:]:
            mixed += channel
        mixed /= np.float32(channels)
        means = np.array([channel.sum() for channel in samples.T]) / np.float32(len(samples))
        offsets = np.where(np.abs(means) > OFFSET, means, np.float32(0))
        own, rest = samples, mixed
        if offsets.any():  # constants are not heard
            own, rest = samples - offsets, mixed - offsets.mean()
        if _sum_squares(rest) < CANCELLED / channels * _sum_squares(own):
            powers = [_sum_squares(np.ascontiguousarray(channel)) for channel in own.T]
            return samples[:, int(np.argmax(powers))].copy()
    return mixed


def _sum_squares(samples: np.ndarray) -> float:
    flat = samples.reshape(-1)
    return float(np.dot(flat, flat))
