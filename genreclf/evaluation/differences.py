"""95 % intervals of differences in accuracy; runs on the same tracks are paired by track id."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from genreclf.evaluation.bootstrap import Hits, draw_differences
from genreclf.evaluation.intervals import (
    Count,
    Estimate,
    Z,
    compute_cluster_width,
    compute_mean,
    compute_student_width,
    count_accuracy,
    estimate_share,
    find_complete,
    have_predictions,
    pool_folds,
)
from genreclf.evaluation.runs import Run


def estimate_difference(first: Sequence[Run], second: Sequence[Run], part: str = "val") -> Estimate:
    """Estimate the accuracy of the first runs minus that of the second.

    With predictions, the interval comes from a bootstrap that resamples the tracks of both sides
    together, so what they share cancels out; if both sides have the same seeds, these are paired as
    well. Without predictions, it comes from counts, see `estimate_count_difference`. With one seed
    on a side, that side's seeds contribute nothing.

    Args:
        first: runs that differ only in the seed and the fold.
        second: the runs to compare them with.
        part: as for `estimate_accuracy`.
    """
    sides = [[count_accuracy(run, part) for run in runs] for runs in (first, second)]
    kept = _find_common(*sides)
    first, second = ([runs[i] for i in at] for runs, at in zip((first, second), kept, strict=True))
    sides = [[counts[i] for i in at] for counts, at in zip(sides, kept, strict=True)]
    counted = _estimate(*sides)
    if not have_predictions([*first, *second], part):
        return counted
    draws = draw_differences(Hits.read([first, second]))
    low, high = map(float, np.quantile(draws, [0.025, 0.975]))
    folds = max(map(len, _list_gaps(*sides).values()), default=0)
    if folds > 1 and counted.low is not None and counted.high is not None:  # folds are clusters
        low, high = min(low, counted.low), max(high, counted.high)
    return Estimate(counted.value, min(low, counted.value), max(high, counted.value))


def estimate_count_difference(first: Sequence[Count], second: Sequence[Count]) -> Estimate:
    """Estimate the difference of two shares from counts alone.

    Folds that both sides tested are compared with each other: the interval is Student's over their
    differences, to which the seeds' is added as in `estimate_share`. Without folds, the same
    is done with the splits, if each seed has its own. Neither is narrower than the tracks allow. If
    there is only one fold or split, the intervals of both sides are combined (Newcombe, 1998),
    which ignores that they tested the same tracks and is therefore too wide. Folds and splits that
    only one side tested count only if the sides have none in common.
    """
    sides = zip((first, second), _find_common(first, second), strict=True)
    return _estimate(*([counts[i] for i in at] for counts, at in sides))


def have_common_tracks(first: Sequence[Count], second: Sequence[Count]) -> bool:
    """Whether both sides tested the same fold or split."""
    return bool(_list_blocks(first) & _list_blocks(second))


def _find_common(first: Sequence[Count], second: Sequence[Count]) -> list[list[int]]:
    """Find the positions of the counts of both sides that can be compared with each other."""
    sides = first, second
    kept = [find_complete(counts) for counts in sides]
    blocks = [_list_blocks(counts[i] for i in at) for counts, at in zip(sides, kept, strict=True)]
    common = blocks[0] & blocks[1] or blocks[0] | blocks[1]
    return [
        [i for i in at if (counts[i].split, counts[i].fold) in common]
        for counts, at in zip(sides, kept, strict=True)
    ]


def _list_blocks(counts: Iterable[Count]) -> set[tuple[str, str]]:
    """List the splits and folds that were tested."""
    return {(count.split, count.fold) for count in counts}


def _estimate(first: Sequence[Count], second: Sequence[Count]) -> Estimate:
    estimates = [estimate_share(counts) for counts in (first, second)]
    gap = estimates[0].value - estimates[1].value
    gaps = _list_gaps(first, second)
    if sum(map(len, gaps.values())) < 2:
        return _combine(*estimates)
    pooled = [pool_folds(counts) for counts in (first, second)]
    if any(len(values) > 1 for values in gaps.values()):
        seeds = (compute_student_width(shares) for shares, _ in pooled)
        half = math.hypot(compute_cluster_width(gaps.values()), *seeds)
    else:  # each seed has its own split
        half = compute_student_width([values[0] for values in gaps.values()])
    half = max(half, _compute_least_width(gap, min(tracks for _, tracks in pooled)))
    return Estimate(gap, max(gap - half, -1.0), min(gap + half, 1.0))


def _combine(first: Estimate, second: Estimate) -> Estimate:
    """Combine the intervals of two shares to that of their difference (Newcombe, 1998)."""
    gap = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(gap)
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(gap, gap - below, gap + above)


def _compute_least_width(gap: float, tracks: float) -> float:
    """Compute half the width of the interval if the worse side is right only where the other is.

    A share of at least |gap| of the tracks is classified correctly by one side only, so the
    variance of the paired difference, as in McNemar's test, is at least (|gap| - gap^2) / tracks.
    Half a track is added to each side as in `draw_differences`.
    """
    apart, shift = (abs(gap) * tracks + 1) / (tracks + 1), gap * tracks / (tracks + 1)
    return Z * math.sqrt((apart - shift**2) / (tracks + 1))


def _list_gaps(first: Sequence[Count], second: Sequence[Count]) -> dict[str, list[float]]:
    """List the differences of the folds that both sides tested, averaged over seeds, by split."""
    gaps: dict[str, list[float]] = {}
    shares = [_average_blocks(counts) for counts in (first, second)]
    for block in shares[0]:
        if block in shares[1]:
            gaps.setdefault(block[0], []).append(shares[0][block] - shares[1][block])
    return gaps


def _average_blocks(counts: Sequence[Count]) -> dict[tuple[str, str], float]:
    """Average the share of each split and fold over its seeds."""
    shares: dict[tuple[str, str], list[float]] = {}
    for count in counts:
        if count.tracks:
            shares.setdefault((count.split, count.fold), []).append(count.correct / count.tracks)
    return {block: compute_mean(values) for block, values in shares.items()}
