"""Finds the tracks of a library that sound most like a track, and which are the same recording.

The similarity of two embeddings is the cosine between them, after the library's mean has been
subtracted from each value and the result divided by its standard deviation. Of the nearest tracks,
the audio is compared as `near_duplicates` does: an embedding cannot distinguish a copy of a
recording from a song that sounds like it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from genreclf.audio.features import Mel
from genreclf.audio.pool import map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.workers import extract
from genreclf.data.library import Library
from genreclf.data.recordings import AGREEING, Changes, compute_changes, measure_agreement

FEW = 10  # tracks, whose mean and deviation say little: plain cosines are used
LEVELS = (0.0, -10.0, 10.0, -20.0, 20.0)  # dB, at which a file is embedded
COMPARED, COMPARED_LOUDER = 15, 4  # nearest tracks whose audio is compared, for each level
FLOOR = 0.3  # share of the mean deviation that is added to each: some values hardly change


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


def compute_similarities(
    library: Library, standard: Standard, embeddings: np.ndarray
) -> np.ndarray:
    """Compute the similarity (-1 to 1) of n tracks to embeddings (m, size): float32 (n, m)."""
    wanted = standard.apply(embeddings).T
    return np.concatenate([standard.apply(block) @ wanted for block in library.read_blocks()])


def find_neighbours(
    path: str, library: Library, standard: Standard, embeddings: np.ndarray, top: int, workers: int
) -> list[Neighbour]:
    """Find the tracks that sound most like a file; copies of the same recording come first.

    The file itself is left out. Embeddings may depend on how loud a track is, so the tracks whose
    audio is compared are the nearest to the file at any of `LEVELS`.

    Args:
        path: the file.
        library: the tracks.
        standard: its standardisation, from `fit_standard`.
        embeddings: the embeddings (levels, size) of the file at each of `LEVELS`.
        top: how many tracks are wanted.
        workers: number of processes that decode.

    Raises:
        InputError: the library is damaged, or the processes do not start.
    """
    similarities = compute_similarities(library, standard, embeddings)
    paths, rows = library.texts["path"], dict[int, None]()
    for level, column in zip(LEVELS, similarities.T, strict=True):
        count = max(top, COMPARED) if level == 0 else COMPARED_LOUDER
        nearest = np.argsort(-column, kind="stable")[: count + 1].tolist()
        rows |= dict.fromkeys(row for row in nearest if not _is_same_file(path, paths[row]))
    agreements = compare_recordings(path, [paths[row] for row in rows], workers)
    own = similarities[:, LEVELS.index(0)].tolist()
    found = [
        Neighbour(row, own[row], None if agreement is None else agreement >= AGREEING)
        for row, agreement in zip(rows, agreements, strict=True)
    ]
    return sorted(found, key=lambda each: (not each.same_recording, -each.similarity))[:top]


def compare_recordings(path: str, others: Sequence[str], workers: int) -> Iterator[float | None]:
    """Measure how likely each of some files is the same recording as a file, by their audio.

    Args:
        path: the file.
        others: the files that it is compared with.
        workers: number of processes that decode.

    Yields:
        The agreement of each, as `measure_agreement`; None if one of the two does not decode.

    Raises:
        InputError: the processes do not start.
    """
    rows = map_in_order(partial(extract, features=Mel()), [path, *others], workers)
    with closing(rows):
        first = _compute_changes(next(rows))
        for row in rows:
            changes = _compute_changes(row)
            if first is None or changes is None:
                yield None
            else:
                yield measure_agreement(first, changes)


def _compute_changes(row: object) -> Changes | None:
    if isinstance(row, str | DecodeError):
        return None
    features, _ = row  # pyright: ignore[reportGeneralTypeIssues]
    return compute_changes(features)


def _is_same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)  # noqa: PTH121
    except (OSError, ValueError):  # it is gone, or the track has no file
        return False
