"""The input of musicnn as features of a window, computed by processes without PyTorch."""

import dataclasses
from typing import ClassVar

import numpy as np

from genreclf.models.encoders.musicnn_features import (
    BANDS,
    HOP_LENGTH,
    PATCH,
    SAMPLE_RATE,
    compute_mel,
)
from genreclf.models.encoders.windowed import cut_patches


@dataclasses.dataclass(frozen=True)
class MusicnnPatches:
    """The patches of 3 s that musicnn takes, one after the other, filled up with patches of zeros.

    A patch of zeros alone means that there is no audio, or none that can be heard.
    """

    duration: float = 30.0  # s; longer clips are cut

    name: ClassVar[str] = "musicnn_patches"
    sample_rate: ClassVar[int] = SAMPLE_RATE
    version: ClassVar[int] = 1
    padded: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        """(bands, frames) of every clip."""
        frames = 1 + int(self.duration * SAMPLE_RATE) // HOP_LENGTH
        return BANDS, max(1, round(frames / PATCH)) * PATCH

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bands, frames) of a waveform (samples,) at 16 kHz."""
        patches = cut_patches(compute_mel(waveform), PATCH)
        values = np.zeros(self.shape, np.float32)
        values[:, : len(patches) * PATCH] = np.concatenate([*patches], axis=1)
        return values
