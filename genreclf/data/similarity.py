"""Finds the tracks of a library that sound most like a track, and which are the same recording.

The similarity of two embeddings is the cosine between them, after the library's mean has been
subtracted from each value and the result divided by its standard deviation. Of the nearest tracks,
the audio is compared as `near_duplicates` does: an embedding cannot distinguish a copy of a
recording from a song that sounds like it.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from genreclf.audio.features import Mel
from genreclf.audio.pool import map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.workers import extract
from genreclf.data.library import Library
from genreclf.data.near_duplicates import AGREEING, compute_changes, measure_agreement

FEW = 10  # tracks, whose mean and deviation say little: plain cosines are used
FLOOR = 0.3  # share of the mean deviation that is added to each: some values hardly change


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
    total = sum(block.sum(axis=0, dtype=np.float64) for block in library.read_blocks())
    mean = total / len(library)
    squares = sum(((block - mean) ** 2).sum(axis=0) for block in library.read_blocks())
    deviation = np.sqrt(squares / len(library))
    deviation += FLOOR * deviation.mean() + 1e-12
    return Standard(mean.astype(np.float32), deviation.astype(np.float32))


def compute_similarities(library: Library, standard: Standard, embedding: np.ndarray) -> np.ndarray:
    """Compute the similarity, float32 (n,) from -1 to 1, of each track to an embedding (size,)."""
    wanted = standard.apply(embedding[None])[0]
    return np.concatenate([standard.apply(block) @ wanted for block in library.read_blocks()])


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


def is_same_recording(agreement: float | None) -> bool:
    """Whether an agreement is that of two copies of one recording."""
    return agreement is not None and agreement >= AGREEING


def _compute_changes(row: object) -> np.ndarray | None:
    if isinstance(row, str | DecodeError):
        return None
    features, _ = row  # pyright: ignore[reportGeneralTypeIssues]
    return compute_changes(features)
