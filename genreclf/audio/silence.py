"""Silence in waveforms: what is left out of a file, and constant offsets, which nobody hears.

A waveform is mono float32 (samples,), nominally in [-1, 1].
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from genreclf.audio.checks import SILENCE, DecodeError

LOUDEST = 1e10  # amplitude, above that of 32-bit integers that were stored as floats
BLOCK = 0.1  # s, in which one audible sample makes all of it count as audible
PAUSE = 0.5  # s; so much of longer silence between sounds is kept, and none at the ends of a file
FLAT = 0.1  # of its offset: a block that varies less is constant
OFFSET = 0.01  # of full scale, from which an offset changes features
STEADY = 0.1  # of the offset: the deviation of its sections; infrasound varies more
SECTIONS = 10


class Blocks(NamedTuple):
    """Blocks of 0.1 s of a waveform.

    Attributes:
        starts: number of the first sample of each.
        lengths: number of samples of each.
        levels: the constant that each silent one is near.
        silent: whether nothing in it is above -80 dB of full scale, apart from a constant.
        constant: whether it is silent, but only apart from a constant.
    """

    starts: np.ndarray
    lengths: np.ndarray
    levels: np.ndarray
    silent: np.ndarray
    constant: np.ndarray


def measure_blocks(waveform: np.ndarray, rate: int) -> Blocks:
    """Measure in blocks of 0.1 s what is silent in a waveform of at least one sample.

    Raises:
        DecodeError: it has samples that are not finite, or absurdly loud.
    """
    size = max(1, round(BLOCK * rate))
    starts = np.arange(0, len(waveform), size)
    high, low = np.maximum.reduceat(waveform, starts), np.minimum.reduceat(waveform, starts)
    peaks = np.maximum(high, -low)
    loudest = peaks.max()
    if not np.isfinite(loudest):
        raise DecodeError("does not decode: samples that are not finite numbers")
    if loudest > LOUDEST:
        raise DecodeError(f"does not decode: samples of up to {loudest:.0e}, where 1 is full scale")
    middle, quiet = (high + low) / 2, peaks < SILENCE
    constant = (high - low) / 2 < np.minimum(SILENCE, FLAT * np.abs(middle))
    constant &= ~quiet
    lengths = np.diff(starts, append=len(waveform))
    return Blocks(starts, lengths, np.where(quiet, 0, middle), quiet | constant, constant)


def remove_offset(waveform: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Subtract a constant (DC offset) from a waveform, and replace constant blocks by zeros.

    A constant is no sound, but leaks into the lowest bands of a spectrogram, and its ends are
    clicks. It is subtracted from each clip or window as a whole, which adds no step within it, and
    only if it is the same throughout: the mean of music with infrasound wanders, so that ordinary
    clips stay as they are, bit by bit.
    """
    heard, offset = ~blocks.silent, 0.0
    if heard.sum() >= SECTIONS:
        sums = np.array_split(np.add.reduceat(waveform, blocks.starts)[heard], SECTIONS)
        counts = np.array_split(blocks.lengths[heard], SECTIONS)
        means = np.array(
            [sums.sum() / count.sum() for sums, count in zip(sums, counts, strict=True)]
        )
        if abs(means.mean()) > OFFSET and means.std() < STEADY * abs(means.mean()):
            offset = means.mean()
    if not offset and not blocks.constant.any():
        return waveform
    constants = np.repeat(np.where(heard, offset, 0), blocks.lengths).astype(np.float32)
    cleaned = waveform - constants
    cleaned[np.repeat(blocks.constant, blocks.lengths)] = 0
    return cleaned


def leave_out_silence(
    stretches: Iterable[tuple[np.ndarray, int]],
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Leave out silence at both ends of a file, and all but 0.5 s of longer silence within it.

    Shorter silence stays, also at an end.

    Args:
        stretches: mono samples (n,) and their rate in Hz, one after the other.

    Yields:
        Where samples begin in the file (as a number of samples), the samples, and their rate; for
        each stretch at least once, though maybe without a sample. The last ends where the file
        does.

    Raises:
        DecodeError: for the reasons of `measure_blocks`.
    """
    held, gap, level = np.empty(0, np.float32), 0, 0.0  # silence since the last sound
    begun, at, rate = False, 0, 1
    for samples, rate in stretches:
        pause, last = int(PAUSE * rate), 0
        spans, following = _find_sounds(samples, rate, level)
        for first, end in spans:
            silence = gap + first - last
            keep = silence if silence < PAUSE * rate else 0
            keep = min(silence, pause) if begun else keep
            head = np.concatenate([held, samples[last:first]])[:keep]
            if 0 < keep < silence:
                yield at + first - silence, head, rate
                head = head[:0]
            whole = np.concatenate([head, samples[first:end]]) if len(head) else samples[first:end]
            yield at + first - len(head), whole, rate
            held, gap, last, begun = held[:0], 0, end, True
        held = np.concatenate([held, samples[last:]])[:pause]
        gap, at, level = gap + len(samples) - last, at + len(samples), following
        if not spans:
            yield at, held[:0], rate
    if gap < PAUSE * rate:
        yield at - gap, held, rate
    else:
        yield at, held[:0], rate


def _find_sounds(
    samples: np.ndarray, rate: int, level: float
) -> tuple[list[tuple[int, int]], float]:
    """Find spans without silence of more than 0.5 s in them.

    Args:
        samples: mono samples (n,).
        rate: their rate in Hz.
        level: the constant of the silence before them; 0 if there is none.

    Returns:
        First sample and end of each span, and the constant of the silence at the end.
    """
    if not len(samples):
        return [], level
    blocks = measure_blocks(samples, rate)
    spans: list[tuple[int, int]] = []
    if not blocks.silent.any() and not level:
        return [(0, len(samples))], level
    borders = np.flatnonzero(np.diff(~blocks.silent, prepend=False, append=False))
    for first, end in borders.reshape(-1, 2):
        span = int(blocks.starts[first]), int(blocks.starts[end - 1] + blocks.lengths[end - 1])
        # It ends with a sample, but begins with a block unless a constant ends there: after whole
        # seconds of silence, a song is then cut exactly as it is without.
        before = blocks.levels[first - 1] if first else level
        if before:
            loud = np.abs(samples[span[0] : blocks.starts[first] + blocks.lengths[first]] - before)
            span = span[0] + int(np.argmax(loud >= SILENCE)), span[1]
        if end < len(blocks.silent):
            loud = np.abs(samples[blocks.starts[end - 1] : span[1]] - blocks.levels[end])
            span = span[0], span[1] - int(np.argmax(loud[::-1] >= SILENCE))
        if spans and span[0] - spans[-1][1] <= PAUSE * rate:
            span = spans.pop()[0], span[1]
        spans.append(span)
    return spans, float(blocks.levels[-1]) if blocks.silent[-1] else 0.0
