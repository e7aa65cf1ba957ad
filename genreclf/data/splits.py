"""Splits a store into training, validation and test rows, and finds leaks between these parts.

A split is a dict from part ("train", "val", "test") to the sorted rows of a store (int64 arrays).
Each function takes the store first and its settings by name, and puts no row into two parts.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from hashlib import sha1
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from genreclf.data.store import Store
from genreclf.errors import InputError

log = logging.getLogger(__name__)
Split = dict[str, np.ndarray]


def split_stratified(store: Store, seed: int = 42) -> Split:
    """Split 70/10/20 % in each genre, by the same scikit-learn calls as the paper's scripts.

    Tracks of one artist end up in several parts, which overstates accuracy by about 10 points on
    FMA Small.
    """
    rows = np.arange(len(store))
    try:
        rest, test = _divide_stratified(rows, store.labels, 0.2, seed)
        train, val = _divide_stratified(rest, store.labels[rest], 0.125, seed)
    except ValueError as error:
        raise InputError(
            f"split=stratified: {len(store)} tracks are too few ({error}); use at least about 10 "
            "tracks of each genre"
        ) from None
    return {"train": np.sort(train), "val": np.sort(val), "test": np.sort(test)}


def _divide_stratified(
    rows: np.ndarray, labels: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    parts = train_test_split(rows, test_size=share, random_state=seed, stratify=labels)
    return np.asarray(parts[0]), np.asarray(parts[1])


def split_by_artist(store: Store, seed: int = 42) -> Split:
    """Split 70/10/20 % with each artist in one part only, genres balanced as far as possible.

    A track without an artist counts as an artist of its own; the audit counts such tracks.

    Raises:
        InputError: no track has an artist, or there are too few artists to fill each part.
    """
    if not any(store.artists):
        raise InputError(
            "split=artist: no track has an artist (tags of the files, or an array 'artist'); "
            "tag them, or use split=stratified"
        )
    rest, test = _divide_by_artist(store, np.arange(len(store)), 5, seed)
    train, val = _divide_by_artist(store, rest, 8, seed)
    return {"train": train, "val": val, "test": test}


def _divide_by_artist(
    store: Store, rows: np.ndarray, folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split off about one row in `folds`; both sides have every genre but share no artist."""
    labels = store.labels[rows]
    groups = np.array([store.artists[row] or f"\0{row}" for row in rows])
    for label in np.unique(labels):
        if len(set(groups[labels == label])) < 2:
            raise InputError(
                f"split=artist: {store.classes[label]} has tracks by fewer than 3 artists, and "
                "each of the 3 parts needs one of its own; add artists, or use split=stratified"
            )
    most = min(folds, len(set(groups)), int(np.unique(labels, return_counts=True)[1].max()))
    for number in range(most, 1, -1):  # fewer, larger parts where artists are few
        for attempt in range(20):  # a fold can lack a genre: shuffle again
            found = _find_usable_folds(labels, groups, number, seed + attempt)
            if found:
                first, second = min(found, key=lambda fold: abs(len(fold[1]) - len(rows) / folds))
                return rows[first], rows[second]
    raise InputError(
        "split=artist: found no division in which every part has every genre; add artists to the "
        "smallest genres, or use split=stratified"
    )


