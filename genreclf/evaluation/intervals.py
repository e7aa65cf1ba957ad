"""95 % confidence intervals of runs that differ only in their seed.

For one run, or several with the same counts, it is Wilson's interval of the share of tracks, which
says nothing about other seeds. For several runs, it is Student's t-interval of the mean over the
seeds, which covers only the variation between seeds.

SciPy is imported where it is used: importing this module stays fast.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from genreclf.evaluation.runs import Run


class Estimate(NamedTuple):
    """A value with its 95 % interval; the bounds are None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


def compute_wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Compute the 95 % interval of an accuracy: Wilson's score interval of a binomial share."""
    from scipy.stats import binomtest

    low, high = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Estimate the mean, with Student's t-interval if there are at least two values."""
    middle = compute_mean(values)
    if len(values) < 2:
        return Estimate(middle)
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(middle, middle - half, middle + half)


def estimate_share(counts: Sequence[tuple[int, int]]) -> Estimate:
    """Estimate a share from (number correct, number in all) of each seed."""
    shares = [correct / total if total else 0.0 for correct, total in counts]
    if len(set(counts)) > 1:
        value, low, high = estimate_mean(shares)
        return Estimate(value, max(low or 0.0, 0.0), min(high or 0.0, 1.0))
    correct, total = counts[0]
    if not total:
        return Estimate(shares[0])
    return Estimate(shares[0], *compute_wilson_interval(correct, total))


def estimate_accuracy(runs: Sequence[Run], part: str = "val") -> Estimate:
    """Estimate the accuracy of the kept epoch on a part, "val" or "test"."""
    found = [run.result[part] for run in runs]
    return estimate_share([(round(each["accuracy"] * each["n"]), each["n"]) for each in found])


def estimate_recall(genre: Sequence[dict[str, Any]]) -> Estimate:
    """Estimate the recall of a genre from its `per_genre` entry in each run."""
    return estimate_share([(count_correct(each), each["support"]) for each in genre])


def estimate_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate the mean of `first` minus the mean of `second`, with Welch's interval.

    There is no interval if a side has fewer than two values, or if nothing varies.
    """
    gap = compute_mean(first) - compute_mean(second)
    if min(len(first), len(second)) < 2 or not np.var(first) + np.var(second):
        return Estimate(gap)
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one side does not vary
        found: Any = stats.ttest_ind(first, second, equal_var=False)
        low, high = map(float, found.confidence_interval(0.95))
    return Estimate(gap, low, high) if math.isfinite(low) else Estimate(gap)


def count_correct(genre: dict[str, Any]) -> int:
    """Count the correctly classified tracks of a genre from its `per_genre` entry."""
    return round(genre["recall"] * genre["support"])


def compute_mean(values: Sequence[float]) -> float:
    """Compute the mean, as a plain float."""
    return float(np.mean(values))


def average_runs(runs: Sequence[Run], read: Callable[[dict[str, Any]], float]) -> float:
    """Average a value of `result.json` over the runs; `read` takes it from a result."""
    return compute_mean([read(run.result) for run in runs])
