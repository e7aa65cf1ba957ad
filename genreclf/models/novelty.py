"""Rates how unlike a model's training data some features are.

The score is the Mahalanobis distance of a summary of the features from the mean of the training
tracks (Lee and others 2018 take that of the network's embedding), as a share of held-out tracks.
Noise, hum and speech are farther from music there than in an embedding: a network that was trained
to tell genres apart maps noise into the midst of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np
import torch
from torch import Tensor

from genreclf.data.summaries import summarise_features

SHRINKAGE = 0.35  # of the correlations towards none, so that few tracks are enough
COMPONENTS = 128  # most directions in which the variance differs from that of the rest
THRESHOLD = 0.95  # above which features are unknown: 5 % of held-out music is
LEAST = 20  # tracks, for training and for calibration
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
        centre, spread: of the log distances of held-out tracks, which are taken to be distributed
            normally: their median and 95th percentile are exact.
    """

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray
    rest: float
    centre: float
    spread: float

    @classmethod
    def fit(cls, training: np.ndarray, held_out: np.ndarray) -> Self:
        """Fit to summaries (tracks, size) of training tracks, calibrate with held-out ones."""
        mean = training.mean(axis=0)
        scale = training.std(axis=0)
        scale = np.where(scale > 1e-6 * max(scale.max(), 1e-12), scale, max(scale.max(), 1e-12))
        standard = (training - mean) / scale
        correlations = standard.T @ standard / len(standard)
        variances, axes = np.linalg.eigh(correlations)
        variances = np.maximum(variances, 0) * (1 - SHRINKAGE) + SHRINKAGE
        kept = slice(-min(COMPONENTS, len(mean)), None)
        rest = float(variances[0])
        directions = (axes * np.sqrt(1 / rest - 1 / variances))[:, kept].T
        fitted = cls(mean, scale, directions, rest, 0.0, 1.0)
        centre, high = np.quantile(np.log(fitted._measure(held_out)), [0.5, THRESHOLD])
        spread = max(float(high - centre), 1e-3) / NORMAL.inv_cdf(THRESHOLD)
        return cls(mean, scale, directions, rest, float(centre), spread)

    def rate(self, features: Iterable[np.ndarray]) -> np.ndarray:
        """Rate features, each (bins, frames): 0 to 1, the share of held-out music less strange."""
        summaries = np.stack([summarise_features(row) for row in features])
        distances = (np.log(self._measure(summaries)) - self.centre) / self.spread
        return np.array([NORMAL.cdf(distance) for distance in distances])

    def _measure(self, summaries: np.ndarray) -> np.ndarray:
        standard = (summaries - self.mean) / self.scale
        projected = standard @ self.directions.T
        squared = (standard**2).sum(axis=1) / self.rest - (projected**2).sum(axis=1)
        return np.sqrt(np.maximum(squared, 1e-12))

    def list_tensors(self) -> dict[str, Tensor]:
        """List what a checkpoint stores; `read` restores it."""
        numbers = np.array([self.rest, self.centre, self.spread])
        arrays = {"mean": self.mean, "scale": self.scale, "directions": self.directions}
        return {
            name: torch.from_numpy(np.ascontiguousarray(values)).float()
            for name, values in {**arrays, "calibration": numbers}.items()
        }

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Read what `list_tensors` gave."""
        mean, scale, directions, numbers = (
            tensors[name].double().numpy()
            for name in ("mean", "scale", "directions", "calibration")
        )
        return cls(mean, scale, directions, *map(float, numbers))


def limit_band(row: np.ndarray, number: int) -> np.ndarray:
    """Silence the highest bins of a spectrogram, as in a copy with a lower sample rate.

    Args:
        row: features (bins, frames) whose bins are frequencies.
        number: a different number for each track; the band ends at 45 to 95 % of the bins.
    """
    limited = row.copy()
    limited[round((0.45 + 0.5 * (number * 0.618 % 1)) * len(row)) :] = row.min()
    return limited
