"""Numbers that summarise features over time, whatever the features are.

A spectrogram and any other features (bins, frames) are treated alike. Waveforms, which have a
single bin, are turned into a spectrogram first.
"""

import numpy as np

FRAMES = 128  # most frames of a row that are looked at, evenly spaced
BANDS = 32  # most bands into which the bins are averaged
WINDOW, HOP = 1024, 512  # samples, of the spectrogram of a waveform
TEXTURE, EXTENT = 3, 2  # numbers in a summary: see `measure_texture`; silent bins, missing frames
HEARD = 0.02  # share of the frames in which a bin that is not silent exceeds the lowest value
RANGE = 80.0  # dB below the loudest value, its floor


def summarise_features(row: np.ndarray) -> np.ndarray:
    """Summarise features (bins, frames) by the levels of their bands and how these change.

    They are, for at most 32 bands, the mean, the standard deviation and the mean absolute change
    from frame to frame; for the mean over all bins, its percentiles and deviation, also relative to
    that of the bands; how much neighbouring bins differ; and the share of the lowest values. The
    last five are the `TEXTURE` and the `EXTENT`.

    Args:
        row: the features; constant frames at their end (padding) do not count.

    Returns:
        float64 (size,); of a single frame, its values and zeros.
    """
    if row.shape[1] == 1:
        return np.append(row[:, 0].astype(np.float64), np.zeros(TEXTURE + EXTENT))
    expanded = expand_waveform(row)
    trimmed = trim_padding(expanded)
    if trimmed.shape[1] < expanded.shape[1]:  # the padding begins within the last frames
        trimmed = trimmed[:, : trimmed.shape[1] - min(4, trimmed.shape[1] // 6)]
    values = pick_frames(trimmed).astype(np.float64)
    mean, deviation = values.mean(axis=1), values.std(axis=1)
    change = np.abs(np.diff(values, axis=1)).mean(axis=1)
    level = values.mean(axis=0)
    least, span = values.min(), np.ptp(values) + 1e-9
    others = [
        np.abs(np.diff(values, axis=0)).mean() if len(values) > 1 else 0.0,
        np.abs(np.diff(mean)).mean() if len(values) > 1 else 0.0,
        level.std() / (deviation.mean() + span / 160),
        (values <= least + span / 160).mean(),
        level.std(),
    ]
    bands = [average_bands(column[:, None])[:, 0] for column in (mean, deviation, change)]
    percentiles = np.percentile(level, [5, 25, 50, 75, 95])
    heard = np.flatnonzero((values > least + span / 160).mean(axis=1) > HEARD)
    extent = [
        1 - (heard[-1] + 1) / len(values) if len(heard) else 0.0,
        np.log2(expanded.shape[1] / trimmed.shape[1]),
    ]
    return np.concatenate([*bands, others, percentiles, measure_texture(values), extent])


def measure_texture(values: np.ndarray) -> np.ndarray:
    """Measure how much the bands of (bins, frames) change, and how much they do so together.

    Bands of noise change independently and little, whatever its colour; those of music change with
    its notes and beats. Bins that do not change are left out.

    Returns:
        float64 (3,): the correlation of neighbouring bands over time; the deviation of the mean of
        all bands, each standardised; the logarithm of their mean deviation.
    """
    span = np.ptp(values) + 1e-9
    bands = values[values.std(axis=1) > span / 160]
    if len(bands) < 2:
        return np.zeros(TEXTURE)
    bands = average_bands(bands)
    deviation = bands.std(axis=1)
    standard = (bands - bands.mean(axis=1, keepdims=True)) / (deviation[:, None] + span / 1000)
    together = (standard[1:] * standard[:-1]).mean()
    return np.array([together, standard.mean(axis=0).std(), np.log(deviation.mean() + span / 1000)])


def expand_waveform(row: np.ndarray) -> np.ndarray:
    """Turn a waveform (1, samples) into levels in dB (bands, frames); leave other features."""
    if len(row) > 1 or row.shape[1] < 4 * WINDOW:
        return row
    starts = np.arange(0, row.shape[1] - WINDOW + 1, HOP)
    frames = np.lib.stride_tricks.sliding_window_view(row[0], WINDOW)[starts] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, 1:]) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1], 2 * BANDS).astype(int)) - 1
    bands = np.add.reduceat(power, edges, axis=1).T
    levels = 10 * np.log10(np.maximum(bands / max(bands.max(), 1e-30), 1e-30))
    return np.maximum(levels, -RANGE).astype(np.float32)


def trim_padding(row: np.ndarray) -> np.ndarray:
    """Cut off the frames at the end that all equal the last one: clips are padded with silence."""
    differing = np.flatnonzero((row != row[:, -1:]).any(axis=0))
    last = differing[-1] + 1 if len(differing) else 0
    return row[:, :last] if last >= 2 else row


def pick_frames(row: np.ndarray) -> np.ndarray:
    """Pick at most `FRAMES` frames, evenly spaced."""
    if row.shape[1] <= FRAMES:
        return row
    return row[:, ((np.arange(FRAMES) + 0.5) * row.shape[1] / FRAMES).astype(int)]


def average_bands(values: np.ndarray, bands: int = BANDS) -> np.ndarray:
    """Average neighbouring bins of (bins, frames) into at most this many bands."""
    if len(values) <= bands:
        return values
    if len(values) % bands == 0:  # much faster
        return values.reshape(bands, -1, values.shape[1]).mean(axis=1)
    edges = np.arange(bands) * len(values) // bands
    counts = np.diff(np.append(edges, len(values)))
    return np.add.reduceat(values, edges, axis=0) / counts[:, None]
