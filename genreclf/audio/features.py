"""Features: they turn a waveform into a float32 array (bins, frames). librosa is the reference.

Each class is a kind of feature that satisfies `genreclf.protocols.Features`; its dataclass fields
are the settings. Equal objects compute equal features. Raise a class's `version` whenever the same
audio gives different values than before: stored features are then recomputed.

What holds for features of any class, such as one of your own, is in `own_features`; how they are
stored as plain values and identified is in `descriptions`.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from genreclf.audio import filterbank
from genreclf.audio.settings import check_settings
from genreclf.errors import InputError


class _Features:
    """What all features share."""

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def silence(self) -> tuple[float, ...]:
        """Values of a silent frame: one for all bins, or one per bin."""
        return (0.0,)

    @property
    def stored(self) -> Any:
        """What a store keeps for these features: here the features themselves."""
        return self


@dataclasses.dataclass(frozen=True)
class _FixedRate(_Features):
    """What features of clips of a fixed sample rate and length share."""

    sample_rate: int = 22050  # Hz
    duration: float = 30.0  # s; longer clips are cut, shorter ones end in silence

    @property
    def samples(self) -> int:
        """Number of samples of a clip."""
        return int(self.duration * self.sample_rate)

    def clip(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Cut a waveform (samples,) to the clip's length, or pad it with zeros."""
        if sample_rate != self.sample_rate:
            raise ValueError(f"waveform at {sample_rate} Hz; {self.sample_rate} Hz needed")
        return np.pad(waveform[: self.samples], (0, max(0, self.samples - len(waveform))))


@dataclasses.dataclass(frozen=True)
class Waveform(_FixedRate):
    """The samples themselves, (1, samples), for features that are computed in training."""

    name: ClassVar[str] = "waveform"
    unit: ClassVar[str] = "amplitude"
    bin_axis: ClassVar[str] = "none"

    @property
    def shape(self) -> tuple[int, int]:
        """(1, samples) of every clip."""
        return 1, self.samples

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,)."""
        return self.clip(waveform, sample_rate)[None].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Spectral(_FixedRate):
    """What features of a power spectrogram share: centred Hann windows."""

    n_fft: int = 2048  # samples
    hop_length: int = 512  # samples
    on_device: bool = False  # store waveforms; compute features per batch in training

    @property
    def frames(self) -> int:
        """Number of frames of a clip: centred windows that lie within n_fft // 2 of its ends."""
        return 1 + (self.samples - self.n_fft % 2) // self.hop_length

    @property
    def stored(self) -> Any:
        """The waveform if features are computed in training, else the features themselves."""
        return Waveform(self.sample_rate, self.duration) if self.on_device else self


@dataclasses.dataclass(frozen=True)
class Mel(_Spectral):
    """Mel spectrogram in dB relative to the clip's loudest bin (paper, section III-B).

    Power spectrogram, Slaney's mel filters, then `10 * log10(power / max(power))`, clipped to
    [-top_db, 0]. The defaults are the paper's: 128 bins, 1,292 frames of 30 s.
    """

    n_mels: int = 128
    top_db: float = 80.0  # dB

    name: ClassVar[str] = "mel"
    unit: ClassVar[str] = "dB"
    bin_axis: ClassVar[str] = "frequency"

    @property
    def silence(self) -> tuple[float, ...]:
        """The level of silence, in dB."""
        return (-self.top_db,)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Least and greatest possible value in dB."""
        return -self.top_db, 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        return self.n_mels, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,)."""
        clip = self.clip(waveform, sample_rate)
        filters = filterbank.build_mel_filters(sample_rate, self.n_fft, self.n_mels)
        return filterbank.compute_levels(clip, filters, self.n_fft, self.hop_length, self.top_db)


