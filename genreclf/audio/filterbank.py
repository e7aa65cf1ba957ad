"""Filterbanks: short-time power spectra, summed into mel bands or pitch classes.

The result equals librosa's `filters @ abs(stft(clip, center=True)) ** 2` up to rounding. This code
is faster: it works on a few frames at a time, which stay in the CPU's cache, and applies each
filter only to the frequencies that it passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

FRAMES = 64  # per block
FILTERS = 16  # per matrix product
MIN_POWER = 1e-10  # floor before the logarithm, librosa's default


@dataclass(frozen=True)
class Bank:
    """Filters in groups of neighbours.

    Attributes:
        size: number of filters.
        groups: (filters, columns, weights) of each group: the filters' numbers; the columns that
            they pass in a spectrum of interleaved squared real and imaginary parts; and the
            weights, float32 (columns, filters).
    """

    size: int
    groups: Sequence[tuple[slice, slice, np.ndarray]]


def group_filters(filters: np.ndarray) -> Bank:
    """Build a bank from filters of shape (filters, 1 + n_fft // 2)."""
    groups = []
    for first in range(0, len(filters), FILTERS):
        weights = np.repeat(filters[first : first + FILTERS], 2, axis=1).astype(np.float32)
        passed = np.flatnonzero(weights.any(axis=0))
        columns = slice(passed[0], passed[-1] + 1) if len(passed) else slice(0, 0)
        rows = slice(first, first + len(weights))
        groups.append((rows, columns, np.ascontiguousarray(weights[:, columns].T)))
    return Bank(len(filters), groups)


@lru_cache
def build_mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Bank:
    """Build Slaney's mel filters, from 0 Hz to half the sample rate in Hz.

    The weights equal those of `librosa.filters.mel` to the last bit. Importing librosa would take
    longer than predicting a clip.
    """
    hz_per_mel, mels_to_knee, log_step = 200 / 3, 15.0, np.log(6.4) / 27  # knee at 1000 Hz
    highest = sample_rate / 2
    mels = np.linspace(
        0,
        highest / hz_per_mel
        if highest < 1000
        else mels_to_knee + np.log(highest / 1000) / log_step,
        n_mels + 2,
    )
    corners = hz_per_mel * mels
    above = mels >= mels_to_knee
    corners[above] = 1000 * np.exp(log_step * (mels[above] - mels_to_knee))
    slopes = np.subtract.outer(corners, np.fft.rfftfreq(n_fft, 1 / sample_rate))
    widths = np.diff(corners)[:, None]
    filters = np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]).clip(0)
    filters = filters.astype(np.float32)
    filters *= (2 / (corners[2:] - corners[:-2]))[:, None]  # equal energy in each band
    return group_filters(filters)


@lru_cache
def build_chroma_filters(sample_rate: int, n_fft: int, n_chroma: int) -> Bank:
    """Build librosa's chroma filters, one per pitch class, for A4 at 440 Hz."""
    import librosa

    return group_filters(librosa.filters.chroma(sr=sample_rate, n_fft=n_fft, n_chroma=n_chroma))


def apply_filters(clip: np.ndarray, filters: Bank, n_fft: int, hop_length: int) -> np.ndarray:
    """Compute the power that passes each filter, in centred Hann windows.

    Returns:
        float32 (filters, frames) of a clip (samples,): 1 + samples // hop_length frames if n_fft is
        even, 1 + (samples - 1) // hop_length if it is odd.
    """
    from scipy import fft

    padded = np.pad(clip.astype(np.float32, copy=False), n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    power = np.empty((len(frames), filters.size), np.float32)
    for first in range(0, len(frames), FRAMES):
        spectra: Any = fft.rfft(frames[first : first + FRAMES] * window, overwrite_x=True)
        squares = np.square(spectra.view(np.float32))
        for rows, columns, weights in filters.groups:
            np.matmul(squares[:, columns], weights, out=power[first : first + FRAMES, rows])
    return np.ascontiguousarray(power.T)


def compress_power(clip: np.ndarray, filters: Bank, n_fft: int, hop_length: int) -> np.ndarray:
    """Compute log10(10000 x + 1) of the power x that passes each filter.

    musicnn and Essentia's models take such bands. The result is float32 (filters, frames).
    """
    return np.log10(10_000 * apply_filters(clip, filters, n_fft, hop_length) + 1)


def compute_levels(
    clip: np.ndarray, filters: Bank, n_fft: int, hop_length: int, top_db: float
) -> np.ndarray:
    """Compute the power that passes each filter, in dB relative to the loudest bin.

    Returns:
        float32 (filters, frames) in [-top_db, 0], as `librosa.power_to_db(power, ref=np.max)`.
    """
    power = apply_filters(clip, filters, n_fft, hop_length)
    level = 10.0 * np.log10(np.maximum(MIN_POWER, power))
    level -= 10.0 * np.log10(np.maximum(MIN_POWER, power.max()))
    return np.maximum(level, level.max() - top_db).astype(np.float32)
