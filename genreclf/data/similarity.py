"""Finds the tracks of a library that sound most like a track, and which are the same recording.

The similarity of two embeddings is the cosine between them, after the library's mean has been
subtracted from each value and the result divided by its standard deviation. Of the nearest tracks,
the audio is compared as `recordings` does: an embedding cannot distinguish a copy of a recording
from a song that sounds like it.
"""

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from genreclf.audio.batches import choose_work, compute_clips
from genreclf.audio.features import Mel
from genreclf.audio.own_features import is_batched
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.work_queue import WorkQueue
from genreclf.audio.workers import extract_item, make_variants
from genreclf.data.library import Library
from genreclf.data.recordings import AGREEING, Changes, compute_changes, measure_agreement

FEW = 10  # tracks, whose mean and deviation say little: plain cosines are used
COMPARED, COMPARED_NARROW = 15, 60  # nearest tracks whose audio is compared
COMPARED_TO_VARIANT = 4  # nearest to each other variant of the file
WIDE = 0.8  # share of the bands that is heard of a file which is not narrow, as one at 8 kHz
FLOOR = 0.3  # share of the mean deviation that is added to each: some values hardly change
MEMORY = 5e8  # bytes of embeddings that are kept in memory
GROUP = 8  # files for which larger libraries are read once
CACHED = 2000  # tracks whose changes are kept in memory, at most 55 KB each
COMPARISON = Mel()  # features that are compared


class Neighbour(NamedTuple):
    """A track of a library that sounds like a file."""

    row: int
    similarity: float  # -1 to 1
    same_recording: bool | None  # None if its audio, or that of the file, cannot be read


