"""A library of embeddings: of a store, or of a file that `genreclf embed` wrote.

Embeddings are read in blocks, so a library may be larger than the memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.audio.tags import read_all_tags
from genreclf.data.datasets.track import Track, repair_text
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.paths import format_path

TEXTS = ("track_id", "path", "title", "artist", "album", "genre")
BLOCK = 8192  # embeddings that are in memory at a time


@dataclass(frozen=True)
class Library:
    """Embeddings of tracks, and what is known of the tracks.

    Args:
        name: where it is, for messages.
        texts: a list of n texts for each name in `TEXTS`.
        durations: float32 (n,), seconds of audio of each embedding.
        size: number of values of an embedding.
        features: what the embeddings are, from `describe_features`.
        identity: class, version and settings of these features, from `identify_features`.
        read_blocks: reads all embeddings in order, float32 (at most `BLOCK`, size).
        has_titles: whether an empty title means that the tags have none.
    """

    name: str
    texts: Mapping[str, list[str]]
    durations: np.ndarray
    size: int
    features: Mapping[str, Any]
    identity: Mapping[str, Any]
    read_blocks: Callable[[], Iterator[np.ndarray]]
    has_titles: bool = True

    def __len__(self) -> int:
        return len(self.durations)


def read_titles(store: Store, tracks: Sequence[Track] = ()) -> list[str]:
    """Return the title of each track of a store, which does not keep them.

    Args:
        store: the store.
        tracks: those that it was made from. If the dataset has read their titles, they are not read
            again.
    """
    known = {track.id: getattr(track, "title", None) for track in tracks}
    titles = [known.get(track_id) for track_id in store.track_ids]
    unread = [row for row, title in enumerate(titles) if title is None]
    tags = read_all_tags([store.paths[row] for row in unread])
    for row, found in zip(unread, tags, strict=True):
        titles[row] = repair_text(found["title"])
    return [title or "" for title in titles]


def convert_store(store: Store, titles: Sequence[str] | None = None) -> Library:
    """Make a library of a store of embeddings.

    Args:
        store: the store.
        titles: title of each track; None if they have not been read.

    Raises:
        InputError: its features have more than one frame.
    """
    size, frames = store.shape
    if frames > 1:
        raise InputError(f"{store.path}: {explain_frames(size, frames)}")
    count = len(store)
    starts = range(0, count, BLOCK)
    texts = {
        "track_id": [*map(restore_id, store.track_ids, store.paths)],
        "path": store.paths,
        "title": list(titles or [""] * count),
        "artist": store.artists,
        "album": store.albums,
        "genre": [store.classes[label] for label in store.labels],
    }
    return Library(
        str(store.path),
        texts,
        np.asarray(store.durations, np.float32),
        size,
        store.source.features,
        store.source.identity,
        lambda: (
            store.read_features(range(start, min(start + BLOCK, count)))[:, :, 0]
            for start in starts
        ),
        titles is not None,
    )


def restore_id(track_id: str, path: str) -> str:
    r"""Spell the id of a track as its path, if it is the end of the path with characters escaped.

    `data=files` makes ids valid text, such as `caf\xe9.mp3`; bytes of a path are kept as they are.
    """
    if "\\" not in track_id:
        return track_id
    end = "/".join(Path(path).parts[-1 - track_id.count("/") :])
    return end if track_id in (format_path(end), escape_bytes(end)) else track_id


def escape_bytes(text: str) -> str:
    r"""Make a text valid UTF-8: bytes of a path that are not become escapes, such as `\udce9`."""
    return text.replace("\0", "").encode(errors="backslashreplace").decode()


def explain_frames(bins: int, frames: int) -> str:
    """Say that features over time are no embedding."""
    return (
        f"{bins} values in each of {frames} frames are no embedding, which has one frame: choose "
        "features=musicnn or another encoder"
    )
