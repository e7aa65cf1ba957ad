"""Finds the same recording twice in a store: encoded differently, louder, or cut by some seconds.

Compared is how the levels of frequency bands change over time, relative to each frame's mean:
loudness does not matter, nor what all music has in common. Candidates have similar correlations
between bands, whatever the time; of them, those pairs are near-duplicates whose changes agree at
one shift in time, and at no other.

Measured on 180 clips of 30 s, as `features=mel`, and copies of 30 of them: MP3, Opus and AAC from
64 kbit/s, copies that begin 3.4 to 14 s later and copies 20 dB quieter are found in 205 of 210
cases, and no other pairs (`make bench-similar`). `features=mel_frames`, of four frames per second,
finds only copies that begin together.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genreclf.data.store import Store
from genreclf.data.summaries import average_bands, expand_waveform, trim_padding
from genreclf.errors import InputError, format_error
from genreclf.files import digest_values, locate_cache, read_json, write_json
from genreclf.locks import hold_lock

VERSION = 2
STEPS = 430  # in time, about; 30 s of `features=mel` have 1,292 frames
TREND = 25  # steps over which slow changes are averaged, to be subtracted
PEAK = 4  # steps to either side of the best shift that count as the same shift
SIMILAR = 0.35  # cosine of the whitened correlations between bands, of candidates
FEW = 100  # rows of which all pairs are candidates: too few to know what is usual
AGREEING = 0.6  # of near-duplicates
SHRINKAGE = 0.35
BLOCK = 1024  # rows whose similarities to all others are in memory at a time
LEAST = 8, 64  # bins and frames
LEAST_STEPS = 30  # of rows that can be distinguished, without their padding
CACHED = 2000  # rows whose changes are kept in memory, at most 110 KB each
MANY = 2000  # rows, for which the log says what takes time; a waveform of 30 s takes 10 ms
log = logging.getLogger(__name__)


class NearDuplicate(NamedTuple):
    """Two rows of a store that are probably the same recording."""

    first: int
    second: int
    agreement: float  # 0.6 to 1


def find_near_duplicates(store: Store) -> list[NearDuplicate]:
    """Find pairs of rows that are the same recording but not equal, most similar first.

    The result is kept in a file next to the store, so that later runs need not read all rows; or in
    the user's cache, if the store's folder is read-only. Features without a spectrum over time,
    such as embeddings, have no near-duplicates. No one loses a run by this check: if it fails, that
    is a warning, and the list is empty.
    """
    places = _list_places(store)
    try:
        kept = _read_pairs(places, store)
        if kept is not None:
            return kept
        with _lock_if_possible(places):
            kept = _read_pairs(places, store)  # another process may have compared them meanwhile
            return _compare_and_keep(places, store) if kept is None else kept
    except Exception as error:
        log.warning("no search for the same recording twice (%s)", format_error(error))
        return []


def _list_places(store: Store) -> list[Path]:
    """List the files that may hold the result, best first."""
    name = digest_values([store.source.digest, store.row_sha1])
    cached = locate_cache() / "near_duplicates" / f"{name}.json"
    return [store.path.with_suffix(".near.json"), cached]


def _read_pairs(places: Sequence[Path], store: Store) -> list[NearDuplicate] | None:
    """Read what was found before; None if no file is of this store and version."""
    for path in places:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = read_json(path)
            if kept["version"] == VERSION and kept["digest"] == store.source.digest:
                pairs = [NearDuplicate(int(a), int(b), float(c)) for a, b, c in kept["pairs"]]
                if all(0 <= pair.first < pair.second < len(store) for pair in pairs):
                    return pairs
    return None


@contextlib.contextmanager
def _lock_if_possible(places: Sequence[Path]) -> Iterator[None]:
    """Hold a lock, so that of jobs that start together one compares, wherever that is possible."""
    with contextlib.ExitStack() as stack:
        for path in places:
            with contextlib.suppress(OSError, InputError):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = path.with_name(f".{path.name}.lock")
                stack.enter_context(hold_lock(lock, "the search for the same recording twice"))
                break
        yield


def _compare_and_keep(places: Sequence[Path], store: Store) -> list[NearDuplicate]:
    pairs = _compare_rows(store)
    kept = {"version": VERSION, "digest": store.source.digest, "pairs": pairs}
    for path in places:
        try:
            write_json(path, kept)
            break
        except OSError as error:
            log.debug("%s: not written (%s)", path, error)
    return pairs


def _compare_rows(store: Store) -> list[NearDuplicate]:
    bins, frames = store.shape
    if 1 < bins < LEAST[0] or frames < LEAST[1]:
        return []
    if len(store) > MANY:
        log.info("looking for the same recording twice among %d tracks", len(store))

    @lru_cache(CACHED)
    def read(row: int) -> np.ndarray:
        return compute_changes(store.read_features([row])[0])

    found = []
    for first, second in _list_candidates(len(store), read):
        if store.row_sha1[first] != store.row_sha1[second]:  # the audit lists equal rows
            agreement = measure_agreement(read(first), read(second))
            if agreement >= AGREEING:
                found.append(NearDuplicate(first, second, round(agreement, 3)))
    return sorted(found, key=lambda pair: -pair.agreement)


def compute_changes(row: np.ndarray) -> np.ndarray:
    """Compute how levels (bins, frames) change: float32 (bands, steps) without mean and trend."""
    whole = expand_waveform(row)
    factor = max(1, whole.shape[1] // STEPS)  # whatever the length of what is not padding
    levels = average_bands(trim_padding(whole))
    steps = levels.shape[1] // factor
    levels = levels[:, : steps * factor].reshape(len(levels), steps, factor).mean(axis=2)
    levels = levels - levels.mean(axis=0)
    width = min(TREND, steps)
    padded = np.pad(levels, ((0, 0), (width // 2 + 1, width - 1 - width // 2)), mode="edge")
    sums = np.cumsum(padded, axis=1, dtype=np.float64)
    return (levels - (sums[:, width:] - sums[:, :-width]) / width).astype(np.float32)


def measure_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Measure how well changes (bands, steps) agree at one shift, and at no other.

    Returns:
        `(highest - other) / (1 - other)`, where `highest` is the highest correlation at any shift
        up to half of the steps and `other` the highest at another shift: repetitive music
        correlates with itself, and with other music of its tempo, at many. 0 if either has fewer
        than 30 steps, such as a clip that is silent but for a second.
    """
    if min(first.shape[1], second.shape[1]) < LEAST_STEPS:
        return 0.0
    steps = max(first.shape[1], second.shape[1])
    pair = [np.pad(each, ((0, 0), (0, steps - each.shape[1]))) for each in (first, second)]
    spectra = [np.fft.rfft(each, 2 * steps, axis=1) for each in pair]
    products = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=0), 2 * steps)
    energy = [np.append(0, np.cumsum((each**2).sum(axis=0))) for each in pair]
    shifts = np.arange(-(steps // 2), steps // 2 + 1)  # second[t] is compared with first[t + shift]
    later, earlier = np.maximum(shifts, 0), np.maximum(-shifts, 0)
    overlap = (energy[0][steps - earlier] - energy[0][later]) * (
        energy[1][steps - later] - energy[1][earlier]
    )
    least = 0.1 * energy[0][-1] * energy[1][-1] + 1e-12  # lest a few steps decide
    correlations = products[shifts] / np.sqrt(np.maximum(overlap, least))
    best = int(correlations.argmax())
    others = correlations[np.abs(np.arange(len(shifts)) - best) > PEAK]
    other = max(0.0, float(others.max()))
    return (float(correlations[best]) - other) / max(1 - other, 1e-6)


def _list_candidates(rows: int, read: Callable[[int], np.ndarray]) -> Iterable[tuple[int, int]]:
    """List pairs of rows whose whitened correlations between bands are similar."""
    if rows <= FEW:
        return combinations(range(rows), 2)
    described = np.stack([_correlate_bands(read(row)) for row in range(rows)])
    described -= described.mean(axis=0)
    described /= described.std(axis=0) + 1e-6
    variances, axes = np.linalg.eigh(described.T @ described / rows)
    shrunk = np.maximum(variances, 0) * (1 - SHRINKAGE) + SHRINKAGE
    white = described @ (axes / np.sqrt(shrunk)).astype(np.float32)
    white /= np.linalg.norm(white, axis=1, keepdims=True) + 1e-9
    pairs: list[tuple[int, int]] = []
    for start in range(0, rows, BLOCK):
        similar = np.triu(white[start : start + BLOCK] @ white[start:].T > SIMILAR, 1)
        first, second = np.nonzero(similar)
        pairs += zip((first + start).tolist(), (second + start).tolist(), strict=True)
    return pairs


def _correlate_bands(changes: np.ndarray) -> np.ndarray:
    """Compute the correlations between bands, float32 (size,), which no shift in time changes."""
    deviation = changes.std(axis=1) + 0.1 * changes.std() + 1e-9
    correlations = changes @ changes.T / changes.shape[1] / np.outer(deviation, deviation)
    return correlations[np.triu_indices(len(changes))].astype(np.float32)
