"""Precomputed features in NumPy archives, such as the paper's own `features_*.npz`.

An archive has the arrays `features`, `labels` and `track_ids`. `features` has the shape (tracks,
bins, frames), or (tracks, bins) for a single frame, such as embeddings, and any numeric dtype.
`labels` are names, or integers that number the classes; one for each track. Optional arrays:
`split`, `artist`, `album`, and the scalars `scale` (not 0) and `offset`: a value means
`scale * stored + offset`; `sample_rate`, in Hz, of the audio that the rows were computed from; and
`genreclf`, in which `genreclf embed` records the features.
"""

import glob
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.data.datasets.arrays import (
    open_archive,
    read_array,
    read_checksums,
    read_columns,
    read_scalar,
)
from genreclf.data.datasets.labels import check_classes, name_genres
from genreclf.data.datasets.track import Track, check_unique, rename_tracks
from genreclf.data.recorded_features import RECORD, parse_description
from genreclf.data.spelling import check_renaming
from genreclf.errors import InputError
from genreclf.paths import explain_irregular, format_path, locate_path


class Npz:
    """The rows of one or several archives.

    Args:
        path: an archive, or a pattern such as `features_*.npz` for several, read in sorted order.
        scale: replaces the archives' own, which defaults to 1.
        offset: replaces the archives' own, which defaults to 0.
        classes: names of the classes for integer labels, by number; None keeps the numbers.
        silence: value of a silent frame, in scaled units; None for the smallest stored value.
        duration: seconds of audio that a row represents.
        sample_rate: Hz of the audio that the rows were computed from; replaces the archives' own.
            None, without one in the archives either: that of the features.
        rename: new names of genres, such as {"hiphop": "Hip-Hop"}, in place of those in `classes`.
    """

    name = "npz"

    def __init__(
        self,
        path: str | Path,
        scale: float | None = None,
        offset: float | None = None,
        classes: Sequence[str] | None = None,
        silence: float | None = None,
        duration: float = 30,
        sample_rate: float | None = None,
        rename: Mapping[str, str] | str | None = None,
    ) -> None:
        numbers = {"scale": scale, "offset": offset, "silence": silence, "sample_rate": sample_rate}
        for name, value in numbers.items():
            if value is not None and not _is_finite(value):
                raise InputError(f"data.{name}={value}: a number is needed")
        if sample_rate is not None and sample_rate <= 0:
            raise InputError(f"data.sample_rate={sample_rate}: a number of Hz above 0 is needed")
        if scale == 0:
            raise InputError("data.scale=0 would make all features equal; another number is needed")
        self.path, self.silence, self.duration = str(path), silence, duration
        self.classes, self.rename = check_classes(classes), check_renaming(rename)
        self._scale, self._offset, self._sample_rate = scale, offset, sample_rate

    def files(self) -> list[Path]:
        """List the archives, sorted.

        Raises:
            InputError: nothing matches the path.
        """
        path = locate_path(self.path)
        if path.is_file():  # even if its name looks like a pattern
            return [path]
        found = sorted(map(Path, glob.glob(str(path)))) or [path]  # noqa: PTH207
        if fault := next(filter(None, map(explain_irregular, found)), ""):
            raise InputError(f"data.path={format_path(self.path)}: {fault}")
        return found

    def identity(self) -> dict[str, Any]:
        """Describe how the rows are read, and the checksums of the archives' content.

        Raises:
            InputError: nothing matches the path, or a file is not an archive.
        """
        return {
            "scale": self._scale,
            "offset": self._offset,
            "classes": self.classes,
            "silence": self.silence,
            "arrays": [read_checksums(file) for file in self.files()],
        }

    def tracks(self) -> list[Track]:
        """List one track per row.

        Raises:
            InputError: there are no tracks, an array is missing or has the wrong shape, labels are
                not one name or whole number for each track, or a track id occurs twice.
        """
        return list(self._tracks)

    @cached_property
    def _tracks(self) -> list[Track]:
        tracks = [track for file in self.files() for track in self._read_tracks(file)]
        if not tracks:
            raise InputError(f"data.path={self.path}: no tracks in it")
        check_unique([track.id for track in tracks], f"data.path={self.path}")
        return rename_tracks(tracks, self.rename)

    def genres(self) -> list[str]:
        """List the names that occur in the labels, sorted."""
        return sorted({track.genre for track in self._tracks})

    def scaling(self) -> tuple[float, float]:
        """Read (scale, offset) of the stored values."""
        pairs = {self._read_scaling(file) for file in self.files()}
        if len(pairs) > 1:
            raise InputError(f"data.path={self.path}: archives of different scale or offset")
        scale, offset = pairs.pop()
        return (
            scale if self._scale is None else float(self._scale),
            offset if self._offset is None else float(self._offset),
        )

    def check_features(self, features: Any) -> None:
        """Refuse features of another sample rate than that of the audio of these rows.

        Raises:
            InputError: the sample rates differ, or one was set for features that have none.
        """
        wanted = getattr(features, "sample_rate", None)
        if wanted is None:
            if self._sample_rate is not None:
                raise InputError(
                    f"data.sample_rate={self._sample_rate}: features={features.name} have no "
                    "sample rate to compare it with; leave it out, or set features=mel_frames or "
                    "whichever the rows are"
                )
            return
        rates = {self._sample_rate}
        if self._sample_rate is None:
            rates = {self._read_sample_rate(file, float(wanted)) for file in self.files()}
        if others := sorted(rate for rate in rates if rate is not None and rate != wanted):
            raise InputError(
                f"data.path={self.path}: rows of audio at {others[0]:g} Hz, but features of audio "
                f"at {wanted} Hz: set features.sample_rate={others[0]:g}, or data.sample_rate if "
                "the archive is wrong"
            )

    def read_recorded(self) -> dict[str, Any] | None:
        """Read which features `genreclf embed` recorded; None if it did not write the archives.

        Returns:
            `features` (from `describe_features`) and `identity` (from `identify_features`).

        Raises:
            InputError: the archives have different features, or some record none.
        """
        files = self.files()
        found = [_read_recorded(file) for file in files]
        for file, each in zip(files, found, strict=True):
            if (each and each["identity"]) != (found[0] and found[0]["identity"]):
                raise InputError(
                    f"data.path={self.path}: {files[0].name} and {file.name} hold different "
                    "features; train on archives of the same ones"
                )
        return found[0]

    def rows(self) -> Iterator[np.ndarray]:
        """Yield the features (bins, frames) of each track, in the order of `tracks()`.

        Raises:
            InputError: features are not numbers, do not have the shape (tracks, bins, frames), or
                differ in shape from archive to archive.
        """
        first = None
        for file in self.files():
            with open_archive(file) as archive:
                features = read_array(archive, file, "features")
            count = len(read_columns(file)["track_ids"])
            if features.ndim == 2:
                features = features[:, :, None]
            if features.ndim != 3 or features.dtype.kind not in "biuf" or features.itemsize > 8:
                raise InputError(
                    f"{file}: features of shape {features.shape} and dtype {features.dtype}; "
                    "numbers of shape (tracks, bins, frames) or (tracks, bins) are needed"
                )
            if len(features) != count:
                raise InputError(f"{file}: {len(features)} rows of features, {count} track_ids")
            first = first or (features.shape[1:], features.dtype)
            if first != (features.shape[1:], features.dtype):
                raise InputError(
                    f"{file}: rows are {features.shape[1:]} {features.dtype}, "
                    f"those of the first archive {first[0]} {first[1]}"
                )
            yield from features

    def _read_scaling(self, file: Path) -> tuple[float, float]:
        with open_archive(file) as archive:
            scale = read_scalar(archive, file, "scale", 1.0)
            offset = read_scalar(archive, file, "offset", 0.0)
        if scale == 0 and self._scale is None:
            raise InputError(f"{file}: 'scale' is 0, which would make all features equal")
        return scale, offset

    def _read_sample_rate(self, file: Path, default: float) -> float:
        with open_archive(file) as archive:
            return read_scalar(archive, file, "sample_rate", default)

    def _read_tracks(self, file: Path) -> list[Track]:
        columns = read_columns(file)
        count = len(columns["track_ids"])
        genres = name_genres(columns["labels"], self.classes, file)
        texts = {name: columns[name] for name in ("split", "artist", "album") if name in columns}
        for name, column in {"genre": genres, **texts}.items():
            if len(column) != count:
                raise InputError(f"{file}: {len(column)} values of {name} for {count} track_ids")
        return [
            Track(
                columns["track_ids"][row],
                genres[row],
                **{name: column[row] for name, column in texts.items()},
            )
            for row in range(count)
        ]


def _read_recorded(file: Path) -> dict[str, Any] | None:
    with open_archive(file) as archive:
        if RECORD not in archive:
            return None
        return parse_description(file, read_array(archive, file, RECORD).tolist())


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
