"""Finds the same recording twice in a store: encoded differently, louder, or cut by some seconds.

Candidates have similar correlations between bands, whatever the time. Of them, those pairs are
near-duplicates whose `recordings.Changes` agree.

Measured on 180 clips of 30 s, as `features=mel`, and copies of 30 of them: MP3, Opus and AAC from
64 kbit/s, copies that begin 3.4 to 14 s later and copies 20 dB quieter are found in 207 of 210
cases, copies at 8 kHz in 55 of 60, and no other pairs (`make bench-similar`).
`features=mel_frames`, of four frames per second, finds only copies that begin together.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genreclf.data.recordings import AGREEING, Changes, compute_changes, measure_agreement
from genreclf.data.store import Store
from genreclf.errors import InputError, format_error
from genreclf.files import digest_values, locate_cache, read_json, write_json
from genreclf.locks import hold_lock

VERSION = 3
SIMILAR = 0.35  # cosine of the whitened correlations between bands, of candidates
FEW = 100  # rows of which all pairs are candidates: too few to know what is usual
SHRINKAGE = 0.35
BLOCK = 1024  # rows whose similarities to all others are in memory at a time
LEAST = 8, 64  # bins and frames
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
    def read(row: int) -> Changes:
        return compute_changes(store.read_features([row])[0])

    found = []
    for first, second in _list_candidates(len(store), read):
        if store.row_sha1[first] != store.row_sha1[second]:  # the audit lists equal rows
            agreement = measure_agreement(read(first), read(second))
            if agreement >= AGREEING:
                found.append(NearDuplicate(first, second, round(agreement, 3)))
    return sorted(found, key=lambda pair: -pair.agreement)


def _list_candidates(rows: int, read: Callable[[int], Changes]) -> Iterable[tuple[int, int]]:
    """List pairs of rows whose whitened correlations between bands are similar.

    Each row is compared with all that have its bands, and maybe higher ones.
    """
    if rows <= FEW:
        yield from combinations(range(rows), 2)
        return
    widths, products, bands = np.empty(rows, int), list[np.ndarray](), 0
    for row in range(rows):
        levels, widths[row] = read(row)
        bands, steps = levels.shape
        products.append((levels @ levels.T / steps)[np.triu_indices(bands)])
    for width in np.unique(widths).tolist():
        blocks = (np.stack(products[start : start + BLOCK]) for start in range(0, rows, BLOCK))
        white = _whiten(np.concatenate([_correlate_bands(each, bands, width) for each in blocks]))
        places = np.flatnonzero(widths == width)
        for some in np.array_split(places, -(-len(places) // BLOCK)):
            similar = white[some] @ white.T > SIMILAR
            # A pair of the same width would be found from both sides.
            similar &= (widths > width) | ((widths == width) & (np.arange(rows) > some[:, None]))
            for place, other in np.argwhere(similar).tolist():
                row = int(some[place])
                yield min(row, other), max(row, other)


def _correlate_bands(products: np.ndarray, bands: int, width: int) -> np.ndarray:
    """Compute the correlations between bands, which no shift in time changes.

    Args:
        products: for each row, the upper triangle of the products of all bands, averaged over time.
        bands: number of bands.
        width: number of bands, from the lowest, that count.

    Returns:
        float32 (rows, width * (width + 1) / 2), of changes relative to the mean of these bands.
    """
    whole = np.empty((len(products), bands, bands), np.float32)
    first, second = np.triu_indices(bands)
    whole[:, first, second] = whole[:, second, first] = products
    relative = np.eye(width, dtype=np.float32) - np.float32(1 / width)
    covariance = relative @ whole[:, :width, :width] @ relative
    variance = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0)
    deviation = np.sqrt(variance) + 0.1 * np.sqrt(variance.mean(axis=1, keepdims=True)) + 1e-9
    covariance /= deviation[:, :, None] * deviation[:, None]
    return covariance[:, *np.triu_indices(width)]


def _whiten(described: np.ndarray) -> np.ndarray:
    """Standardise and whiten (rows, values), with shrinkage, and divide each row by its length."""
    described = described - described.mean(axis=0)
    described /= described.std(axis=0) + 1e-6
    variances, axes = np.linalg.eigh(described.T @ described / len(described))
    shrunk = np.maximum(variances, 0) * (1 - SHRINKAGE) + SHRINKAGE
    white = described @ (axes / np.sqrt(shrunk)).astype(np.float32)
    return white / (np.linalg.norm(white, axis=1, keepdims=True) + 1e-9)
