"""Rows of features for a store: from the dataset, copied from other stores, or extracted."""

import contextlib
import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.audio.batches import extract_in_order
from genreclf.audio.content import UNREADABLE
from genreclf.audio.descriptions import identify_features
from genreclf.audio.workers import Row
from genreclf.data.datasets.track import Track
from genreclf.data.joined_rows import JoinedRows, Rows
from genreclf.data.store import Store
from genreclf.data.unfinished_store import PARTIAL, UnfinishedRows, name_partial
from genreclf.errors import InputError
from genreclf.protocols import FeatureDataset

log = logging.getLogger(__name__)


class ProvidedRows:
    """The rows that a dataset provides, read once: large archives take long to decompress.

    Args:
        dataset: the dataset.
        count: number of its tracks.

    Attributes:
        first: the first row.
        lowest: the lowest stored value of the rows that were read and are finite.

    Raises:
        InputError: there is no row, or it is no array of numbers (bins, frames).
    """

    def __init__(self, dataset: FeatureDataset, count: int) -> None:
        self._name, self._duration, self._count = dataset.name, dataset.duration, count
        self._rows = iter(dataset.rows())
        try:
            self.first = np.asarray(next(self._rows))
        except StopIteration:
            raise InputError(f"data={self._name}: rows() gives none for {count} tracks") from None
        if self.first.ndim != 2 or self.first.dtype.kind not in "biuf":
            raise InputError(
                f"data={self._name}: rows() gives arrays of shape {self.first.shape} and dtype "
                f"{self.first.dtype}; numbers of shape (bins, frames) are needed"
            )
        self.lowest = math.inf

    def check(self, done: int) -> Iterator[Row]:
        """Yield the rows after the first `done`; reject rows without content.

        Raises:
            InputError: there are more or fewer rows than tracks.
        """
        number = 0
        for row in itertools.chain([self.first], self._rows):
            number += 1
            if number > self._count:
                raise InputError(f"data={self._name}: rows() gives more than {self._count} tracks")
            finite = bool(np.isfinite(row).all())
            if finite:
                self.lowest = min(self.lowest, float(row.min()))
            if number <= done:
                continue
            if not finite:
                yield "values that are not finite numbers"
            elif row.min() == row.max():
                yield f"silent: every value is {row.min()}"
            else:
                yield row, self._duration, ""
        if number < self._count:
            raise InputError(f"data={self._name}: rows() gives {number} for {self._count} tracks")


def extract_rows(
    tracks: Sequence[Track],
    contents: Sequence[str],
    features: Any,
    done: int,
    workers: int,
    path: Path,
) -> Iterator[Row]:
    """Yield rows in the order of the tracks.

    Rows that another store already has, for the same audio and features, are copied from there,
    even if it was interrupted before it was finished; those of concatenated features are put
    together from the stores of the parts.

    Args:
        tracks: all tracks of the store.
        contents: digest of the audio of each track.
        features: the stored features.
        done: how many tracks have a row already.
        workers: number of processes that extract features.
        path: the store; the others are in the same folder.

    Raises:
        InputError: the processes do not start, or features are not what they declare.
    """
    wanted = set(contents[done:])

    def find(kind: Any) -> dict[str, tuple[Rows, int]]:
        identity = identify_features(kind)
        stores = _open_stores(path.parent, identity)
        if kind is features:
            _warn_of_order(stores, tracks)
        return _find_rows([*_open_unfinished(path, identity), *stores], wanted)

    known = find(features)
    if hasattr(features, "concatenate") and not wanted <= known.keys():
        joined = JoinedRows(features, [*map(find, features.built)])
        known = _find_rows([joined], wanted) | known
    pending = list(zip(tracks, contents, strict=True))[done:]
    if copied := sum(content in known for _, content in pending):
        log.info("%d of %d tracks are copied from other stores", copied, len(pending))
    paths = (track.path for track, content in pending if content not in known)
    extracted = extract_in_order(paths, features, workers)
    with contextlib.closing(extracted):  # without this, an error would leave processes behind
        for _, content in pending:
            if content in known:
                store, row = known[content]
                yield store.read([row])[0], float(store.durations[row]), store.notes[row]
            else:
                yield next(extracted)


def _open_stores(folder: Path, identity: Mapping[str, Any]) -> list[Store]:
    """Open the finished stores of these features in a folder."""
    stores = []
    for path in sorted(folder.glob("*.h5")):
        with contextlib.suppress(InputError):  # of another version, or damaged
            stores.append(Store(path))
    return [store for store in stores if store.source.identity == identity]


def _open_unfinished(path: Path, identity: Mapping[str, Any]) -> list[UnfinishedRows]:
    """Open the stores of these features that were interrupted, except the one at `path`."""
    found = []
    for other in sorted(path.parent.glob(f"*{PARTIAL}")):
        if other != name_partial(path):
            with contextlib.suppress(OSError, KeyError, ValueError):  # damaged, or being written
                found.append(UnfinishedRows(other))
    return [rows for rows in found if rows.identity == identity]


def _warn_of_order(stores: Sequence[Store], tracks: Sequence[Track]) -> None:
    """Warn if a dataset lists its tracks in another order than before: it must always be one."""
    ids = [track.id for track in tracks]
    for store in stores:
        whole = sorted([*store.track_ids, *(track["track_id"] for track in store.rejected)])
        if whole == sorted(ids):
            accepted = set(store.track_ids)
            if [track_id for track_id in ids if track_id in accepted] != store.track_ids:
                log.warning(
                    "the dataset lists the tracks of %s in another order, so no run on it is "
                    "reused; tracks() should always return the same order",
                    store.path.name,
                )
                return


def _find_rows(stores: Sequence[Rows], wanted: set[str]) -> dict[str, tuple[Rows, int]]:
    """Find rows of stores that were made from this audio."""
    found: dict[str, tuple[Rows, int]] = {}
    for store in stores:
        rows = enumerate(store.contents)
        found |= {content: (store, row) for row, content in rows if content in wanted}
    found.pop(UNREADABLE, None)
    return found
