"""Several kinds of features of the same clip, one below the other."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from genreclf.audio.decode import resample
from genreclf.audio.descriptions import (
    build_features,
    describe_features,
    identify_features,
    locate_features,
)
from genreclf.audio.own_features import (
    check_features,
    compute_features,
    get_highest_rate,
    get_silence,
    get_stored,
    is_batched,
)
from genreclf.audio.settings import check_duration
from genreclf.errors import InputError
from genreclf.files import digest_values


@dataclasses.dataclass(frozen=True)
class ConcatenatedFeatures:
    """The bins of several kinds of features, in the given order.

    A file is decoded once, and its waveform resampled to the rate of each part; the values are
    those that the part has alone. If all parts have the same number of frames, they keep them.
    Otherwise there is one frame: a part with several gives each bin's mean, standard deviation and
    mean absolute change over time, as for `model=linear`.

    Two objects are equal if their parts compute equal values.

    Args:
        parts: features, or their descriptions: `_target_` and settings. The attribute holds
            descriptions.
        duration: seconds of a clip; longer clips are cut.

    Raises:
        InputError: there are no parts, two are equal, or one takes longer clips, computes in
            training, is itself concatenated or provides nothing.
    """

    parts: Sequence[Any] = dataclasses.field(compare=False)
    duration: float = 30.0  # s
    digest: str = dataclasses.field(init=False, default="")  # of what identifies the parts

    name: ClassVar[str] = "concat"
    version: ClassVar[int] = 1
    bin_axis: ClassVar[str] = "part"
    padded: ClassVar[bool] = False  # each part pads as it does alone

    def __post_init__(self) -> None:
        check_duration(self)
        if not self.parts or isinstance(self.parts, str):
            raise InputError(
                "features.parts: the features to concatenate are needed, such as "
                "features.parts=[musicnn,embedding]"
            )
        built = [build_features(p) if isinstance(p, dict) else p for p in self.parts]
        for part in built:
            if not hasattr(part, "name"):
                raise InputError(
                    f"features.parts: {part!r} is no object of a class of features; give one, such "
                    "as genreclf.audio.MelFrames()"
                )
        identities = [identify_features(part) for part in built]
        for number, part in enumerate(built):
            _check_part(part, self.duration)
            if identities[number] in identities[:number]:
                raise InputError(f"features.parts: {part.name} is there twice; leave one out")
        described = [locate_features(describe_features(part)) for part in built]
        object.__setattr__(self, "parts", described)
        object.__setattr__(self, "digest", digest_values(identities))
        object.__setattr__(self, "_built", built)

    @property
    def built(self) -> list[Any]:
        """The parts as objects."""
        return vars(self)["_built"]

    @property
    def sample_rate(self) -> int | None:
        """Hz: that of all parts, or None, each file's own, if they differ."""
        rates = {part.sample_rate for part in self.built}
        return rates.pop() if len(rates) == 1 else None

    @property
    def highest_rate(self) -> int | None:
        """Hz: the highest of the parts, or None if all take each file's own."""
        return max(filter(None, map(get_highest_rate, self.built)), default=None)

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        sizes = [part.shape for part in self.built]
        if self._keeps_frames():
            return sum(bins for bins, _ in sizes), sizes[0][1]
        return sum(bins * (1 if frames == 1 else 3) for bins, frames in sizes), 1

    @property
    def unit(self) -> str:
        """The parts' unit, if it is the same."""
        units = {getattr(part, "unit", None) for part in self.built}
        return str(units.pop()) if len(units) == 1 else "several"

    @property
    def silence(self) -> tuple[float, ...]:
        """Values of a silent frame, one per bin; 0 where there is a single frame."""
        if self.shape[1] == 1:
            return (0.0,)
        silences = [np.broadcast_to(get_silence(p), p.shape[0]) for p in self.built]
        return tuple(np.concatenate(silences).tolist())

    @property
    def trained_on(self) -> Any:
        """The tracks that the models among the parts have seen; no attribute without a model."""
        seen = [part.trained_on for part in self.built if hasattr(part, "trained_on")]
        if not seen:
            raise AttributeError("trained_on")
        if None in seen:
            return None
        first, *others = seen
        for other in others:
            first = first.merge(other)
        return first

    def check_available(self) -> None:
        """Check that each part can be computed.

        Raises:
            InputError: one cannot.
        """
        for part in self.built:
            check_features(part)

    @property
    def batched(self) -> bool:
        """Whether one process computes many clips at a time, for the sake of some part."""
        return any(map(is_batched, self.built))

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (bins, frames) of a waveform (samples,) at `sample_rate`."""
        clips = [(waveform, sample_rate)]
        return self.concatenate([self._compute(part, clips) for part in self.built])[0]

    def compute_batch(self, clips: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
        """Compute features (bins, frames) of clips: waveforms (samples,) and their sample rates."""
        return self.concatenate(
            [
                part.compute_batch(_cut(part, clips))
                if is_batched(part)
                else self._compute(part, clips)
                for part in self.built
            ]
        )

    @staticmethod
    def _compute(part: Any, clips: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
        return [compute_features(part, *clip) for clip in _cut(part, clips)]

    def concatenate(self, values: list[list[np.ndarray]]) -> list[np.ndarray]:
        """Concatenate the values of the parts, given for each part and clip."""
        kept = self._keeps_frames()
        return [
            np.concatenate([each if kept else compute_statistics(each) for each in clip])
            for clip in zip(*values, strict=True)
        ]

    def _keeps_frames(self) -> bool:
        return len({part.shape[1] for part in self.built}) == 1


def compute_statistics(values: np.ndarray) -> np.ndarray:
    """Compute (3 * bins, 1) of (bins, frames): means, standard deviations, mean absolute changes.

    Returns:
        For a single frame, the values themselves.
    """
    if values.shape[1] == 1:
        return values
    values = np.ascontiguousarray(values)  # as in stores: sums depend on the order in memory
    change = np.abs(np.diff(values, axis=1)).mean(axis=1)
    rows = [values.mean(axis=1), values.std(axis=1, ddof=1), change]
    return np.concatenate(rows)[:, None].astype(np.float32)


def _cut(part: Any, clips: Sequence[tuple[np.ndarray, int]]) -> list[tuple[np.ndarray, int]]:
    """Cut clips to what a part takes, and resample them to its sample rate."""
    return [
        resample(waveform[: int(part.duration * rate)], rate, part.sample_rate)
        for waveform, rate in clips
    ]


def _check_part(part: Any, duration: float) -> None:
    """Check that features can be a part of others.

    Raises:
        InputError: they cannot.
    """
    where = f"features.parts: {part.name}"
    if isinstance(part, ConcatenatedFeatures):
        raise InputError(f"{where} cannot be a part; name its parts instead")
    if getattr(part, "bin_axis", "") == "none":
        raise InputError(f"{where} does not describe a clip; choose other features")
    if not hasattr(part, "duration"):
        raise InputError(f"{where} cannot be computed from audio; choose other features")
    if get_stored(part) is not part:
        raise InputError(f"{where} has on_device=true, which stores waveforms; leave it out")
    longest: float = part.duration
    if longest > duration:
        raise InputError(f"{where} takes {longest:g} s; set features.duration={longest:g}, or more")
