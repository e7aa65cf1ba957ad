"""The HDF5 file of features: its schema, and a lazy reader.

Layout, for n tracks:

    /features          (n, bins, frames)  stored values; feature = scale * value + offset
    /label             (n,)  int64        index into the attribute `classes`
    /track_id, /artist, /album, /split, /license, /path  (n,)  UTF-8 text, empty where unknown
    /artist_id         (n,)               likewise; missing in stores of earlier versions
    /duration          (n,)  float32      seconds of decoded audio
    /row_sha1          (n,)  text         hexadecimal SHA-1 of the row; equal audio gives equal rows
    /content           (n,)  text         digest of the audio that the row was made from
    /note              (n,)  text         notes on the file; missing if there are none at all
    /rejected/{track_id, genre, path, reason}      tracks without features, and why

Attributes: `schema`, `digest`, `dataset` (name), `features` (JSON: name and settings), `identity`
(JSON: class, version and changed settings of the features), `audio` and `table` (digests),
`classes`, `scale`, `offset`, `silence`.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genreclf.audio.descriptions import describe_features, identify_features
from genreclf.audio.own_features import get_stored
from genreclf.data.datasets.track import Track
from genreclf.errors import InputError
from genreclf.files import digest_values
from genreclf.paths import refuse_special
from genreclf.protocols import Features

SCHEMA = 3
COLUMNS = ("id", "genre", "artist", "album", "split", "license")  # of the table of tracks


@dataclasses.dataclass(frozen=True)
class Source:
    """What a store is made from; its digest does not depend on where the files are.

    Args:
        dataset: name of the dataset; not part of the digest.
        features: name and settings, from `describe_features`; not part of the digest.
        identity: class, version and changed settings of the features.
        audio: digest of the audio of all tracks, in order.
        table: digest of their ids, genres, tags and official parts, in order.
    """

    dataset: str
    features: dict[str, Any]
    identity: dict[str, Any]
    audio: str
    table: str

    @property
    def digest(self) -> str:
        """The SHA-1 of schema, features, audio and table, as hexadecimal digits."""
        return digest_values([SCHEMA, self.identity, self.audio, self.table])


def describe_source(
    dataset: str, features: Features, tracks: Iterable[Track], contents: Any
) -> Source:
    """Describe the source of a store of these tracks.

    Args:
        dataset: name of the dataset.
        features: the stored features.
        tracks: the tracks, in the order of the rows.
        contents: digest of the audio of each track, or plain values that identify the rows.
    """
    table = [
        [getattr(track, column) for column in COLUMNS] + [track.artist_id] * bool(track.artist_id)
        for track in tracks
    ]
    return Source(
        dataset,
        describe_features(features),
        identify_features(features),
        digest_values(contents),
        digest_values(table),
    )


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Converts stored values to features: `scale * value + offset`.

    `silence` holds the feature values of a silent frame: one for all bins, or one per bin.
    """

    scale: float = 1.0
    offset: float = 0.0
    silence: tuple[float, ...] = (0.0,)


