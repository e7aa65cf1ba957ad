"""Rows of features for a store: from the dataset, copied from other stores, or extracted."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.audio.content import UNREADABLE
from genreclf.audio.features import identify_features
from genreclf.audio.workers import Row, extract, map_in_order
from genreclf.data.datasets.track import Track
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.protocols import FeatureDataset

log = logging.getLogger(__name__)


def check_rows(dataset: FeatureDataset, done: int) -> Iterator[Row]:
    """Yield the dataset's own rows after the first `done`; reject rows without content."""
    for number, row in enumerate(dataset.rows()):
        if number < done:
            continue
        if not np.isfinite(row).all():
            yield "values that are not finite numbers"
        elif row.min() == row.max():
            yield f"silent: every value is {row.min()}"
        else:
            yield row, dataset.duration


def extract_rows(
    tracks: Sequence[Track],
    contents: Sequence[str],
    features: Any,
    done: int,
    workers: int,
    folder: Path,
) -> Iterator[Row]:
    """Yield rows in the order of the tracks.

    Rows that another store already has, for the same audio and features, are copied from there.

    Args:
        tracks: all tracks of the store.
        contents: digest of the audio of each track.
        features: the stored features.
        done: how many tracks have a row already.
        workers: number of processes that extract features.
        folder: the folder of the other stores.

    Raises:
        InputError: a process was killed.
    """
    known = _find_rows(folder, identify_features(features), set(contents[done:]))
    pending = list(zip(tracks, contents, strict=True))[done:]
    if copied := sum(content in known for _, content in pending):
        log.info("%d of %d tracks are copied from other stores", copied, len(pending))
    paths = (track.path for track, content in pending if content not in known)
    extracted: Any = map_in_order(partial(extract, features=features), paths, workers)
    try:
        with contextlib.closing(extracted):  # without this, an error would leave processes behind
            for _, content in pending:
                if content in known:
                    store, row = known[content]
                    yield store.read([row])[0], float(store.durations[row])
                else:
                    yield next(extracted)
    except BrokenProcessPool:
        raise InputError(
            "a process that extracts features was killed (out of memory?); the same command "
            "continues from there, with fewer processes if you add workers=1"
        ) from None


def _find_rows(
    folder: Path, identity: Mapping[str, Any], wanted: set[str]
) -> dict[str, tuple[Store, int]]:
    """Find rows of these features for this audio in the finished stores of a folder."""
    found: dict[str, tuple[Store, int]] = {}
    for path in sorted(folder.glob("*.h5")):
        try:
            store = Store(path)
        except InputError:  # of another version, or damaged
            continue
        if store.source.identity == identity:
            rows = enumerate(store.contents)
            found |= {content: (store, row) for row, content in rows if content in wanted}
    found.pop(UNREADABLE, None)
    return found
