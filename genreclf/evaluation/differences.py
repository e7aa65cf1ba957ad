"""95 % intervals of differences in accuracy; runs on the same tracks are paired by track id."""

import math
from collections.abc import Sequence

import numpy as np

from genreclf.evaluation.bootstrap import Hits, draw_differences
from genreclf.evaluation.intervals import (
    Count,
    Estimate,
    compute_mean,
    compute_student_width,
    count_accuracy,
    estimate_share,
    have_predictions,
    pool_folds,
)
from genreclf.evaluation.runs import Run


def estimate_difference(first: Sequence[Run], second: Sequence[Run], part: str = "val") -> Estimate:
    """Estimate the accuracy of the first runs minus that of the second.

    With predictions, the interval comes from a bootstrap that resamples the tracks of both sides
    together, so what they share cancels out; if both sides have the same seeds, these are paired as
    well. Without predictions, the intervals of both sides are combined (Newcombe, 1998). With one
    seed on a side, that side's seeds contribute nothing.

    Args:
        first: runs that differ only in the seed and the fold.
        second: the runs to compare them with.
        part: as for `estimate_accuracy`.
    """
    counts = [[count_accuracy(run, part) for run in runs] for runs in (first, second)]
    counted = estimate_count_difference(counts[0], counts[1])
    if not have_predictions([*first, *second], part):
        return counted
    draws = draw_differences(Hits.read([first, second]))
    low, high = map(float, np.quantile(draws, [0.025, 0.975]))
    if len(_list_blocks(counts[0], counts[1], "fold")) > 1:
        low, high = min(low, counted.low or 0.0), max(high, counted.high or 0.0)
    return Estimate(counted.value, min(low, counted.value), max(high, counted.value))


def estimate_count_difference(first: Sequence[Count], second: Sequence[Count]) -> Estimate:
    """Estimate the difference of two shares from counts alone.

    Folds that both sides tested are compared with each other: the interval is Student's over their
    differences, to which the seeds' is added as in `estimate_share`. Without folds, the same
    is done with the splits, if each seed has its own. If all runs have the same split, the
    intervals of both sides are combined (Newcombe, 1998), which ignores that they tested the same
    tracks and is therefore too wide.
    """
    for name in ("fold", "split"):
        blocks = _list_blocks(first, second, name)
        if len(blocks) > 1:
            sides = [
                [c for c in counts if getattr(c, name) in blocks] for counts in (first, second)
            ]
            gaps = [_average(sides[0], name, b) - _average(sides[1], name, b) for b in blocks]
            pooled = [pool_folds(counts)[0] for counts in sides]
            gap = compute_mean(pooled[0]) - compute_mean(pooled[1])
            seeds = map(compute_student_width, pooled) if name == "fold" else ()
            half = math.hypot(compute_student_width(gaps), *seeds)
            return Estimate(gap, gap - half, gap + half)
    estimates = [estimate_share(counts) for counts in (first, second)]
    gap = estimates[0].value - estimates[1].value
    bounds = [(each.value - (each.low or 0), (each.high or 0) - each.value) for each in estimates]
    (below, above), (below_other, above_other) = bounds
    half = math.hypot(below, above_other), math.hypot(above, below_other)
    return Estimate(gap, gap - half[0], gap + half[1])


def _list_blocks(first: Sequence[Count], second: Sequence[Count], name: str) -> list[str]:
    """List the folds or splits that both sides tested."""
    others = {getattr(count, name) for count in second}
    return [b for b in dict.fromkeys(getattr(count, name) for count in first) if b in others]


def _average(counts: Sequence[Count], name: str, block: str) -> float:
    """Average the share of a fold or split over its seeds."""
    return compute_mean([c.correct / max(c.tracks, 1) for c in counts if getattr(c, name) == block])