class Store:
    """A finished store. Columns are read immediately, features on demand.

    Attributes:
        source: what it was made from.
        labels: int64 (n,), index into `classes`.
        track_ids, artists, albums, splits, licenses, paths, artist_ids: lists of n texts, empty
            where unknown.
        durations: float32 (n,), seconds of decoded audio.
        row_sha1: list of n hexadecimal digests of the rows.
        contents: list of n digests of the audio; empty text if the rows did not come from audio.
        notes: list of n texts, what the user should know about the files; empty if nothing.
        shape: (bins, frames) of a row.
        dtype: data type of the stored values.
        rejected: a dict with track_id, genre, path and reason for each track without features.

    Raises:
        InputError: there is no such file, or it is not a finished store of this schema.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened: tuple[int, Any] | None = None
        try:
            with self._open() as file:
                self._read_columns(file)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such store") from None
        except InputError:
            raise
        except BlockingIOError:  # only if HDF5_USE_FILE_LOCKING asks for locks
            raise InputError(f"{self.path}: locked: another process has it open") from None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: not a store of this version ({error})") from None

    def _open(self) -> Any:
        refuse_special(self.path)
        return h5py.File(self.path, "r", locking=False)  # a finished store never changes

    def _read_columns(self, file: Any) -> None:
        attributes = file.attrs
        if attributes["schema"] != SCHEMA:
            raise InputError(
                f"{self.path}: schema {attributes['schema']}, this version reads {SCHEMA}; "
                "delete the file, and the same command builds it again"
            )
        dataset = str(attributes["dataset"])
        if re.search(r"[/\\]|\$\{", dataset):  # folders of runs are named after it
            raise InputError(f"{self.path}: the name of its dataset, {dataset!r}, is not a word")
        self.source = Source(
            dataset,
            json.loads(attributes["features"]),
            json.loads(attributes["identity"]),
            str(attributes["audio"]),
            str(attributes["table"]),
        )
        self.classes = [str(name) for name in np.atleast_1d(attributes["classes"])]
        silence = tuple(map(float, np.atleast_1d(attributes["silence"])))
        self.scaling = Scaling(float(attributes["scale"]), float(attributes["offset"]), silence)
        self.shape: tuple[int, int] = file["features"].shape[1:]
        self.dtype: np.dtype = file["features"].dtype
        self.labels = file["label"][:]
        self.durations = file["duration"][:]
        self.row_sha1 = [sha1.decode() for sha1 in file["row_sha1"][:]]
        texts = ("track_id", "artist", "album", "split", "license", "path", "content")
        (
            self.track_ids,
            self.artists,
            self.albums,
            self.splits,
            self.licenses,
            self.paths,
            self.contents,
        ) = (_read_texts(file[name]) for name in texts)
        numbered = "artist_id" in file
        self.artist_ids = _read_texts(file["artist_id"]) if numbered else [""] * len(self.labels)
        self.notes = _read_texts(file["note"]) if "note" in file else [""] * len(self.labels)
        rejected = {name: _read_texts(column) for name, column in file["rejected"].items()}
        self.rejected = [
            dict(zip(rejected, row, strict=True)) for row in zip(*rejected.values(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def noted(self) -> list[dict[str, str]]:
        """A dict with track_id, path and note for each track that has a note."""
        columns = self.track_ids, self.paths, self.notes
        return [
            {"track_id": track_id, "path": path, "note": note}
            for track_id, path, note in zip(*columns, strict=True)
            if note
        ]

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read the stored values (len(rows), bins, frames) of these rows, without scaling."""
        features = self._get_file()["features"]
        values = np.empty((len(rows), *self.shape), self.dtype)
        for place, row in zip(values, rows, strict=True):  # a single call is 50 times slower
            place[...] = features[row]
        return values

    def read_features(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read float32 features (len(rows), bins, frames) of these rows, in their own unit."""
        scaling = self.scaling
        return self.read(rows).astype(np.float32) * scaling.scale + scaling.offset

    def _get_file(self) -> Any:
        """Return the file, opened once in each process: a handle must not survive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def check_features(self, features: Features) -> None:
        """Check that the store was made for these features.

        Raises:
            InputError: it was not; the message names the first setting that differs.
        """
        stored = get_stored(features)
        identity = identify_features(stored)
        if identity == self.source.identity:
            return
        wanted, made = describe_features(stored), self.source.features
        for key in sorted({*made, *wanted}, key=lambda key: (key != "name", key)):
            if key in made and key in wanted and made[key] != wanted[key]:
                raise InputError(
                    f"{self.path} was made with features {key}={made[key]!r}, the config says "
                    f"{wanted[key]!r}; name another store=..., or delete this one"
                )
        raise InputError(
            f"{self.path} was made by {format_identity(self.source.identity)}, the config says "
            f"{format_identity(identity)}; name another store=..., or delete this one"
        )


def format_identity(identity: dict[str, Any]) -> str:
    """Format class and version, such as `genreclf.audio.Mel, version 1`."""
    return f"{identity['class']}, version {identity['version']}"


def digest_split(store: Store, split: dict[str, np.ndarray]) -> str:
    """Compute the SHA-1 of what a model is trained and tested on: rows and genres of each part.

    Names of tracks, artists and folders do not count, unless the split depends on them.
    """
    parts = {
        part: [[store.row_sha1[row], store.classes[store.labels[row]]] for row in rows]
        for part, rows in split.items()
    }
    return digest_values([store.classes, dataclasses.astuple(store.scaling), parts])


def _read_texts(column: Any) -> list[str]:
    return [str(text) for text in column.asstr(errors="surrogateescape")[:]]  # as paths are
