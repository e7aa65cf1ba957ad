"""Divisions of rows in two, or into folds, with genres balanced and no artist on both sides.

`splits` and `cross_validation` make parts of them. Artists are texts, one for each row of the
store.
"""

import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from genreclf.data.artists import identify_artists
from genreclf.data.store import Store
from genreclf.errors import InputError


def divide_stratified(
    rows: np.ndarray, labels: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split off a share of the rows, at random in each genre.

    Raises:
        ValueError: a genre has too few rows.
    """
    parts = train_test_split(rows, test_size=share, random_state=seed, stratify=labels)
    return np.asarray(parts[0]), np.asarray(parts[1])


def group_by_artist(store: Store) -> np.ndarray | None:
    """Return the artist of each row; None if no artist is known."""
    artists = identify_artists(store)
    if not any(artists):
        return None
    return np.array([artist or f"\0{row}" for row, artist in enumerate(artists)])


def check_artists(
    store: Store, artists: np.ndarray, rows: np.ndarray, least: int, name: str
) -> None:
    """Refuse, with InputError, rows in which a genre has fewer than `least` artists."""
    labels, groups = store.labels[rows], artists[rows]
    for label in np.unique(labels):
        if len(set(groups[labels == label])) < least:
            raise InputError(
                f"split={name}: {store.classes[label]} has tracks by fewer than {least} artists"
                f"{' outside the tested part' if least < 3 else ''}, and each of {least} parts "
                "needs one of its own; add artists, or use split=stratified"
            )


def has_artists_to_divide(store: Store, artists: np.ndarray, rows: np.ndarray) -> bool:
    """Whether each genre has two artists, one to train on and one to validate on."""
    labels = store.labels[rows]
    return all(len(set(artists[rows][labels == label])) > 1 for label in range(len(store.classes)))


def divide_by_artist(
    store: Store, artists: np.ndarray, rows: np.ndarray, folds: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split off about one row in `folds`; both sides have every genre but share no artist.

    Args:
        store: the store of the rows.
        artists: artist of each row of the store, from `group_by_artist`.
        rows: the rows to divide.
        folds: the inverse of the share that is split off.
        seed: seed of the shuffling.
        name: name of the split, for messages.

    Raises:
        InputError: a genre has fewer than two artists, or there is no such division.
    """
    check_artists(store, artists, rows, 2, name)
    labels, groups = store.labels[rows], artists[rows]
    most = min(folds, len(set(groups)), int(np.unique(labels, return_counts=True)[1].max()))
    for number in range(most, 1, -1):  # fewer, larger parts where artists are few
        for attempt in range(20):  # a fold can lack a genre: shuffle again
            found = _find_usable_folds(labels, groups, number, seed + attempt)
            if found:
                first, second = min(found, key=lambda fold: abs(len(fold[1]) - len(rows) / folds))
                return rows[first], rows[second]
    raise InputError(
        f"split={name}: found no division in which every part has every genre; add artists to the "
        "smallest genres, or use split=stratified"
    )


def _find_usable_folds(
    labels: np.ndarray, groups: np.ndarray, number: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find the pairs (rest, fold) with every genre on both sides."""
    every = set(labels)
    folds = iterate_folds(labels, groups, number, seed)
    return [pair for pair in folds if all(set(labels[part]) == every for part in pair)]


def iterate_folds(
    labels: np.ndarray, groups: np.ndarray, number: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (rest, fold) that share no group, genres balanced as far as possible."""
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        yield from list(splitter.split(labels, labels, groups))
