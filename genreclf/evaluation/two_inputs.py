"""The inputs of a network and of a novelty score that rates other features, from one window.

Without PyTorch, as the processes that decode import it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from genreclf.audio.decode import resample
from genreclf.audio.own_features import compute_features, get_highest_rate


@dataclasses.dataclass(frozen=True)
class TwoInputs:
    """Features of the same window, one after the other.

    Args:
        first: the input of the network.
        second: what the novelty score rates.
    """

    first: Any
    second: Any

    name: ClassVar[str] = "two_inputs"
    sample_rate: ClassVar[None] = None  # the file's own: each resamples once, as it does alone
    padded: ClassVar[bool] = False

    @property
    def duration(self) -> float:
        """Seconds of the waveforms it takes, at most."""
        return self.first.duration

    @property
    def highest_rate(self) -> int | None:
        """Hz that the network needs; files of much lower rates get a note."""
        return get_highest_rate(self.first)

    @property
    def shape(self) -> tuple[int, int]:
        """(1, values) of every clip."""
        return 1, sum(bins * frames for bins, frames in (self.first.shape, self.second.shape))

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 (1, values) of a waveform (samples,)."""
        values = []
        for features in (self.first, self.second):
            clip = resample(waveform, sample_rate, features.sample_rate)
            values.append(compute_features(features, *clip).ravel())
        return np.concatenate(values)[None]

    def divide(self, rows: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Divide rows into the features of both kinds, each (bins, frames)."""
        size = int(np.prod(self.first.shape))
        return (
            [row[0, :size].reshape(self.first.shape) for row in rows],
            [row[0, size:].reshape(self.second.shape) for row in rows],
        )
