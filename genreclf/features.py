"""Waveform to features: a float32 array of shape (bins, frames).

A class here is a kind of feature with its settings. `silence` is the value that a silent frame
has, which fills the gap when a clip is shifted in time. Two equal objects give equal features:
`settings()` of the object is what a store keeps, and compares with the config.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from genreclf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Mel:
    """Mel spectrogram in dB relative to the clip's loudest bin (paper, section III-B).

    Power spectrogram of centred Hann windows, Slaney's mel filters, then
    `10 * log10(power / max(power))`, cut off at `-top_db`: values in [-top_db, 0].
    The paper's setting is the default: 128 bins, 1,292 frames of 30 s.
    """

    sample_rate: int = 22050  # Hz
    duration: float = 30.0  # s; longer clips are cut, shorter ones end in silence
    n_fft: int = 2048  # samples
    hop_length: int = 512  # samples
    n_mels: int = 128
    top_db: float = 80.0  # dB

    name: ClassVar[str] = "mel"

    def __post_init__(self) -> None:
        """Refuse settings that no spectrogram can have."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
                raise InputError(f"features.{field.name}={value!r}: a number above 0 is needed")
            if isinstance(field.default, float):  # 30 and 30.0 are the same setting
                object.__setattr__(self, field.name, float(value))

    @property
    def silence(self) -> tuple[float, ...]:
        """Value of a silent frame, in dB; one for all bins."""
        return (-self.top_db,)

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        return self.n_mels, 1 + int(self.duration * self.sample_rate) // self.hop_length

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Features (bins, frames) of a waveform (samples,) at `sample_rate`."""
        import librosa

        clip = librosa.util.fix_length(waveform, size=int(self.duration * self.sample_rate))
        power = librosa.feature.melspectrogram(
            y=clip,
            sr=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
        )
        return librosa.power_to_db(power, ref=np.max, top_db=self.top_db).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Precomputed:
    """Features that a corpus brings along (`data=npz`); there is nothing left to compute."""

    name: ClassVar[str] = "precomputed"


Features = Mel | Precomputed


def settings(features: Features) -> dict[str, Any]:
    """Name and settings as plain values: the identity of the features."""
    return {"name": features.name, **dataclasses.asdict(features)}


def from_settings(stored: dict[str, Any]) -> Features:
    """The features whose `settings` these are.

    Raises:
        InputError: a name or a setting that this version does not know.
    """
    kinds = {kind.name: kind for kind in (Mel, Precomputed)}
    arguments = dict(stored)
    try:
        return kinds[arguments.pop("name")](**arguments)
    except (KeyError, TypeError) as error:
        raise InputError(f"features {stored} are not known to this version: {error}") from None
