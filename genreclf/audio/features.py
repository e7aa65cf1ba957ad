"""Waveform to features: a float32 array of shape (bins, frames). librosa is the reference.

A class here is a kind of feature with its settings; an object of it is called with a waveform
(samples,) and its sample rate in Hz. Each has

- `sample_rate` in Hz of the waveforms it takes, None for a file's own; `duration` in seconds;
- `shape`, (bins, frames) of every clip;
- `silence`, the values of a silent frame, one or one a bin, which fill the gap when a clip is
  shifted in time;
- `stored`, the features that a store keeps for it: itself, or the waveform where the features are
  to be computed in training, for a whole batch on the device (`batch_features`).

Two equal objects give equal features: `settings()` of the object is what a store keeps, and
compares with the config.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from genreclf.audio import filterbank
from genreclf.errors import InputError


class _Features:
    """What all features have in common."""

    def __post_init__(self) -> None:
        _check_settings(self)

    @property
    def silence(self) -> tuple[float, ...]:
        """Values of a silent frame: one for all bins, or one a bin."""
        return (0.0,)

    @property
    def stored(self) -> Any:
        """What a store keeps for these features: themselves, unless a class says otherwise."""
        return self


@dataclasses.dataclass(frozen=True)
class _FixedRate(_Features):
    """What features of clips of one sample rate and length have in common."""

    sample_rate: int = 22050  # Hz
    duration: float = 30.0  # s; longer clips are cut, shorter ones end in silence

    @property
    def samples(self) -> int:
        """Of every clip."""
        return int(self.duration * self.sample_rate)

    def clip(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """The waveform (samples,), cut or filled up with zeros."""
        import librosa

        if sample_rate != self.sample_rate:
            raise ValueError(f"waveform at {sample_rate} Hz, {self.sample_rate} Hz are needed")
        return librosa.util.fix_length(waveform, size=self.samples)


@dataclasses.dataclass(frozen=True)
class Waveform(_FixedRate):
    """The samples themselves, (1, samples): for features that are computed in training."""

    name: ClassVar[str] = "waveform"

    @property
    def shape(self) -> tuple[int, int]:
        """(1, samples) of every clip."""
        return 1, self.samples

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features (bins, frames) of a waveform (samples,)."""
        return self.clip(waveform, sample_rate)[None].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Spectral(_FixedRate):
    """What features of a power spectrogram have in common: centred Hann windows."""

    n_fft: int = 2048  # samples
    hop_length: int = 512  # samples
    on_device: bool = False  # store waveforms, compute features of each batch in training

    @property
    def frames(self) -> int:
        """Of every clip."""
        return 1 + self.samples // self.hop_length

    @property
    def stored(self) -> Any:
        """The waveform where features are computed in training."""
        return Waveform(self.sample_rate, self.duration) if self.on_device else self


@dataclasses.dataclass(frozen=True)
class Mel(_Spectral):
    """Mel spectrogram in dB relative to the clip's loudest bin (paper, section III-B).

    Power spectrogram, Slaney's mel filters, then `10 * log10(power / max(power))`, cut off at
    `-top_db`: values in [-top_db, 0]. The paper's setting is the default: 128 bins, 1,292 frames
    of 30 s.
    """

    n_mels: int = 128
    top_db: float = 80.0  # dB

    name: ClassVar[str] = "mel"

    @property
    def silence(self) -> tuple[float, ...]:
        """In dB."""
        return (-self.top_db,)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Least and greatest value that is possible; None where there is no bound."""
        return -self.top_db, 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        return self.n_mels, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features (bins, frames) of a waveform (samples,)."""
        return _compute_mel_db(self.clip(waveform, sample_rate), sample_rate, self)


