"""What a dataset, features, a split and a model must provide.

Any class with these attributes will do; it need not inherit from ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor


class Dataset(Protocol):
    """A collection of tracks.

    Attributes:
        name: short, such as "folder"; the names of stores and runs begin with it.
        duration: how many seconds of each track features are computed from.
    """

    name: str
    duration: float

    def tracks(self) -> Sequence[Any]:
        """List all tracks (`genreclf.data.Track`), always in the same order."""
        ...

    def genres(self) -> list[str]:
        """List the names of the tracks' genres, sorted."""
        ...


@runtime_checkable
class FeatureDataset(Dataset, Protocol):
    """A dataset that provides features instead of audio.

    Attributes:
        silence: value of a silent frame, in scaled units; None for the smallest value.
    """

    silence: float | None

    def rows(self) -> Iterator[np.ndarray]:
        """Yield the stored features (bins, frames) of each track, in the order of `tracks()`."""
        ...

    def scaling(self) -> tuple[float, float]:
        """Return (scale, offset): a stored value means `scale * stored + offset`."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Return plain values, cheap to get, that change if the features do, not if files move."""
        ...


@runtime_checkable
class DownloadableDataset(Dataset, Protocol):
    """A dataset that `genreclf download` can fetch.

    Attributes:
        root: the folder that the archives are unpacked into.
        archives: mappings with the keys `url` and `sha1`.
        expected: how many tracks it has, known before it is downloaded.
        known_bad: ids of tracks that are expected to be rejected, with the reasons.
    """

    root: Path
    archives: Sequence[Mapping[str, str]]
    known_bad: Mapping[str, str]

    @property
    def expected(self) -> int:
        """How many tracks it has."""
        ...


class Features(Protocol):
    """How a waveform becomes an array; settings are dataclass fields.

    Attributes:
        name: short, such as "mel".
        version: raise it whenever the same audio gives different values than before; 1 if missing.
        from_audio: whether they are computed from waveforms; False: the dataset provides them.
    """

    name: ClassVar[str]
    from_audio: ClassVar[bool]

    @property
    def sample_rate(self) -> int | None:
        """Sample rate of the waveforms it takes, in Hz; None for each file's own."""
        ...

    @property
    def duration(self) -> float:
        """The maximum length of the waveforms it takes, in seconds."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        ...

    @property
    def silence(self) -> tuple[float, ...]:
        """Values of a silent frame: one for all bins, or one per bin."""
        ...

    @property
    def stored(self) -> Features:
        """What a store keeps for these features: themselves, or the waveform."""
        ...

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,)."""
        ...


class Split(Protocol):
    """Chooses the rows of a store for training, validation and test."""

    def __call__(self, store: Any) -> dict[str, np.ndarray]:
        """Return the sorted rows of "train", "val" and, if there is one, "test" in a store."""
        ...


class Model(Protocol):
    """A network: a `torch.nn.Module` with `forward` and, optionally, these attributes.

    Attributes:
        min_size: the minimum number of bins and of frames (default: 1).
        embedding_size: size of the embedding that `forward(features, embedded=True)` also returns.
    """

    def __call__(self, features: Tensor) -> Tensor:
        """Compute the logits (batch, classes) of features (batch, bins, frames)."""
        ...
