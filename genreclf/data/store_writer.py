"""Writes a store (the layout is in `store.py`), row by row, so that an interruption loses nothing.

The file is that of `unfinished_store` until it is finished; the next writer continues from there.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genreclf.data.datasets.track import Track
from genreclf.data.store import SCHEMA, Scaling, Source
from genreclf.data.unfinished_store import (
    ACCEPTED,
    REJECTED,
    decode_reasons,
    encode_reason,
    name_partial,
)
from genreclf.errors import InputError
from genreclf.files import check_free_disk
from genreclf.paths import name_sibling, refuse_special

log = logging.getLogger(__name__)
UNFINISHED = ("truncated file", "file signature not found")  # HDF5's messages about a cut-off file
COLUMNS = ("id", "artist", "album", "split", "license", "path", "artist_id")  # of accepted tracks
TEXT = h5py.string_dtype("utf-8")
PROGRESS = np.dtype([("state", "u1"), ("duration", "f4"), ("row_sha1", "S40"), ("reason", "S300")])


class StoreWriter:
    """Writes the rows of `tracks` in their order; a context manager.

    Args:
        path: path of the finished store.
        source: what the rows are made from.
        tracks: all tracks, in the order in which their rows will be written.
        shape: (bins, frames) of a row.
        dtype: data type of the stored values.
        contents: digest of the audio of each track; None if the rows do not come from audio.

    Raises:
        InputError: there are no tracks, the disk has no room for all rows, or there is an
            unfinished store made from something else.
    """

    def __init__(
        self,
        path: Path,
        source: Source,
        tracks: Sequence[Track],
        shape: Sequence[int],
        dtype: np.dtype,
        contents: Sequence[str] | None = None,
    ) -> None:
        if not tracks:
            raise InputError(f"{path}: there are no tracks to store")
        self.path, self.source, self.tracks = path, source, tracks
        self.contents = contents or [""] * len(tracks)
        self.shape, self.dtype = tuple(shape), dtype
        self.partial = name_partial(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done = 0
        with self._explain_disk_errors():
            self._file: Any = self._reopen() or self._create()
            # Keep the handles: opening a data set takes as long as writing a row.
            self._features, self._progress = self._file["features"], self._file["progress"]
        self._row = len(self._find_by_state(ACCEPTED))
        self.done = self._row + len(self._find_by_state(REJECTED))

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    @property
    def rejected(self) -> int:
        """Number of tracks rejected so far."""
        return self.done - self._row

    def _reopen(self) -> Any:
        """Open the unfinished file, if there is one that can be read."""
        if not self.partial.exists():
            return None
        refuse_special(self.partial)
        try:
            file: Any = h5py.File(self.partial, "r+", rdcc_nbytes=0)
        except BlockingIOError:
            raise InputError(
                f"{self.partial}: locked: another process has it open; wait until it has ended"
            ) from None
        except OSError as error:
            if not any(text in str(error) for text in UNFINISHED):  # the rows may be sound
                raise InputError(
                    f"{self.partial}: cannot be read ({' '.join(str(error).split())}); run the "
                    "same command again, or delete the file to start over"
                ) from None
            self._set_aside("was cut off")
            return None
        digest = file.attrs.get("digest")  # the last that is written of a new file
        if digest is not None and digest != self.source.digest:
            file.close()
            raise InputError(
                f"{self.partial}: an unfinished store of other data or other features; delete it, "
                "or name another store=..."
            )
        if digest is not None and isinstance(file.get("progress"), h5py.Dataset):
            return file
        file.close()
        self._set_aside("has no rows")
        return None

    def _set_aside(self, reason: str) -> None:
        """Rename the unfinished file, which cannot be continued."""
        kept = name_sibling(self.partial, ".damaged")
        self.partial.replace(kept)
        log.warning(
            "%s %s: all rows are computed again; it is now called %s",
            self.partial,
            reason,
            kept.name,
        )

    def _create(self) -> h5py.File:
        count = len(self.tracks)
        size = count * int(np.prod(self.shape)) * self.dtype.itemsize
        check_free_disk(self.path.parent, size, "the store")
        # Without a chunk cache, a full disk is noticed at the row that no longer fits.
        file = h5py.File(self.partial, "w", rdcc_nbytes=0)
        allocate_now = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        allocate_now.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        allocate_now.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        file.create_dataset("progress", data=np.zeros(count, PROGRESS))
        file.create_dataset(
            "features",
            (count, *self.shape),
            self.dtype,
            chunks=(1, *self.shape),
            maxshape=(count, *self.shape),
            dcpl=allocate_now,
        )
        file["content"] = np.array(self.contents, TEXT)  # for `UnfinishedRows`
        file.attrs["identity"] = json.dumps(self.source.identity)
        file.attrs["digest"] = self.source.digest
        file.flush()
        return file

    def accept(self, features: np.ndarray, duration: float, note: str = "") -> None:
        """Store the next track's row.

        Args:
            features: the row.
            duration: seconds of audio.
            note: what the user should know about the file, such as that it is truncated.

        Raises:
            InputError: the shape of the row is not that of the store, or the disk is full.
        """
        if features.shape != self.shape:
            raise InputError(
                f"track {self.tracks[self.done].id}: features of shape {features.shape}, "
                f"the store has {self.shape}"
            )
        row = np.ascontiguousarray(features, self.dtype)
        sha1 = hashlib.sha1(row.data).hexdigest()
        with self._explain_disk_errors():
            self._features[self._row] = row
            self._advance(ACCEPTED, duration, sha1.encode(), encode_reason(note))
        self._row += 1

    def reject(self, reason: str) -> None:
        """Record why the next track has no row."""
        with self._explain_disk_errors():
            self._advance(REJECTED, 0.0, b"", encode_reason(reason))

    def _advance(self, *progress: object) -> None:
        self._progress[self.done] = np.array(progress, PROGRESS)
        self._file.flush()
        self.done += 1

    @contextlib.contextmanager
    def _explain_disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
            raise InputError(
                f"{self.partial}: cannot be written after {self.done} of {len(self.tracks)} "
                f"tracks ({reason}); free some disk; the same command continues from there"
            ) from None

    def finish(self, scaling: Scaling) -> None:
        """Add the columns, cut off the unused rows, and move the file into place.

        Raises:
            InputError: some tracks have no row yet, or no track was accepted.
        """
        if self.done < len(self.tracks):
            raise InputError(f"{self.path}: {self.done} of {len(self.tracks)} tracks have a row")
        accepted, rejected = self._find_by_state(ACCEPTED), self._find_by_state(REJECTED)
        reasons = decode_reasons(self._progress["reason"][rejected])
        if not len(accepted):
            first = self.tracks[0].path or self.tracks[0].id
            raise InputError(
                f"no track of {len(self.tracks)} gave features; the first: {first}: {reasons[0]}"
            )
        with self._explain_disk_errors():
            self._add_columns(accepted, rejected, reasons, scaling)
            self._file.close()
        self.partial.replace(self.path)

    def _add_columns(
        self, accepted: np.ndarray, rejected: np.ndarray, reasons: list[str], scaling: Scaling
    ) -> None:
        self._features.resize(len(accepted), axis=0)
        classes = sorted({self.tracks[i].genre for i in accepted})
        labels = [classes.index(self.tracks[i].genre) for i in accepted]
        self._add("label", np.array(labels))
        for name in ("duration", "row_sha1"):
            self._add(name, self._progress[name][accepted])
        if any(notes := decode_reasons(self._progress["reason"][accepted])):
            self._add("note", np.array(notes, TEXT))
        self._add("content", np.array([self.contents[i] for i in accepted], TEXT))
        for name in COLUMNS:
            self._add("track_id" if name == "id" else name, self._encode_texts(name, accepted))
        for name, field in (("track_id", "id"), ("genre", "genre"), ("path", "path")):
            self._add(f"rejected/{name}", self._encode_texts(field, rejected))
        self._add("rejected/reason", np.array(reasons, TEXT))
        attributes = {"schema": SCHEMA, "classes": classes, **dataclasses.asdict(scaling)}
        attributes["features"] = json.dumps(self.source.features)
        attributes["identity"] = json.dumps(self.source.identity)
        attributes |= {name: getattr(self.source, name) for name in ("dataset", "audio", "table")}
        self._file.attrs.update(attributes)
        del self._file["progress"]

    def _find_by_state(self, state: int) -> np.ndarray:
        return np.flatnonzero(self._progress["state"] == state)

    def _encode_texts(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Encode a field of tracks for HDF5; the bytes of file names are kept as they are."""
        values = (getattr(self.tracks[i], field).replace("\0", "") for i in rows)
        return np.array([_encode(value) for value in values], TEXT)

    def _add(self, name: str, column: np.ndarray) -> None:
        if name in self._file:  # left by an interrupted `finish`
            del self._file[name]
        self._file[name] = column


def _encode(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # surrogates that are no bytes
        return text.encode(errors="backslashreplace")
