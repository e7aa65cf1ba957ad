"""The HDF5 file of features: its schema, and a lazy reader.

Layout, for n tracks:

    /features          (n, bins, frames)  stored values; feature = scale * value + offset
    /label             (n,)  int64        index into the attribute `classes`
    /track_id, /artist, /album, /split, /license, /path  (n,)  UTF-8 text, empty where unknown
    /duration          (n,)  float32      seconds of audio that decoded
    /row_sha1          (n,)  text         hexadecimal, of the row; equal audio gives equal rows
    /rejected/{track_id, genre, path, reason}      tracks that gave no features, and why

Attributes: `schema`, `digest`, `features` and `dataset` (JSON: what the rows were made from),
`classes`, `scale`, `offset`, `silence`.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genreclf.errors import InputError

SCHEMA = 2


@dataclasses.dataclass(frozen=True)
class Source:
    """What a store is made from, as plain values: its identity."""

    features: dict[str, Any]
    dataset: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-1 over schema, feature settings and dataset, as hexadecimal digits."""
        text = json.dumps([SCHEMA, self.features, self.dataset], sort_keys=True)
        return hashlib.sha1(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How stored values are read: `scale * value + offset`.

    `silence` has the values of a silent frame in those units: one, or one a bin.
    """

    scale: float = 1.0
    offset: float = 0.0
    silence: tuple[float, ...] = (0.0,)


class Store:
    """A finished store. Columns are read at once, features when asked for, in each process anew.

    Attributes:
        labels: int64 (n,), index into `classes`.
        track_ids, artists, albums, splits, licenses, paths: lists of n texts, empty where unknown.
        durations: float32 (n,), seconds of audio that decoded.
        row_sha1: list of n hexadecimal digests of the rows.
        shape: (bins, frames) of a row.
        dtype: of the stored values.
        rejected: a dict with track_id, genre, path and reason for each track without features.

    Raises:
        InputError: no such file, or not a finished store of this schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened: tuple[int, Any] | None = None
        try:
            with h5py.File(self.path, "r") as file:
                self._read_columns(file)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such store") from None
        except (OSError, KeyError) as error:
            raise InputError(f"{self.path}: not a store of this version ({error})") from None

    def _read_columns(self, file: Any) -> None:
        attributes = file.attrs
        if attributes["schema"] != SCHEMA:
            raise InputError(
                f"{self.path}: schema {attributes['schema']}, this version reads {SCHEMA}; "
                "delete the file to have it made anew"
            )
        self.source = Source(
            json.loads(attributes["features"]),
            json.loads(attributes["dataset"]),
        )
        self.classes = [str(name) for name in np.atleast_1d(attributes["classes"])]
        silence = tuple(map(float, np.atleast_1d(attributes["silence"])))
        self.scaling = Scaling(float(attributes["scale"]), float(attributes["offset"]), silence)
        self.shape: tuple[int, int] = file["features"].shape[1:]
        self.dtype: np.dtype = file["features"].dtype
        self.labels = file["label"][:]
        self.durations = file["duration"][:]
        self.row_sha1 = [sha1.decode() for sha1 in file["row_sha1"][:]]
        texts = ("track_id", "artist", "album", "split", "license", "path")
        self.track_ids, self.artists, self.albums, self.splits, self.licenses, self.paths = (
            _read_texts(file[name]) for name in texts
        )
        rejected = {name: _read_texts(column) for name, column in file["rejected"].items()}
        self.rejected = [
            dict(zip(rejected, row, strict=True)) for row in zip(*rejected.values(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Stored values (len(rows), bins, frames) of these rows."""
        features = self._file()["features"]
        values = np.empty((len(rows), *self.shape), self.dtype)
        for place, row in zip(values, rows, strict=True):  # many at a call: fifty times as slow
            place[...] = features[row]
        return values

    def _file(self) -> Any:
        """The file, opened once a process: a handle must not cross a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), h5py.File(self.path, "r"))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def check(self, source: Source) -> None:
        """Refuse a store that was made from something else.

        Raises:
            InputError: names the first setting that differs, with both values.
        """
        for kind in ("features", "dataset"):
            made, wanted = getattr(self.source, kind), getattr(source, kind)
            for key in sorted({*made, *wanted}, key=lambda key: (key != "name", key)):
                if made.get(key) != wanted.get(key):
                    raise InputError(
                        f"{self.path} was made with {kind} {key}={made.get(key)!r}, the config "
                        f"says {wanted.get(key)!r}; name another store=..., or delete this one"
                    )


def _read_texts(column: Any) -> list[str]:
    return [str(text) for text in column.asstr()[:]]