def _find_usable_folds(
    labels: np.ndarray, groups: np.ndarray, number: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find the pairs (rest, fold) with every genre on both sides."""
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # checked below
        folds = list(splitter.split(labels, labels, groups))
    every = set(labels)
    return [pair for pair in folds if all(set(labels[part]) == every for part in pair)]


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
    if others:
        counts = ", ".join(f"{count} of part {name or '(none)'}" for name, count in others.items())
        log.warning("split=official leaves tracks out: %s", counts)
    return split


def split_by_fold(
    store: Store, number: int, folds: int = 5, block: int = 1000, seed: int = 42
) -> Split:
    """Test on one fold of the official training part and train on the others; keep validation.

    This is for tracks whose artists are unknown. FMA numbers tracks in the order of upload, album
    by album, so tracks with nearby ids are often by one artist. A block keeps them in one fold.

    Args:
        store: a store whose track ids are numbers.
        number: number of the fold that is tested on, from 0.
        folds: number of folds; genres are balanced as far as possible.
        block: ids from one multiple of this number to the next stay together.
        seed: seed of the split.

    Raises:
        InputError: for the reasons of `split_officially`, or an id is not a number, there is no
            such fold, or there are too few blocks.
    """
    if folds < 2 or not 0 <= number < folds or block < 1:
        raise InputError(
            f"split: number={number}, folds={folds}, block={block}; at least 2 folds, a number "
            "from 0 to below that, and a block of at least 1 are needed"
        )
    parts = split_officially(store)
    rows = parts["train"]
    try:
        blocks = [int(store.track_ids[row]) // block for row in rows]
    except ValueError as error:
        raise InputError(f"split=fold: track ids must be whole numbers ({error})") from None
    if len(set(blocks)) < folds:
        raise InputError(
            f"split=fold: the ids of the training part lie in {len(set(blocks))} blocks of {block},"
            f" {folds} folds are needed; choose a smaller split.block"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        train, test = list(splitter.split(rows, store.labels[rows], blocks))[number]
    return {"train": rows[train], "val": parts["val"], "test": rows[test]}


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
    return {
        part: _limit_rows(store, rows, -(-tracks_per_genre * len(rows) // train))
        for part, rows in split.items()
    }


def _limit_rows(store: Store, rows: np.ndarray, most: int) -> np.ndarray:
    """Keep at most so many rows of each genre, always the same ones."""
    by_genre: dict[int, list[int]] = {}
    for row in sorted(rows, key=lambda row: sha1(store.track_ids[row].encode()).digest()):
        by_genre.setdefault(store.labels[row], []).append(row)
    kept = [row for found in by_genre.values() for row in found[:most]]
    return np.sort(np.array(kept, dtype=np.int64))


def audit_split(
    store: Store, split: Split, allow_identical: Sequence[str] | str | int = ()
) -> dict[str, Any]:
    """Find what parts share: identical rows, artists, albums.

    Args:
        store: the store that is split.
        split: its parts.
        allow_identical: track ids (or one) whose rows may occur in two parts, or "all".

    Returns:
        A dict of `unknown_artist` (number of tracks), `duplicates` (pairs of identical rows within
        a part) and, for each pair of parts such as "train-test", a dict of `identical` (pairs of
        track ids), `artists` and `albums` (how many are shared) and `tracks_of_shared_artists`
        (how many tracks of the second part have an artist who is in the first).

    Raises:
        InputError: two parts have identical rows that are not allowed.
    """
    report: dict[str, Any] = {
        "unknown_artist": store.artists.count(""),
        "duplicates": [
            pair for rows in split.values() for pair in _find_duplicate_pairs(store, rows, rows)
        ],
    }
    for first, second in combinations(split, 2):
        report[f"{first}-{second}"] = _find_shared(store, split[first], split[second])
    pairs = [pair for key, value in report.items() if "-" in key for pair in value["identical"]]
    if allow_identical != "all":
        one = isinstance(allow_identical, str | int)
        allowed = {str(allow_identical)} if one else set(map(str, allow_identical))
        if unknown := allowed - set(store.track_ids):
            raise InputError(f"allow_identical: no track {', '.join(sorted(unknown))}")
        pairs = [pair for pair in pairs if not allowed & set(pair)]
        if pairs:
            shown = ", ".join(" = ".join(pair) for pair in pairs[:5]) + ", ..." * (len(pairs) > 5)
            raise InputError(
                f"{len(pairs)} identical pairs lie in different parts of the split ({shown}); "
                "remove one of each, or allow them: allow_identical=[track id, ...] or =all"
            )
    return report


def _find_duplicate_pairs(store: Store, first: np.ndarray, second: np.ndarray) -> list[list[str]]:
    """List the track ids of each pair of identical rows, one from each side."""
    by_sha1: dict[str, list[int]] = {}
    for row in first:
        by_sha1.setdefault(store.row_sha1[row], []).append(row)
    return [
        [store.track_ids[twin], store.track_ids[row]]
        for row in second
        for twin in by_sha1.get(store.row_sha1[row], [])
        if first is not second or twin < row
    ]


def _find_shared(store: Store, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    pairs = zip(store.artists, store.albums, strict=True)
    albums = [f"{by}: {album}" if album else "" for by, album in pairs]
    artists = _find_common(store.artists, first, second)
    return {
        "identical": _find_duplicate_pairs(store, first, second),
        "artists": len(artists),
        "albums": len(_find_common(albums, first, second)),
        "tracks_of_shared_artists": sum(store.artists[row] in artists for row in second),
    }


def _find_common(names: list[str], first: np.ndarray, second: np.ndarray) -> set[str]:
    known = {names[row] for row in first} & {names[row] for row in second}
    return {name for name in known if name}


def count_tracks(store: Store, split: Split) -> dict[str, dict[str, int]]:
    """Count the tracks of each genre in each part."""
    return {
        part: dict(Counter(store.classes[label] for label in store.labels[rows]))
        for part, rows in split.items()
    }
