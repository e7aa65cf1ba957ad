"""What encoders of waveforms share: a clip is divided into windows, their embeddings averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from genreclf.audio.decode import split_waveform
from genreclf.audio.sound_files import DecodeError
from genreclf.errors import InputError

SIZES: dict[Any, int] = {}  # number of values, by features; known after the first clip
CLIPS = {"core": 8, "cpu": 8, "cuda": 32}  # windows per batch, by where they are computed
FREE = 10.0  # s, windows of models that take audio of any length
SHORTEST = 0.1  # s, of a window that is set
TRIED = 2.0  # s of noise, on which the number of values is measured


class Windows(NamedTuple):
    """The windows of a clip, each (samples,) and equally long, and their audible seconds."""

    samples: list[np.ndarray]
    weights: list[float]


def check_window(features: Any, hint: str = "") -> None:
    """Reject a length of windows that is too short, and store 3 as 3.0; None stays.

    Args:
        features: features with the setting `window`, in seconds.
        hint: ends the message.

    Raises:
        InputError: it is not a number of at least 0.1 s.
    """
    window = features.window
    if window is None:
        return
    number = isinstance(window, int | float) and not isinstance(window, bool)
    if not number or not window >= SHORTEST:
        raise InputError(f"features.window={window!r}: at least {SHORTEST:g} s are needed{hint}")
    object.__setattr__(features, "window", float(window))


def cut_windows(waveform: np.ndarray, sample_rate: int, seconds: float) -> Windows:
    """Cut a waveform (samples,) into windows of this length; a shorter one is one window."""
    try:
        windows = [*split_waveform(waveform, sample_rate, sample_rate, seconds, whole=True)]
    except DecodeError:  # shorter than 2 s or hardly audible
        return Windows([waveform], [1.0])
    return Windows([each.samples for each in windows], [each.audible for each in windows])


def cut_patches(mel: np.ndarray, size: int) -> np.ndarray:
    """Cut (bands, frames) into patches (patches, bands, size).

    If more than half a patch is left at the end, one more patch ends there. Fewer frames than a
    patch are repeated.
    """
    frames = mel.shape[1]
    if frames < size:
        return np.take(mel, np.arange(size) % frames, axis=1)[None]
    starts = [*range(0, frames - size + 1, size)]
    if frames % size > size // 2:
        starts.append(frames - size)
    return np.stack([mel[:, start : start + size] for start in starts])


class Encoder(Protocol):
    """A loaded encoder.

    Attributes:
        seconds: length of its windows.
    """

    seconds: float

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Compute embeddings, float32 (windows, values), of windows (windows, samples)."""
        ...


class WindowedEmbedding:
    """An embedding of a clip, as one frame, from an encoder that is loaded by `_load`.

    Such encoders need seconds per clip and much memory, so one process computes all clips, on the
    GPU if there is one: see `genreclf.protocols.Features`.
    """

    unit: ClassVar[str] = "activation"
    bin_axis: ClassVar[str] = "unit"
    padded: ClassVar[bool] = False
    silence: ClassVar[tuple[float, ...]] = (0.0,)
    batched: ClassVar[bool] = True

    sample_rate: Any  # Hz

    def _load(self, place: str) -> Encoder:
        """Load the encoder, once per process, for "core" (one core), "cpu" or "cuda"."""
        raise NotImplementedError

    def _choose_place(self) -> str:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def shape(self) -> tuple[int, int]:
        """(values, 1) of every clip."""
        if self not in SIZES:
            noise = np.random.default_rng(0).normal(0, 0.1, int(TRIED * self.sample_rate))
            self(noise.astype(np.float32), self.sample_rate)
        return SIZES[self], 1

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (values, 1) of a waveform (samples,), on one core."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # it may be one of several processes
            return self._compute([(waveform, sample_rate)], "core")[0]

    def compute_batch(self, clips: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
        """Compute features (values, 1) of clips, on the GPU if there is one, else on all cores.

        Args:
            clips: waveforms (samples,) and their sample rates.
        """
        return self._compute(clips, self._choose_place())

    def _compute(self, clips: Sequence[tuple[np.ndarray, int]], place: str) -> list[np.ndarray]:
        encoder, most = self._load(place), CLIPS[place]
        cut = [cut_windows(*clip, encoder.seconds) for clip in clips]
        windows = [samples for each in cut for samples in each.samples]
        by_length: defaultdict[int, list[int]] = defaultdict(list)
        for number, samples in enumerate(windows):
            by_length[len(samples)].append(number)
        rows: dict[int, np.ndarray] = {}
        for numbers in by_length.values():
            for first in range(0, len(numbers), most):
                some = numbers[first : first + most]
                rows |= zip(some, encoder.embed(np.stack([windows[n] for n in some])), strict=True)
        embeddings, at = [], 0
        for each in cut:
            own = np.stack([rows[at + n] for n in range(len(each.samples))])
            embeddings.append(np.average(own, axis=0, weights=each.weights)[:, None])
            at += len(each.samples)
        SIZES[self] = len(embeddings[0])
        return [each.astype(np.float32) for each in embeddings]
