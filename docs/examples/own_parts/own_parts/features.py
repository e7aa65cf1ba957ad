"""A feature: the level of each octave over time."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

FLOOR = 1e-10  # power of silence: -100 dB


@dataclass(frozen=True)
class OctaveLevels:
    """Level of each octave band in dB, from `lowest` Hz upwards, `rate` times a second.

    genreclf mixes the audio down, resamples it to `sample_rate`, and cuts it to `duration`.
    """

    lowest: float = 62.5  # Hz
    octaves: int = 7
    rate: int = 10  # frames per second
    sample_rate: int = 22050  # Hz
    duration: float = 10.0  # s

    name: ClassVar[str] = "octave_levels"
    version: ClassVar[int] = 1  # raise it when the same audio gives other values than before

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        return self.octaves, int(self.duration * self.rate)

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,)."""
        bins, frames = self.shape
        length = sample_rate // self.rate
        padded = np.pad(waveform, (0, max(0, frames * length - len(waveform))))
        windows = padded[: frames * length].reshape(frames, length) * np.hanning(length)
        power = np.abs(np.fft.rfft(windows, axis=1)) ** 2 / length
        frequencies = np.fft.rfftfreq(length, 1 / sample_rate)
        octave = np.floor(np.log2(np.maximum(frequencies, 1e-9) / self.lowest))
        levels = [power[:, octave == number].sum(axis=1) for number in range(bins)]
        return (10 * np.log10(np.maximum(levels, FLOOR))).astype(np.float32)
