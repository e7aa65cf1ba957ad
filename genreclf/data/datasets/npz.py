"""Precomputed features in NumPy archives, such as the paper's own `features_*.npz`.

An archive has the arrays `features`, `labels` and `track_ids`. `features` has the shape (tracks,
bins, frames), or (tracks, bins) for a single frame, such as embeddings, and any numeric dtype.
`labels` are names, or integers that number the classes. Optional arrays: `split`, `artist`,
`album`, and the scalars `scale` and `offset`: a value means `scale * stored + offset`.
"""

import glob
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.data.datasets.track import PARTS, Track
from genreclf.errors import InputError

DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class Npz:
    """The rows of one or several archives.

    Args:
        path: an archive, or a pattern such as `features_*.npz` for several, read in sorted order.
        scale: replaces the archives' own, which defaults to 1.
        offset: replaces the archives' own, which defaults to 0.
        classes: names of the classes for integer labels, by number; None keeps the numbers.
        silence: value of a silent frame, in scaled units; None for the smallest stored value.
        duration: seconds of audio that a row represents.
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
    ) -> None:
        for name, value in {"scale": scale, "offset": offset, "silence": silence}.items():
            if not isinstance(value, int | float | None):
                raise InputError(f"data.{name}={value}: a number is needed")
        self.path, self.silence, self.duration = str(path), silence, duration
        self.classes = list(classes) if classes is not None else None
        self._scale, self._offset = scale, offset

    def files(self) -> list[Path]:
        """List the archives, sorted.

        Raises:
            InputError: nothing matches the path.
        """
        found = sorted(map(Path, glob.glob(str(Path(self.path).expanduser()))))  # noqa: PTH207
        if not found:
            raise InputError(f"data.path={self.path}: no such file")
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
            "arrays": [_read_checksums(file) for file in self.files()],
        }

    def tracks(self) -> list[Track]:
        """List one track per row.

        Raises:
            InputError: there are no tracks, an array is missing or has the wrong length, labels
                have no name, or a track id occurs twice.
        """
        tracks = [track for file in self.files() for track in self._read_tracks(file)]
        if not tracks:
            raise InputError(f"data.path={self.path}: no tracks in it")
        counts = Counter(track.id for track in tracks)
        if twice := [track_id for track_id, count in counts.items() if count > 1]:
            shown = ", ".join(twice[:10]) + (", ..." if len(twice) > 10 else "")
            raise InputError(
                f"data.path={self.path}: {len(twice)} track ids occur more than once ({shown}); "
                "each track may be there only once, or it ends up in training and in test"
            )
        return tracks

    def genres(self) -> list[str]:
        """List the names that occur in the labels, sorted."""
        return sorted({track.genre for track in self.tracks()})

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
                count = len(read_array(archive, file, "track_ids"))
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
            return _read_scalar(archive, file, "scale", 1.0), _read_scalar(
                archive, file, "offset", 0.0
            )

    def _read_tracks(self, file: Path) -> Iterator[Track]:
        with open_archive(file) as archive:
            ids = decode_texts(read_array(archive, file, "track_ids"))
            columns = {"genre": self._name_genres(read_array(archive, file, "labels"), file)}
            for name in ("split", "artist", "album"):
                if name in archive:
                    columns[name] = decode_texts(read_array(archive, file, name))
        for name, column in columns.items():
            if len(column) != len(ids):
                raise InputError(f"{file}: {len(column)} values of {name} for {len(ids)} track_ids")
        if "split" in columns:
            columns["split"] = [
                PARTS.get(part.casefold(), part.casefold()) for part in columns["split"]
            ]
        for number, track_id in enumerate(ids):
            yield Track(id=track_id, **{name: column[number] for name, column in columns.items()})

    def _name_genres(self, labels: np.ndarray, file: Path) -> list[str]:
        if self.classes is None or labels.dtype.kind not in "iu":
            return decode_texts(labels)
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise InputError(
                f"{file}: labels {labels.min()} to {labels.max()}, but data.classes names "
                f"{len(self.classes)} classes (0 to {len(self.classes) - 1})"
            )
        return [self.classes[label] for label in labels]


def _read_checksums(file: Path) -> dict[str, str]:
    """Read the CRC-32 and size of each array from the directory of the .npz (ZIP) file."""
    with open_archive(file) as archive:
        return {
            member.filename: f"{member.CRC:08x} {member.file_size}"
            for member in archive.zip.infolist()
        }


def open_archive(file: Path) -> Any:
    """Open an archive of named arrays, each read on demand; InputError if it is not one."""
    try:
        archive = np.load(file, allow_pickle=False)
    except DAMAGE as error:
        raise InputError(f"{file}: not a readable .npz archive ({error})") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{file}: a single array; an .npz archive of named arrays is needed")
    return archive


def read_array(archive: Any, file: Path, name: str) -> np.ndarray:
    """Read one array in the machine's byte order; InputError if it is missing or damaged."""
    if name not in archive:
        raise InputError(f"{file}: no array '{name}' (it has {', '.join(archive.files)})")
    try:
        values = archive[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise InputError(f"{file}: '{name}' is damaged ({error})") from None
        raise InputError(
            f"{file}: '{name}' holds pickled Python objects, which are not run; save it as numbers "
            "or as fixed-length text (array.astype(str))"
        ) from None
    except DAMAGE as error:
        raise InputError(f"{file}: '{name}' is damaged ({error})") from None
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _read_scalar(archive: Any, file: Path, name: str, default: float) -> float:
    if name not in archive:
        return default
    value = read_array(archive, file, name)
    if value.size != 1 or value.dtype.kind not in "biuf":
        raise InputError(f"{file}: '{name}' of shape {value.shape}; one number is needed")
    return float(value.item())


def decode_texts(column: np.ndarray) -> list[str]:
    """Convert a column of numbers, bytes or text to texts."""
    if column.dtype.kind == "S":
        column = np.char.decode(column, "utf-8")
    return [str(value) for value in column.tolist()]