@dataclasses.dataclass(frozen=True)
class MFCC(Mel):
    """Mel-frequency cepstral coefficients: the orthonormal DCT-II of `Mel`, lowest first.

    The mel spectrogram is relative to the clip's loudest bin, and therefore coefficient 0 differs
    from that of `librosa.feature.mfcc(y=...)` by a constant per clip.
    """

    n_mfcc: int = 13

    name: ClassVar[str] = "mfcc"
    unit: ClassVar[str] = "cepstral coefficient"
    bin_axis: ClassVar[str] = "coefficient"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_mfcc > self.n_mels:
            raise InputError(f"features.n_mfcc={self.n_mfcc}: at most n_mels={self.n_mels}")

    @property
    def value_range(self) -> None:
        """None: unbounded."""

    @property
    def silence(self) -> tuple[float, ...]:
        """Coefficients of a frame with `-top_db` in every mel bin: all but the first are 0."""
        return (-self.top_db * self.n_mels**0.5, *(0.0,) * (self.n_mfcc - 1))

    @property
    def shape(self) -> tuple[int, int]:
        """(coefficients, frames) of every clip."""
        return self.n_mfcc, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,)."""
        import librosa

        mel = super().__call__(waveform, sample_rate)
        return librosa.feature.mfcc(S=mel, n_mfcc=self.n_mfcc).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Chroma(_Spectral):
    """Chromagram: energy of each pitch class from C upwards, relative to the frame's strongest.

    The paper's "MFCG"; values in [0, 1]. A4 is 440 Hz: tuning is not estimated per clip, as librosa
    does by default, because `on_device` computes whole batches.
    """

    n_chroma: int = 12

    name: ClassVar[str] = "chroma"
    unit: ClassVar[str] = "share of the strongest"
    bin_axis: ClassVar[str] = "pitch class"

    @property
    def shape(self) -> tuple[int, int]:
        """(pitch classes, frames) of every clip."""
        return self.n_chroma, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,)."""
        import librosa

        clip = self.clip(waveform, sample_rate)
        filters = filterbank.build_chroma_filters(sample_rate, self.n_fft, self.n_chroma)
        power = filterbank.apply_filters(clip, filters, self.n_fft, self.hop_length)
        return librosa.util.normalize(power, norm=np.inf, axis=0)


@dataclasses.dataclass(frozen=True)
class MelFrames(_Features):
    """Evenly spaced frames of a mel spectrogram: coarse in time and small to store.

    Of a clip's T frames, those at `floor((k + 0.5) * T / frames)`, k = 0, 1, ... In dB relative to
    the loudest bin of all T frames, as in `Mel`; a short clip is not padded.
    """

    sample_rate: int = 44100  # Hz
    duration: float = 30.0  # s; longer clips are cut
    n_fft: int = 2048  # samples
    hop_length: int = 512  # samples
    n_mels: int = 128
    top_db: float = 80.0  # dB
    frames: int = 128

    name: ClassVar[str] = "mel_frames"
    unit: ClassVar[str] = "dB"
    bin_axis: ClassVar[str] = "frequency"
    padded: ClassVar[bool] = False
    version: ClassVar[int] = 2  # 1: at each file's own sample rate

    @property
    def silence(self) -> tuple[float, ...]:
        """The level of silence, in dB."""
        return (-self.top_db,)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Least and greatest possible value in dB."""
        return -self.top_db, 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        return self.n_mels, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,)."""
        if sample_rate != self.sample_rate:
            raise ValueError(f"waveform at {sample_rate} Hz; {self.sample_rate} Hz needed")
        filters = filterbank.build_mel_filters(sample_rate, self.n_fft, self.n_mels)
        mel = filterbank.compute_levels(waveform, filters, self.n_fft, self.hop_length, self.top_db)
        picked = (np.arange(self.frames) + 0.5) * mel.shape[1] / self.frames
        return mel[:, picked.astype(int)]


@dataclasses.dataclass(frozen=True)
class Precomputed(_Features):
    """Features that a dataset provides (`data=npz`); there is nothing to compute."""

    name: ClassVar[str] = "precomputed"


Features = Mel | MFCC | Chroma | Waveform | MelFrames | Precomputed
KINDS = {kind.name: kind for kind in (Mel, MFCC, Chroma, Waveform, MelFrames, Precomputed)}
