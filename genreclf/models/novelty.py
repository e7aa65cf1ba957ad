"""Rates how unlike a model's training data some features are.

The score is the Mahalanobis distance of a summary of the features from the mean of the training
tracks (Lee and others 2018 take that of the network's embedding), as a share of held-out tracks.
Noise, hum and speech are farther from music there than in an embedding: a network that was trained
to tell genres apart maps noise into the midst of them. Noise is like music in most numbers of a
summary, and unlike it in the few that describe its texture, so these count more. A short clip, or
one without high frequencies, is farther from the mean than a whole one; 40 % of that is allowed
for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Self

import numpy as np
import torch
from torch import Tensor

from genreclf.data.summaries import EXTENT, TEXTURE, summarise_features

SHRINKAGE = 0.35  # of the correlations towards none, so that few tracks are enough
COMPONENTS = 128  # most directions in which the variance differs from that of the rest
WEIGHT = 5.0  # of the squared distance of the texture
ALLOWED = 0.4  # of the effect of the extent; at 1, more noise at 8 kHz would pass for music
THRESHOLD = 0.95  # above which features are unknown: 5 % of held-out music is
LEAST = 20  # tracks, for training and for calibration
ARRAYS = ("mean", "scale", "directions", "texture", "slopes")
MOST = 2048  # numbers in a summary; the time to fit grows with their cube
NORMAL = NormalDist()  # SciPy's form takes longer to import than a clip to predict


@dataclass(frozen=True)
class Novelty:
    """How unlike the training data features are.

    Args:
        mean, scale: float64 (size,), of the summaries of the training tracks.
        directions: float64 (components, size): standardised summaries times these are subtracted
            from their squared length, which is divided by `rest`.
        rest: variance in all other directions.
        texture: float64 (4, 3): mean of the textures; what turns a deviation from it into a vector
            whose length is its distance.
        slopes: float64 (2,), by which the logarithm of the distance grows with the extent.
        centre, spread: of the log distances of held-out tracks, which are taken to be distributed
            normally: their median and 95th percentile are exact.
    """

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray
    rest: float
    texture: np.ndarray
    slopes: np.ndarray
    centre: float
    spread: float

    @classmethod
    def fit(cls, training: np.ndarray, held_out: np.ndarray, copies: np.ndarray) -> Self:
        """Fit to summaries (tracks, size).

        Args:
            training: of training tracks.
            held_out: of other tracks, which calibrate the score.
            copies: of copies of these that are shorter or lack high frequencies.
        """
        spectrum, texture, _ = _split(training)
        mean, scale = _standardise(spectrum)
        standard = (spectrum - mean) / scale
        correlations = standard.T @ standard / len(standard)
        variances, axes = np.linalg.eigh(correlations)
        variances = np.maximum(variances, 0) * (1 - SHRINKAGE) + SHRINKAGE
        kept = slice(-min(COMPONENTS, len(mean)), None)
        rest = float(variances[0])
        directions = (axes * np.sqrt(1 / rest - 1 / variances))[:, kept].T
        fitted = cls(
            mean, scale, directions, rest, _fit_texture(texture), np.zeros(EXTENT), 0.0, 1.0
        )
        both = np.concatenate([held_out, copies])
        columns = np.column_stack([np.ones(len(both)), _split(both)[2]])
        slopes = np.linalg.lstsq(columns, np.log(fitted._measure(both)), rcond=1e-6)[0][1:]
        fitted = replace(fitted, slopes=ALLOWED * np.maximum(slopes, 0))
        centre, high = np.quantile(np.log(fitted._measure(held_out)), [0.5, THRESHOLD])
        spread = max(float(high - centre), 1e-3) / NORMAL.inv_cdf(THRESHOLD)
        return replace(fitted, centre=float(centre), spread=spread)

    def rate(self, features: Iterable[np.ndarray]) -> np.ndarray:
        """Rate features, each (bins, frames): 0 to 1, the share of held-out music less strange."""
        summaries = np.stack([summarise_features(row) for row in features])
        distances = (np.log(self._measure(summaries)) - self.centre) / self.spread
        return np.array([NORMAL.cdf(distance) for distance in distances])

    def _measure(self, summaries: np.ndarray) -> np.ndarray:
        spectrum, texture, extent = _split(summaries)
        standard = (spectrum - self.mean) / self.scale
        projected = standard @ self.directions.T
        squared = (standard**2).sum(axis=1) / self.rest - (projected**2).sum(axis=1)
        squared += WEIGHT * (((texture - self.texture[0]) @ self.texture[1:]) ** 2).sum(axis=1)
        return np.sqrt(np.maximum(squared, 1e-12)) / np.exp(extent @ self.slopes)

    def list_tensors(self) -> dict[str, Tensor]:
        """List what a checkpoint stores; `read` restores it."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays["calibration"] = np.array([self.rest, self.centre, self.spread])
        return {
            name: torch.from_numpy(np.ascontiguousarray(values)).float()
            for name, values in arrays.items()
        }

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> Self | None:
        """Read what `list_tensors` gave; None if it was of another version."""
        if set(tensors) != {*ARRAYS, "calibration"}:
            return None
        arrays = {name: tensors[name].double().numpy() for name in ARRAYS}
        rest, centre, spread = tensors["calibration"].tolist()
        return cls(**arrays, rest=rest, centre=centre, spread=spread)


def _split(summaries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split summaries (tracks, size) into those of the spectrum, the texture and the extent."""
    last = summaries.shape[1] - EXTENT
    first = last - TEXTURE
    return summaries[:, :first], summaries[:, first:last], summaries[:, last:]


def _standardise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and scale of each column; columns that hardly vary get the largest scale."""
    scale = values.std(axis=0)
    most = max(scale.max(), 1e-12)
    return values.mean(axis=0), np.where(scale > 1e-6 * most, scale, most)


def _fit_texture(texture: np.ndarray) -> np.ndarray:
    mean, scale = _standardise(texture)
    standard = (texture - mean) / scale
    correlations = standard.T @ standard / len(standard) + 0.05 * np.eye(len(mean))
    variances, axes = np.linalg.eigh(correlations)
    return np.concatenate([mean[None], axes / np.sqrt(variances) / scale[:, None]])


def limit_band(row: np.ndarray, number: int) -> np.ndarray:
    """Silence the highest bins of a spectrogram, as in a copy with a lower sample rate.

    Args:
        row: features (bins, frames) whose bins are frequencies.
        number: a different number for each track; the band ends at 45 to 95 % of the bins.
    """
    limited = row.copy()
    limited[round((0.45 + 0.5 * (number * 0.618 % 1)) * len(row)) :] = row.min()
    return limited


def shorten(row: np.ndarray, number: int) -> np.ndarray:
    """Keep a part of features (bins, frames), followed by silence, as in a copy of few seconds.

    Args:
        row: the features, of the usual length.
        number: a different number for each track; a tenth to a third of the frames is kept.
    """
    frames = row.shape[1]
    count = max(2, round((0.1 + 0.23 * (number * 0.618 % 1)) * frames))
    start = (frames - count) * (number % 5) // 5
    shorter = np.full_like(row, row.min())
    shorter[:, :count] = row[:, start : start + count]
    return shorter


def make_copies(row: np.ndarray, number: int, spectral: bool) -> list[np.ndarray]:
    """Make copies of features that are shorter and, if their bins are frequencies, lack high ones.

    Args:
        row: the features (bins, frames).
        number: a different number for each track.
        spectral: whether the bins are frequencies.
    """
    copies = [shorten(row, number)]
    return [*copies, *(limit_band(each, number) for each in (row, *copies) if spectral)]
