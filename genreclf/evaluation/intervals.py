"""Figures of several runs that differ in the seed alone, with their 95 % intervals.

One run, or several that agree to the track: Wilson's interval of a share of its tracks, which knows
nothing of other seeds. Several: the mean over the seeds with Student's t-interval, which knows of
nothing but the seeds.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.stats import binomtest

from genreclf.evaluation.runs import Run


def compute_wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of an accuracy: Wilson's score interval of a binomial share."""
    low, high = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


class Estimate(NamedTuple):
    """A value with its 95 % interval; None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Mean with t-interval; of one value, that value alone."""
    middle = compute_mean(values)
    if len(values) < 2:
        return Estimate(middle)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(middle, middle - half, middle + half)


def estimate_share(counts: Sequence[tuple[int, int]]) -> Estimate:
    """A share of which each seed gives (number right, number in all)."""
    shares = [right / total if total else 0.0 for right, total in counts]
    if len(set(counts)) > 1:
        value, low, high = estimate_mean(shares)
        return Estimate(value, max(low or 0.0, 0.0), min(high or 0.0, 1.0))
    right, total = counts[0]
    return (
        Estimate(shares[0], *compute_wilson_interval(right, total))
        if total
        else Estimate(shares[0])
    )


def estimate_accuracy(runs: Sequence[Run], part: str = "val") -> Estimate:
    """Accuracy of the kept epoch on a part, "val" or "test"."""
    figures = [run.result[part] for run in runs]
    return estimate_share([(round(each["accuracy"] * each["n"]), each["n"]) for each in figures])


def estimate_recall(figures: Sequence[dict[str, Any]]) -> Estimate:
    """Recall of a genre, of its figures in the `per_genre` of each run."""
    return estimate_share([(count_correct(each), each["support"]) for each in figures])


def count_correct(figures: dict[str, Any]) -> int:
    """How many tracks of a genre were recognised."""
    return round(figures["recall"] * figures["support"])


def compute_mean(values: Sequence[float]) -> float:
    """The mean, as a plain number."""
    return float(np.mean(values))


def average_figure(runs: Sequence[Run], figure: Callable[[dict[str, Any]], float]) -> float:
    """Mean of a figure of `result.json` over the runs."""
    return compute_mean([figure(run.result) for run in runs])


def estimate_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of the first less that of the second, with Welch's interval."""
    gap = compute_mean(first) - compute_mean(second)
    if min(len(first), len(second)) < 2 or not np.var(first) + np.var(second):
        return Estimate(gap)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one side that does not vary
        found: Any = stats.ttest_ind(first, second, equal_var=False)
        low, high = map(float, found.confidence_interval(0.95))
    return Estimate(gap, low, high) if math.isfinite(low) else Estimate(gap)
