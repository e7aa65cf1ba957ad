"""ONNX files as encoders of waveforms or mel bands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from genreclf.errors import InputError
from genreclf.models.encoders.windowed import cut_patches

if TYPE_CHECKING:
    from genreclf.models.encoders.onnx_model import OnnxModel


class OnnxEncoder:
    """An ONNX model of waveforms, (..., samples).

    Args:
        model: the ONNX model.
        rate: sample rate of its windows in Hz.
        window: length of the windows in seconds; None for the input's own, else `length`.
        length: see `window`.

    Raises:
        InputError: the input does not take waveforms, or states another length than `window`.
    """

    def __init__(self, model: OnnxModel, rate: int, window: float | None, length: float) -> None:
        self.model, self.samples = model, (model.shape or [None])[-1]
        _check_front(model, 1, "waveforms are (samples,), (batch, samples) or (batch, 1, samples)")
        if self.samples and window is not None:
            raise InputError(
                f"features.window={window:g}: the model's input has {self.samples} samples; set "
                "features.window=null"
            )
        self.seconds = self.samples / rate if self.samples else window or length
        open_size = None if self.samples else (int(self.seconds * rate),)
        self.time = model.find_time(open_size, 0) if open_size else None

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Compute embeddings, float32 (windows, values), of windows (windows, samples)."""
        if self.samples and windows.shape[1] < self.samples:  # repeated, as musicnn does
            windows = np.stack([np.resize(each, self.samples) for each in windows])
        return self.model.run_each(windows, 1, self.time)


class OnnxMelEncoder:
    """An ONNX model of mel bands: (..., bands, frames) or (..., frames, bands).

    Args:
        model: the ONNX model.
        compute_mel: computes (bands, frames) of a window (samples,).
        bands: their number.
        rate: sample rate of its windows in Hz.
        window: length of the windows in seconds; None for `length`.
        length: see `window`.

    Raises:
        InputError: the input does not take so many bands, or states its frames and `window` is set.
    """

    def __init__(
        self,
        model: OnnxModel,
        compute_mel: Callable[[np.ndarray], np.ndarray],
        bands: int,
        rate: int,
        window: float | None,
        length: float,
    ) -> None:
        self.model, self.compute_mel = model, compute_mel
        wanted = f"mel bands are (bands, frames) or (frames, bands), with {bands} bands"
        _check_front(model, 2, wanted)
        last = model.shape[-2:]
        if bands not in last:
            raise InputError(
                f"{model.where}: its input is {model.input.shape}; {wanted}: set features.n_mels"
            )
        self.transposed = last[1] == bands
        self.frames = last[0] if self.transposed else last[1]
        if self.frames and window is not None:
            raise InputError(
                f"features.window={window:g}: the model's input has {self.frames} frames; set "
                "features.window=null"
            )
        self.seconds = window or length
        self.time = None
        if not self.frames:
            frames = compute_mel(np.zeros(int(self.seconds * rate), np.float32)).shape[1]
            size = (frames, bands) if self.transposed else (bands, frames)
            self.time = model.find_time(size, 0 if self.transposed else 1)

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Compute embeddings, float32 (windows, values), of windows (windows, samples).

        If the input states its number of frames, a window is divided into such patches, whose
        embeddings are averaged. If more than half a patch is left, one more ends there.
        """
        rows = []
        for window in windows:
            mel = self.compute_mel(window)
            patches = cut_patches(mel, self.frames) if self.frames else mel[None]
            given = patches.swapaxes(1, 2) if self.transposed else patches
            rows.append(self.model.run_each(given, 2, self.time).mean(axis=0))
        return np.stack(rows)


def _check_front(model: OnnxModel, rank: int, wanted: str) -> None:
    """Check the input's axes before the last `rank`: one for items and some of size 1, or none.

    Raises:
        InputError: they are others.
    """
    front = model.shape[: max(0, len(model.shape) - rank)]
    if len(model.shape) < rank or len(front) > 2 or any(size != 1 for size in front[1:]):
        raise InputError(f"{model.where}: its input is {model.input.shape}; {wanted}")
