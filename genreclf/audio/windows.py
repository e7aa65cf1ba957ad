"""Cuts the mono samples of a file into windows as they arrive, and says where these are in it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import itemgetter

import numpy as np

from genreclf.audio.checks import DecodeError

MIN_SECONDS = 2.0


def check_length(seconds: float, notes: list[str]) -> None:
    """Raise DecodeError if there is too little audio, with the notes, which may say why."""
    if seconds < MIN_SECONDS:
        reason = f"too short: {seconds:.2f} s of audio decode, {MIN_SECONDS:g} s needed"
        raise DecodeError("; ".join([reason, *notes]))


def number_samples(
    stretches: Iterable[tuple[np.ndarray, int]],
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Yield mono samples, where they begin in the file (as a number of samples), and their rate."""
    at = 0
    for samples, rate in stretches:
        yield at, samples, rate
        at += len(samples)


def cut_windows(
    pieces: Iterable[tuple[int, np.ndarray, int]], duration: float, overlap: float, notes: list[str]
) -> Iterator[tuple[float, float, np.ndarray, int]]:
    """Yield start and end in the file (s), mono samples and rate of each window.

    The last one is extended backwards. Where a piece has no samples, neither has a window.
    """
    first, end = 0, 0  # of the samples: where the buffer begins, and where the last window ended
    total, rate = 0, 1
    buffer = np.empty(0, np.float32)
    shifts = [(0, 0)]  # from which sample on, how many more have been in the file before
    for origin, samples, rate in pieces:
        total = origin + len(samples)
        if not len(samples):
            yield origin / rate, origin / rate, samples, rate
            continue
        shifts.append((first + len(buffer), origin - first - len(buffer)))
        buffer = np.concatenate([buffer, samples])
        size = int(duration * rate)
        hop = max(1, round(size * (1 - overlap)))
        start = end and end - size + hop  # of the next window
        while first + len(buffer) >= start + size:
            span = _locate(start, start + size, shifts)
            yield span[0] / rate, span[1] / rate, buffer[start - first :][:size], rate
            start, end = start + hop, start + size
        keep = max(0, end - size - first)
        first, buffer = first + keep, buffer[keep:]
        shifts = shifts[bisect_right(shifts, first, key=itemgetter(0)) - 1 :]
    kept, size = first + len(buffer), int(duration * rate)
    if not end:
        check_length(total / rate, notes)
        span = _locate(0, kept, shifts)
        missing = max(0, int(MIN_SECONDS * rate) - kept) if kept else 0
        yield span[0] / rate, span[1] / rate, np.pad(buffer, (0, missing)), rate
    elif kept - end >= MIN_SECONDS * rate:
        span = _locate(kept - size, kept, shifts)
        yield span[0] / rate, span[1] / rate, buffer[kept - size - first :], rate


def _locate(first: int, end: int, shifts: list[tuple[int, int]]) -> tuple[int, int]:
    """Return where the samples from `first` to before `end` begin and end in the file."""
    start, last = (
        at + shifts[bisect_right(shifts, at, key=itemgetter(0)) - 1][1] for at in (first, end - 1)
    )
    return start, last + 1
