"""Splits stores, and tracks that are not decoded yet, by any split; imports no scikit-learn."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np

from genreclf.data.datasets.track import Track
from genreclf.data.store import Store
from genreclf.errors import InputError, report_own_failure

CERTAIN = 3  # tracks of a genre, of which some will decode
PARTS = ("train", "val", "test")
Split = dict[str, np.ndarray]


def split_store(split: Callable[[Store], Split], store: Store) -> Split:
    """Split a store, and check the rows, which a split of one's own may give in any form.

    Returns:
        The rows of each part, int64, in the order in which the split gives them.

    Raises:
        InputError: the split fails, or what it returns is not a dict of the rows of each part.
    """
    with report_own_failure("split"):
        found = split(store)
    if not isinstance(found, dict) or not found or not found.keys() <= {*PARTS}:
        named = f"parts {', '.join(map(str, found))}" if isinstance(found, dict) else type(found)
        raise InputError(f"split: it returns {named}; a dict with train, val and test is needed")
    checked = copy(found)  # a split with notes keeps them
    checked.update({part: _check_rows(part, rows, len(store)) for part, rows in found.items()})
    return checked


def _check_rows(part: str, rows: Any, count: int) -> np.ndarray:
    """Return the rows of a part as int64, or say what they are instead."""
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise InputError(f"split: {part}: {error}") from None
    if array.dtype == bool:
        raise InputError(f"split: {part} is a mask; rows are needed: np.flatnonzero(mask)")
    if not array.size:
        raise InputError(f"split: {part} has no tracks")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"split: {part} has shape {array.shape} and dtype {array.dtype}; whole numbers of "
            "shape (rows,) are needed"
        )
    if array.min() < 0 or array.max() >= count:
        raise InputError(
            f"split: {part} has rows from {array.min()} to {array.max()}; the store has 0 to "
            f"{count - 1}"
        )
    return array.astype(np.int64)


class StorePreview:
    """The columns that the store of these tracks will have if none is rejected; no features.

    Attributes:
        classes, labels, track_ids, artists, artist_ids, albums, splits, licenses, paths: as in
            `genreclf.data.Store`.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.classes = sorted({track.genre for track in tracks})
        place = {genre: label for label, genre in enumerate(self.classes)}
        self.labels = np.array([place[track.genre] for track in tracks])
        self.track_ids = [track.id for track in tracks]
        self.artists = [track.artist for track in tracks]
        self.artist_ids = [track.artist_id for track in tracks]
        self.albums = [track.album for track in tracks]
        self.splits = [track.split for track in tracks]
        self.licenses = [track.license for track in tracks]
        self.paths = [track.path for track in tracks]

    def __len__(self) -> int:
        return len(self.labels)


def list_certain_genres(tracks: Sequence[Track]) -> list[str]:
    """List the genres of which some track will decode, sorted."""
    counts = Counter(track.genre for track in tracks)
    return sorted(genre for genre, count in counts.items() if count >= CERTAIN)


def check_split(
    split: Callable[[Any], Split],
    tracks: Sequence[Track],
    find_usable: Callable[[Sequence[Track]], Sequence[Track]] = lambda _: (),
) -> None:
    """Try one of this package's splits on tracks that are not decoded yet.

    A genre of one or two tracks is not a reason to refuse unless some of them decode: otherwise it
    is no genre.

    Args:
        split: the split.
        tracks: all tracks.
        find_usable: finds those of a few tracks that decode; none unless it is given.

    Raises:
        InputError: the tracks cannot be split this way.
    """
    counts = Counter(track.genre for track in tracks)
    try:
        split(StorePreview(tracks))
    except InputError:
        few = [track for track in tracks if counts[track.genre] < CERTAIN]
        lost = {track.id for track in few} - {track.id for track in find_usable(few)}
        split(StorePreview([track for track in tracks if track.id not in lost] or tracks))


def check_parts(found: Split) -> Split:
    """Check that a split has parts to train and to validate on, and return it.

    Raises:
        InputError: it lacks one.
    """
    if missing := [part for part in ("train", "val") if part not in found]:
        raise InputError(
            f"split: this one has no {' and no '.join(missing)} part to train with (split=all is "
            "for genreclf evaluate); choose split=artist or split=stratified"
        )
    return found
