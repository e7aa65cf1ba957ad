"""Splits for cross-validation: each tests on one of several folds.

They are as those of `genreclf.data.splits`.
"""

from collections import Counter

import numpy as np
from sklearn.model_selection import StratifiedKFold

from genreclf.data.folds import (
    check_artists,
    divide_by_artist,
    divide_stratified,
    group_by_artist,
    has_artists_to_divide,
    iterate_folds,
)
from genreclf.data.splits import NotedSplit, Split, get_notes, split_officially
from genreclf.data.store import Store
from genreclf.errors import InputError


def split_kfold(store: Store, number: int = 0, folds: int = 5, seed: int = 42) -> Split:
    """Test on one of several folds; an eighth of the others validates, the rest trains.

    The folds are the same whatever the number, so over all numbers each track is tested once.
    Genres are balanced as far as possible. No artist is in two parts; a track without an artist
    counts as an artist of its own. If no artist is known, only genres count.

    Args:
        store: any store.
        number: number of the fold that is tested on, from 0.
        folds: number of folds.
        seed: seed of the folds and of the validation part.

    Raises:
        InputError: there is no such fold; a genre has fewer tracks than folds, or fewer than 3
            artists; there are fewer artists than folds; or there is no such division.
    """
    _check_fold(number, folds)
    counts = Counter(store.labels.tolist())
    least, count = min(counts.items(), key=lambda pair: (pair[1], pair[0]))
    if count < folds:
        fewer = f", or choose fewer folds: split.folds={count}" if count > 1 else ""
        raise InputError(
            f"split=kfold: {store.classes[least]} has {count} track{'s' * (count > 1)}, fewer than "
            f"{folds} folds; add tracks, or leave the genre out{fewer}"
        )
    rows, artists = np.arange(len(store)), group_by_artist(store)
    if artists is None:
        note = "split=kfold: no track has an artist, so the folds are balanced by genre only"
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        rest, test = list(splitter.split(rows, store.labels))[number]
        try:
            train, val = divide_stratified(rest, store.labels[rest], 1 / 8, seed)
        except ValueError as error:
            raise InputError(
                f"split=kfold: {len(store)} tracks are too few ({error}); use at least about 10 "
                "tracks of each genre"
            ) from None
        return NotedSplit({"train": np.sort(train), "val": np.sort(val), "test": test}, [note])
    pairs = _find_artist_folds(store, artists, folds, seed)
    rest, test = pairs[number]
    train, val = divide_by_artist(store, artists, rest, 8, seed, "kfold")
    lacking = any(len(set(store.labels[fold])) < len(store.classes) for _, fold in pairs)
    note = "split=kfold: some folds lack a genre that has tracks by few artists"
    return NotedSplit({"train": train, "val": val, "test": test}, [note] * lacking)


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
        InputError: the dataset names no training or no validation part, an id is not a number,
            there is no such fold, or there are too few blocks or tracks.
    """
    _check_fold(number, folds)
    if block < 1:
        raise InputError(f"split: block={block}; a block of at least 1 is needed")
    if missing := {"train", "val"} - set(store.splits):
        raise InputError(
            f"split=fold divides the official training part, but the dataset names no "
            f"{' and no '.join(sorted(missing))} part; split=kfold divides any data"
        )
    parts = split_officially(store)
    rows = parts["train"]
    try:
        blocks = np.array([int(store.track_ids[row]) // block for row in rows])
    except ValueError as error:
        raise InputError(f"split=fold: track ids must be whole numbers ({error})") from None
    if len(set(blocks)) < folds:
        raise InputError(
            f"split=fold: the ids of the training part lie in {len(set(blocks))} blocks of {block},"
            f" {folds} folds are needed; choose a smaller split.block"
        )
    most = max(Counter(store.labels[rows].tolist()).values())
    pairs = list(iterate_folds(store.labels[rows], blocks, folds, seed)) if most >= folds else []
    if not pairs or not all(len(fold) for _, fold in pairs):
        raise InputError(
            f"split=fold: the training part is too small for {folds} folds; choose fewer folds "
            "(split.folds=...) or a smaller split.block"
        )
    train, test = pairs[number]
    found = {"train": rows[train], "val": parts["val"], "test": rows[test]}
    return NotedSplit(found, get_notes(parts))


def _check_fold(number: int, folds: int) -> None:
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (number, folds))
    if not whole or folds < 2 or not 0 <= number < folds:
        raise InputError(
            f"split: number={number}, folds={folds}; at least 2 folds, and a number from 0 to "
            "below that, are needed"
        )


def _find_artist_folds(
    store: Store, artists: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find folds of which each one lacks no genre, or where artists are few, the others do not."""
    check_artists(store, artists, np.arange(len(store)), 3, "kfold")
    if (count := len(set(artists))) < folds:
        raise InputError(
            f"split=kfold: {count} artists cannot be divided into {folds} folds; "
            + (f"choose fewer: split.folds={count}" if count > 1 else "use split=stratified")
        )
    fallback = None
    for attempt in range(20):
        pairs = list(iterate_folds(store.labels, artists, folds, seed + attempt))
        if not all(
            len(fold) and has_artists_to_divide(store, artists, rest) for rest, fold in pairs
        ):
            continue
        if all(len(set(store.labels[fold])) == len(store.classes) for _, fold in pairs):
            return pairs
        fallback = fallback or pairs
    if fallback is None:
        raise InputError(
            f"split=kfold: found no {folds} folds by artist that leave every genre in training and "
            "validation; choose other folds (split.folds=...), or add artists"
        )
    return fallback
