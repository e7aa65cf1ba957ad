"""Splits a store into training, validation and test rows.

A split is a dict from part ("train", "val", "test") to the sorted rows of a store (int64 arrays).
Each function takes the store first and its settings by name, and puts no row into two parts.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha1

import numpy as np

from genreclf.data.folds import (
    check_artists,
    divide_by_artist,
    divide_stratified,
    group_by_artist,
)
from genreclf.data.store import Store
from genreclf.errors import InputError

Split = dict[str, np.ndarray]


class NotedSplit(Split):
    """A split with `notes`, lines that the user should know; training and evaluation log them.

    Args:
        parts: the rows of each part.
        notes: the lines.
    """

    def __init__(self, parts: Split, notes: Sequence[str]) -> None:
        super().__init__(parts)
        self.notes = list(notes)


def get_notes(split: Split) -> list[str]:
    """Return the notes of a split; a plain dict has none."""
    return split.notes if isinstance(split, NotedSplit) else []


def split_stratified(store: Store, seed: int = 42) -> Split:
    """Split 70/10/20 % in each genre, by the same scikit-learn calls as the paper's scripts.

    Tracks of one artist end up in several parts, which overstates accuracy by about 10 points on
    FMA Small.
    """
    rows = np.arange(len(store))
    try:
        rest, test = divide_stratified(rows, store.labels, 0.2, seed)
        train, val = divide_stratified(rest, store.labels[rest], 0.125, seed)
    except ValueError as error:
        raise InputError(
            f"split=stratified: {len(store)} tracks are too few ({error}); use at least about 10 "
            "tracks of each genre"
        ) from None
    return {"train": np.sort(train), "val": np.sort(val), "test": np.sort(test)}


def split_by_artist(store: Store, seed: int = 42) -> Split:
    """Split 70/10/20 % with each artist in one part only, genres balanced as far as possible.

    Spellings of one artist are recognised (`genreclf.data.artists`). A track without an artist
    counts as an artist of its own; the audit counts such tracks.

    Raises:
        InputError: no track has an artist, or there are too few artists to fill each part.
    """
    artists = group_by_artist(store)
    if artists is None:
        raise InputError(
            "split=artist: no track has an artist (tags of the files, or an array 'artist'); "
            "tag them, or use split=stratified"
        )
    check_artists(store, artists, np.arange(len(store)), 3, "artist")
    rest, test = divide_by_artist(store, artists, np.arange(len(store)), 5, seed, "artist")
    train, val = divide_by_artist(store, artists, rest, 8, seed, "artist")
    return {"train": train, "val": val, "test": test}


def split_officially(store: Store) -> Split:
    """Use the parts that the dataset defines; without a test part, validation is tested.

    Raises:
        InputError: the dataset defines no parts, or no training or validation part.
    """
    parts = np.array(store.splits)
    split = {part: np.flatnonzero(parts == part) for part in ("train", "val", "test")}
    split = {part: rows for part, rows in split.items() if len(rows)}
    if missing := [part for part in ("train", "val") if part not in split]:
        named = ", ".join(sorted(set(store.splits) - {""})) or "none"
        raise InputError(
            f"split=official: no {' and no '.join(missing)} part (the dataset names: {named}); "
            "use split=stratified or split=artist"
        )
    others = Counter(store.splits) - Counter({part: len(rows) for part, rows in split.items()})
    counts = ", ".join(f"{count} of part {name or '(none)'}" for name, count in others.items())
    return NotedSplit(split, [f"split=official leaves tracks out: {counts}"] * bool(others))


def select_all_tracks(store: Store) -> Split:
    """Put all rows into the test part; only for evaluation."""
    return {"test": np.arange(len(store))}


def limit_tracks(store: Store, split: Split, tracks_per_genre: int) -> Split:
    """Reduce all parts of a split, for quick trials.

    Args:
        store: the store that is split.
        split: its parts.
        tracks_per_genre: maximum number of training tracks of each genre. The maximum in the other
            parts is as much smaller or larger as these parts are, and at least 1. A larger number
            keeps all tracks that a smaller one would keep.

    Raises:
        InputError: the number is under 1.
    """
    if type(tracks_per_genre) is not int or tracks_per_genre < 1:
        raise InputError(
            f"tracks_per_genre={tracks_per_genre}: a whole number from 1 on is needed; null: all"
        )
    train = max(1, len(split["train"]))
    limited = {
        part: _limit_rows(store, rows, -(-tracks_per_genre * len(rows) // train))
        for part, rows in split.items()
    }
    return NotedSplit(limited, get_notes(split))


def _limit_rows(store: Store, rows: np.ndarray, most: int) -> np.ndarray:
    """Keep at most so many rows of each genre, always the same ones."""
    by_genre: dict[int, list[int]] = {}
    for row in sorted(rows, key=lambda row: sha1(store.track_ids[row].encode()).digest()):
        by_genre.setdefault(store.labels[row], []).append(row)
    kept = [row for found in by_genre.values() for row in found[:most]]
    return np.sort(np.array(kept, dtype=np.int64))