@dataclasses.dataclass(frozen=True)
class MFCC(Mel):
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of `Mel`, lowest first.

    As the mel spectrogram is relative to the clip's loudest bin, so is coefficient 0: it differs
    from that of `librosa.feature.mfcc(y=...)` by a constant a clip.
    """

    n_mfcc: int = 13

    name: ClassVar[str] = "mfcc"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_mfcc > self.n_mels:
            raise InputError(f"features.n_mfcc={self.n_mfcc}: at most n_mels={self.n_mels}")

    @property
    def value_range(self) -> None:
        """No bound."""

    @property
    def silence(self) -> tuple[float, ...]:
        """Coefficient 0 of `-top_db` in all mel bins, and zeros."""
        return (-self.top_db * self.n_mels**0.5, *(0.0,) * (self.n_mfcc - 1))

    @property
    def shape(self) -> tuple[int, int]:
        """(coefficients, frames) of every clip."""
        return self.n_mfcc, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features (bins, frames) of a waveform (samples,)."""
        import librosa

        mel = super().__call__(waveform, sample_rate)
        return librosa.feature.mfcc(S=mel, n_mfcc=self.n_mfcc).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Chroma(_Spectral):
    """Energy of the pitch classes from C upwards, the strongest of a frame 1: values in [0, 1].

    The report's "MFCG". A' is taken to be 440 Hz: tuning is not estimated clip by clip, which
    librosa does by default, so that a batch on the device gives the same.
    """

    n_chroma: int = 12

    name: ClassVar[str] = "chroma"

    @property
    def shape(self) -> tuple[int, int]:
        """(pitch classes, frames) of every clip."""
        return self.n_chroma, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features (bins, frames) of a waveform (samples,)."""
        import librosa

        clip = self.clip(waveform, sample_rate)
        filters = filterbank.build_chroma_filters(sample_rate, self.n_fft, self.n_chroma)
        power = filterbank.apply_filters(clip, filters, self.n_fft, self.hop_length)
        return librosa.util.normalize(power, norm=np.inf, axis=0)


@dataclasses.dataclass(frozen=True)
class MelFrames(_Features):
    """A few frames picked evenly from the mel spectrogram of a file at its own sample rate.

    Of the T frames of the clip those at `floor((k + 0.5) * T / frames)`, k = 0, 1, ...: coarse in
    time, small to store. dB relative to the loudest bin of all T frames, as in `Mel`; a short clip
    is not filled up.
    """

    duration: float = 30.0  # s; longer clips are cut
    n_fft: int = 2048  # samples
    hop_length: int = 512  # samples
    n_mels: int = 128
    top_db: float = 80.0  # dB
    frames: int = 128

    name: ClassVar[str] = "mel_frames"
    sample_rate: ClassVar[None] = None  # the file's own

    @property
    def silence(self) -> tuple[float, ...]:
        """In dB."""
        return (-self.top_db,)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Least and greatest value that is possible; None where there is no bound."""
        return -self.top_db, 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        return self.n_mels, self.frames

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features (bins, frames) of a waveform (samples,)."""
        mel = _compute_mel_db(waveform, sample_rate, self)
        picked = (np.arange(self.frames) + 0.5) * mel.shape[1] / self.frames
        return mel[:, picked.astype(int)]


@dataclasses.dataclass(frozen=True)
class Precomputed(_Features):
    """Features that a dataset brings along (`data=npz`); there is nothing left to compute."""

    name: ClassVar[str] = "precomputed"


Computed = Mel | MFCC | Chroma | Waveform | MelFrames  # from audio
Features = Computed | Precomputed
KINDS = {kind.name: kind for kind in (Mel, MFCC, Chroma, Waveform, MelFrames, Precomputed)}


def _compute_mel_db(clip: np.ndarray, sample_rate: int, setting: Mel | MelFrames) -> np.ndarray:
    """Mel spectrogram (n_mels, frames) of a clip, dB relative to its loudest bin."""
    import librosa

    filters = filterbank.build_mel_filters(sample_rate, setting.n_fft, setting.n_mels)
    power = filterbank.apply_filters(clip, filters, setting.n_fft, setting.hop_length)
    return librosa.power_to_db(power, ref=np.max, top_db=setting.top_db).astype(np.float32)


def _check_settings(features: Any) -> None:
    """Refuse settings that no features can have; 30 and 30.0 become the same setting."""
    for field in dataclasses.fields(features):
        value = getattr(features, field.name)
        if isinstance(field.default, bool):
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise InputError(f"features.{field.name}={value!r}: a number above 0 is needed")
        if isinstance(field.default, float):
            object.__setattr__(features, field.name, float(value))


def describe_features(features: Any) -> dict[str, Any]:
    """Name and settings as plain values: the identity of the features."""
    return {"name": features.name, **dataclasses.asdict(features)}


def identify_features(features: Any) -> dict[str, Any]:
    """What decides which values these features have: class, version, settings off their defaults.

    The class goes by the name it is exported under, so that a module can move, and a new setting
    that is left at its default changes nothing.
    """
    kind = type(features)
    package, _, _ = kind.__module__.rpartition(".")
    exported = package if package == "genreclf.audio" else kind.__module__
    changed = {
        field.name: getattr(features, field.name)
        for field in dataclasses.fields(features)
        if getattr(features, field.name) != field.default
    }
    version = getattr(features, "version", 1)
    return {"class": f"{exported}.{kind.__qualname__}", "version": version, **changed}


def build_features(stored: dict[str, Any]) -> Features:
    """The features whose `settings` these are.

    Raises:
        InputError: a name or a setting that this version does not know.
    """
    arguments = dict(stored)
    try:
        return KINDS[arguments.pop("name")](**arguments)
    except (KeyError, TypeError) as error:
        raise InputError(f"features {stored} are not known to this version: {error}") from None
