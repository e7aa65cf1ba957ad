"""Tries a split before anything is decoded: it depends on what is known of the tracks alone."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genreclf.data import splits
from genreclf.data.datasets.track import Track
from genreclf.errors import InputError

CERTAIN = 3  # tracks of a genre, of which some will decode


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


def check_split(split: Callable[[Any], splits.Split], tracks: Sequence[Track]) -> None:
    """Try one of this package's splits on tracks that are not decoded yet.

    A genre of one or two tracks is not a reason to refuse: if they do not decode, it is no genre.

    Raises:
        InputError: the tracks cannot be split this way.
    """
    counts = Counter(track.genre for track in tracks)
    certain = [track for track in tracks if counts[track.genre] >= CERTAIN]
    try:
        split(StorePreview(tracks))
    except InputError:
        split(StorePreview(certain or tracks))
