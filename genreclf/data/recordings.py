"""Compares two recordings: are they the same, encoded differently, louder, or cut by some seconds?

Compared is how the levels of frequency bands change over time, relative to each frame's mean:
loudness does not matter, nor what all music has in common. Bands above the highest that both
recordings have do not count: a copy at a low sample rate, or bit rate, lacks them. Two recordings
are the same if their changes agree at one shift in time, and at no other.
"""

from typing import NamedTuple

import numpy as np

from genreclf.data.summaries import average_bands, expand_waveform, trim_padding

STEPS = 430  # in time, about; 30 s of `features=mel` have 1,292 frames
TREND = 25  # steps over which slow changes are averaged, to be subtracted
PEAK = 4  # steps to either side of the best shift that count as the same shift
AGREEING = 0.6  # of near-duplicates
HEARD = 0.1, 0.02  # share of the range of levels that a band exceeds in this share of the frames
LEAST_STEPS = 30  # of rows that can be distinguished, without their padding


class Changes(NamedTuple):
    """How the levels of a row change over time.

    Attributes:
        levels: float32 (bands, steps), without each band's trend.
        width: number of bands from the lowest to the highest that is heard, at least half of them.
    """

    levels: np.ndarray
    width: int


def compute_changes(row: np.ndarray) -> Changes:
    """Compute how the levels of features (bins, frames) change."""
    whole = expand_waveform(row)
    factor = max(1, whole.shape[1] // STEPS)  # whatever the length of what is not padding
    levels = average_bands(trim_padding(whole))
    heard = (levels > levels.min() + HEARD[0] * np.ptp(levels)).mean(axis=1) > HEARD[1]
    bands, steps = len(levels), levels.shape[1] // factor
    width = max(np.flatnonzero(heard).max(initial=0) + 1, bands - bands // 2)
    levels = levels[:, : steps * factor].reshape(bands, steps, factor).mean(axis=2)
    size = min(TREND, steps)
    padded = np.pad(levels, ((0, 0), (size // 2 + 1, size - 1 - size // 2)), mode="edge")
    sums = np.cumsum(padded, axis=1, dtype=np.float64)
    return Changes(
        (levels - (sums[:, size:] - sums[:, :-size]) / size).astype(np.float32), int(width)
    )


def measure_agreement(one: Changes, other: Changes) -> float:
    """Measure how well changes agree at one shift in time, and at no other.

    Returns:
        `(highest - elsewhere) / (1 - elsewhere)`, where `highest` is the highest correlation at any
        shift up to half of the steps and `elsewhere` the highest at another: repetitive music
        correlates with itself, and with other music of its tempo, at many. 0 if either has fewer
        than 30 steps, such as a clip that is silent but for a second.
    """
    width = min(one.width, other.width)
    first, second = (
        each.levels[:width] - each.levels[:width].mean(axis=0) for each in (one, other)
    )
    if min(first.shape[1], second.shape[1]) < LEAST_STEPS:
        return 0.0
    steps = max(first.shape[1], second.shape[1])
    pair = [np.pad(each, ((0, 0), (0, steps - each.shape[1]))) for each in (first, second)]
    spectra = [np.fft.rfft(each, 2 * steps, axis=1) for each in pair]
    products = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=0), 2 * steps)
    energy = [np.append(0, np.cumsum((each**2).sum(axis=0))) for each in pair]
    shifts = np.arange(-(steps // 2), steps // 2 + 1)  # second[t] is compared with first[t + shift]
    later, earlier = np.maximum(shifts, 0), np.maximum(-shifts, 0)
    overlap = (energy[0][steps - earlier] - energy[0][later]) * (
        energy[1][steps - later] - energy[1][earlier]
    )
    least = 0.1 * energy[0][-1] * energy[1][-1] + 1e-12  # lest a few steps decide
    correlations = products[shifts] / np.sqrt(np.maximum(overlap, least))
    best = int(correlations.argmax())
    others = correlations[np.abs(np.arange(len(shifts)) - best) > PEAK]
    elsewhere = max(0.0, float(others.max()))
    return (float(correlations[best]) - elsewhere) / max(1 - elsewhere, 1e-6)
