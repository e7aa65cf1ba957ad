"""Short-time power spectra of a clip, summed by a bank of filters.

librosa's `stft(center=True)`, `abs() ** 2` and `filters @` in one go: some frames at a time, which
stay in the cache, and each filter over no more than the frequencies that it lets through. The
values are librosa's but for rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

FRAMES = 64  # at a time
FILTERS = 16  # in one product


@dataclass(frozen=True)
class Bank:
    """Filters, in groups of neighbours.

    Each group is (filters, columns, weights): which filters of the bank; over which columns of a
    spectrum that has the squares of real and imaginary part side by side; and by which weights
    (columns, filters).
    """

    size: int
    groups: Sequence[tuple[slice, slice, np.ndarray]]


def group_filters(filters: np.ndarray) -> Bank:
    """A bank of filters float (filters, 1 + n_fft // 2)."""
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
    """Slaney's mel filters, from 0 Hz to half the sample rate in Hz.

    The weights are those of `librosa.filters.mel` to the last bit. librosa itself takes longer to
    import than a clip takes to predict.
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
    """Filters of pitch classes, as librosa has them, A' at 440 Hz."""
    import librosa

    return group_filters(librosa.filters.chroma(sr=sample_rate, n_fft=n_fft, n_chroma=n_chroma))


def apply_filters(clip: np.ndarray, filters: Bank, n_fft: int, hop_length: int) -> np.ndarray:
    """Power float32 (filters, 1 + samples // hop_length) of a clip (samples,): Hann windows."""
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