@dataclass(frozen=True)
class Standard:
    """How embeddings of a library are standardised: `(embedding - mean) / deviation`.

    Args:
        mean: float32 (size,).
        deviation: float32 (size,), above 0.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Standardise embeddings (n, size), and divide each by its length."""
        values = (embeddings - self.mean) / self.deviation
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def fit_standard(library: Library) -> Standard:
    """Compute mean and deviation of each value of the embeddings of a library."""
    zeros = np.zeros(library.size, np.float32)
    if len(library) < FEW:
        return Standard(zeros, zeros + 1)
    total, squares = np.zeros(library.size), np.zeros(library.size)
    for block in library.read_blocks():
        total += block.sum(axis=0, dtype=np.float64)
    mean = total / len(library)
    for block in library.read_blocks():
        squares += ((block - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / len(library))
    deviation += FLOOR * deviation.mean() + 1e-12
    return Standard(mean.astype(np.float32), deviation.astype(np.float32))


class Index:
    """The embeddings of a library, standardised.

    They are read once and kept, unless they are larger than `MEMORY`: then they are read whenever
    similarities are computed.

    Args:
        library: the library.
    """

    def __init__(self, library: Library) -> None:
        self.is_kept = 4 * len(library) * library.size <= MEMORY
        blocks = [*library.read_blocks()] if self.is_kept else []
        if self.is_kept:
            library = replace(library, read_blocks=lambda: iter(blocks))
        self.standard = fit_standard(library)
        self._library, self._blocks = library, [*map(self.standard.apply, blocks)]
        blocks.clear()

    def compute_similarities(self, embeddings: np.ndarray) -> np.ndarray:
        """Compute the similarity (-1 to 1) of the n tracks to embeddings (m, size): float32 (n, m).

        Raises:
            InputError: the library is damaged.
        """
        wanted = self.standard.apply(embeddings).T
        read = map(self.standard.apply, self._library.read_blocks())
        blocks = self._blocks if self.is_kept else read
        return np.concatenate([block @ wanted for block in blocks])


def search_library(
    files: Sequence[str], library: Library, features: Any, top: int, workers: int
) -> Generator[list[Neighbour] | DecodeError, None, None]:
    """Find the tracks that sound most like each file; copies of the same recording come first.

    The file itself is left out. Embeddings may depend on how loud a track is, and on its bandwidth,
    so the tracks whose audio is compared are the nearest to any of the file's `make_variants`.

    Args:
        files: the files.
        library: the tracks.
        features: those of the library's embeddings.
        top: how many tracks are wanted for each file.
        workers: number of processes that decode, and compute features that are not batched.

    Yields:
        For each file in order, as soon as it is known, its neighbours, or why it has none.

    Raises:
        InputError: the library is damaged, the processes do not start, or the features are not what
            they declare.
    """
    index, paths = Index(library), library.texts["path"]
    group = 1 if index.is_kept else GROUP
    work = partial(extract_item, features=choose_work(features), compared=COMPARISON)
    with closing(WorkQueue(work, workers)) as queue:
        queue.add((path, number) for number, path in enumerate(files))
        comparer = _Comparer(queue)
        for start in range(0, len(files), group):
            numbers = range(start, min(start + group, len(files)))
            queries = [_embed(queue.get((files[n], n)), features) for n in numbers]
            found = [query for query in queries if not isinstance(query, DecodeError)]
            near = iter(_compare_embeddings(index, [embeddings for embeddings, _ in found]))
            for number, query in zip(numbers, queries, strict=True):
                if isinstance(query, DecodeError):
                    yield query
                else:
                    path, changes = files[number], query[1]
                    yield _find_neighbours(path, changes, next(near), paths, top, comparer)


def _embed(found: Any, features: Any) -> tuple[np.ndarray, Changes] | DecodeError:
    """Return the embeddings (variants, size) of a file, and its changes."""
    if isinstance(found, DecodeError):
        return found
    rows, compared = found
    if is_batched(features):
        rows = compute_clips(features, [*make_variants(*rows)])
        if failed := next((each for each in rows if isinstance(each, DecodeError)), None):
            return failed
    return np.stack([np.asarray(row)[:, 0] for row in rows]), compute_changes(compared)


def _compare_embeddings(index: Index, embeddings: list[np.ndarray]) -> list[np.ndarray]:
    """Compute the similarities (n, variants) of each file, with one reading of the library."""
    if not embeddings:
        return []
    similarities = index.compute_similarities(np.concatenate(embeddings))
    return np.split(similarities, len(embeddings), axis=1)


def _find_neighbours(
    path: str,
    changes: Changes,
    similarities: np.ndarray,
    paths: list[str],
    top: int,
    comparer: "_Comparer",
) -> list[Neighbour]:
    """Find the nearest tracks, by their similarities (n, variants) to a file, and its copies."""
    rows = dict[int, None]()
    is_wide = changes.width >= WIDE * len(changes.levels)
    counts = [max(top, COMPARED if is_wide else COMPARED_NARROW)]
    counts += [COMPARED_TO_VARIANT] * (similarities.shape[1] - 1)
    for count, column in zip(counts, similarities.T, strict=True):
        nearest = np.argsort(-column, kind="stable")[: count + 1].tolist()
        rows |= dict.fromkeys(row for row in nearest if not _is_same_file(path, paths[row]))
    agreements = comparer.compare(changes, [paths[row] for row in rows])
    own = similarities[:, 0].tolist()
    found = [
        Neighbour(row, own[row], None if agreement is None else agreement >= AGREEING)
        for row, agreement in zip(rows, agreements, strict=True)
    ]
    return sorted(found, key=lambda each: (not each.same_recording, -each.similarity))[:top]


class _Comparer:
    """Compares recordings; the changes of a library's tracks are kept for the next file.

    Args:
        queue: computes them.
    """

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._known: dict[str, Changes | None] = {}

    def compare(self, changes: Changes, paths: Sequence[str]) -> list[float | None]:
        """Return `measure_agreement` with each file; None for one that does not decode."""
        unknown = [path for path in dict.fromkeys(paths) if path not in self._known]
        self._queue.add(((path, None) for path in unknown), urgent=True)
        for path in unknown:
            row = self._queue.get((path, None))
            failed = isinstance(row, str | DecodeError)
            self._known[path] = None if failed else compute_changes(row[0])
        known = [self._known[path] for path in paths]
        for path in [*self._known][: max(0, len(self._known) - CACHED)]:
            del self._known[path]
        return [None if each is None else measure_agreement(changes, each) for each in known]


def _is_same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)  # noqa: PTH121
    except (OSError, ValueError):  # it is gone, or the track has no file
        return False
