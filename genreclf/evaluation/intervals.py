"""95 % confidence intervals of accuracies.

An accuracy varies with the tracks that are tested and with the seed of the training, and its
interval has to cover both:

- One run has Wilson's score interval. It says nothing about other seeds.
- Several seeds have the interval of a bootstrap: the tracks are resampled, each with the results of
  all seeds, and the mean over the seeds is shifted by a draw from Student's t distribution, because
  a few seeds are too few to be resampled. Where only counts are known, Wilson's interval of the
  mean and Student's t-interval over the seeds are combined by adding the squares of their widths
  (Zou and Donner, 2008), which is as wide or wider.
- Folds are pooled. Tracks of one fold may resemble each other (they share artists), so Student's
  t-interval over the folds applies where it is wider. Only folds that every seed has count: one
  fold may be easier than another.

No interval of an accuracy is narrower than Wilson's interval of the mean. `differences` has the
intervals of differences between runs.

SciPy is imported where it is used: importing this module stays fast.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from genreclf.evaluation.bootstrap import Hits, draw_means
from genreclf.evaluation.runs import Run

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


class Estimate(NamedTuple):
    """A value with its 95 % interval.

    The value is NaN where no track was tested; the bounds are None where there is no interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Count(NamedTuple):
    """How many tracks one run classified correctly.

    Args:
        correct: number of tracks that were classified correctly.
        tracks: number of tracks that were tested.
        seed: seed of the run.
        fold: the fold that was tested; empty without folds.
        split: what else decides which tracks are tested, such as the seed of the split. Seeds
            whose `split` differs are tested on different tracks.
    """

    correct: int
    tracks: int
    seed: int = 0
    fold: str = ""
    split: str = ""


def compute_wilson_interval(correct: float, total: float) -> tuple[float, float]:
    """Compute the 95 % interval of a share: Wilson's score interval (Wilson, 1927).

    Args:
        correct: number of correct tracks, from 0 to `total`; a mean over seeds need not be whole.
        total: number of tracks, above 0.
    """
    share, square = correct / total, Z * Z / total
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / total + square / (4 * total))
    low = middle - half if correct > 0 else 0.0
    return max(low, 0.0), min(middle + half, 1.0) if correct < total else 1.0


def estimate_share(counts: Sequence[Count]) -> Estimate:
    """Estimate a share from counts alone, pooled over the folds of each seed; see the module.

    Seeds and folds without a track, such as those of a genre, do not count.
    """
    counts = [counts[i] for i in find_complete(counts) if counts[i].tracks]
    if not counts:
        return Estimate(math.nan)
    shares, tracks = pool_folds(counts)
    mean = compute_mean(shares)
    folds = _compute_fold_width(counts)
    low, high = _widen(mean, compute_wilson_interval(mean * tracks, tracks), folds)
    seeds = compute_student_width(shares)
    if len({count.split for count in counts}) > 1:  # their spread includes that of the tracks
        low, high = _widen(mean, (low, high), seeds)
    else:
        low, high = mean - math.hypot(mean - low, seeds), mean + math.hypot(high - mean, seeds)
    return Estimate(mean, max(low, 0.0), min(high, 1.0))


def find_complete(counts: Sequence[Count]) -> list[int]:
    """Find the positions of the counts of folds that every seed has; all if there is no such fold.

    While a seed lacks a fold, its mean would be that of other tracks.
    """
    by_seed: dict[int, set[str]] = {}
    for count in counts:
        by_seed.setdefault(count.seed, set()).add(count.fold)
    common = set.intersection(*by_seed.values()) if by_seed else set()
    return [i for i, count in enumerate(counts) if count.fold in common or not common]


def pool_folds(counts: Sequence[Count]) -> tuple[list[float], float]:
    """Return the share of each seed over all its folds, and the mean number of tracks of a seed."""
    pooled = _add_up(counts, "seed")
    shares = [correct / tracks for correct, tracks in pooled if tracks]
    return shares, compute_mean([tracks for _, tracks in pooled])


def _add_up(counts: Sequence[Count], name: str) -> list[tuple[int, int]]:
    """Add up the correct and the tested tracks of each seed or fold."""
    blocks: dict[Any, tuple[int, int]] = {}
    for count in counts:
        correct, tracks = blocks.get(getattr(count, name), (0, 0))
        blocks[getattr(count, name)] = correct + count.correct, tracks + count.tracks
    return list(blocks.values())


def _compute_fold_width(counts: Sequence[Count]) -> float:
    by_seed: dict[int, list[float]] = {}
    for count in counts:
        by_seed.setdefault(count.seed, []).append(count.correct / count.tracks)
    return compute_cluster_width(by_seed.values())


def compute_cluster_width(groups: Iterable[Sequence[float]]) -> float:
    """Compute half the width of Student's t-interval over the folds.

    Args:
        groups: the values of the folds of each seed or split. All tracks are in each group again,
            so the variance is that within a group. Groups of one fold do not count.
    """
    several = [values for values in groups if len(values) > 1]
    if not several:
        return 0.0
    folds = min(map(len, several))
    deviation = math.sqrt(compute_mean([float(np.var(values, ddof=1)) for values in several]))
    return _find_student_quantile(folds) * deviation / math.sqrt(folds)


def find_fold_range(counts: Sequence[Count]) -> tuple[float, float] | None:
    """Find the lowest and the highest accuracy of a fold over its seeds; None with one fold."""
    shares = [correct / tracks for correct, tracks in _add_up(counts, "fold") if tracks]
    return (min(shares), max(shares)) if len(shares) > 1 else None


def compute_student_width(values: Sequence[float]) -> float:
    """Compute half the width of Student's t-interval of the mean; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    deviation = float(np.std(values, ddof=1))
    return _find_student_quantile(len(values)) * deviation / math.sqrt(len(values))


def _find_student_quantile(count: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 0.975))


def _widen(mean: float, bounds: tuple[float, float], half: float) -> tuple[float, float]:
    """Widen an interval so that it reaches at least `half` to both sides of the mean."""
    return min(bounds[0], mean - half), max(bounds[1], mean + half)


def count_accuracy(run: Run, part: str = "val") -> Count:
    """Count the correct tracks of a run on a part, "val" or "test" (the part that was tested)."""
    found = run.result[part]
    return _make_count(run, round(found["accuracy"] * found["n"]), found["n"])


def _make_count(run: Run, correct: int, tracks: int) -> Count:
    split = dict(run.result["config"]["split"])
    fold = str(split.pop("number", ""))
    return Count(correct, tracks, run.result["config"]["seed"], fold, str(sorted(split.items())))


def estimate_accuracy(runs: Sequence[Run], part: str = "val") -> Estimate:
    """Estimate the accuracy of the kept epoch on a part, "val" or "test" (the tested part).

    Args:
        runs: runs that differ only in the seed and the fold; see `find_complete`.
        part: a bootstrap needs the predictions, which a run keeps of the tested part only.
    """
    counts = [count_accuracy(run, part) for run in runs]
    kept = find_complete(counts)
    runs, counts = [runs[i] for i in kept], [counts[i] for i in kept]
    from_counts = estimate_share(counts)
    if len({count.seed for count in counts}) == 1 or not have_predictions(runs, part):
        return from_counts
    hits = Hits.read([runs])
    value, tracks = from_counts.value, hits.values.shape[-1]
    low, high = map(float, np.quantile(draw_means(hits), [0.025, 0.975]))
    wilson = compute_wilson_interval(value * tracks, tracks)
    low, high = min(low, wilson[0]), max(high, wilson[1])
    low, high = _widen(value, (low, high), _compute_fold_width(counts))
    return Estimate(value, max(low, 0.0), min(high, 1.0))


def have_predictions(runs: Sequence[Run], part: str) -> bool:
    """Whether all runs kept their predictions for this part."""
    return all(part == "test" or run.result["tested_on"] == part for run in runs)


def estimate_recall(runs: Sequence[Run], genre: str, part: str = "test") -> Estimate:
    """Estimate the recall of a genre on a part; NaN if no run has a track of it."""
    counts = []
    for run in runs:
        found = run.result[part]["per_genre"][genre]
        counts.append(_make_count(run, count_correct(found), found["support"]))
    return estimate_share(counts)


def count_correct(genre: dict[str, Any]) -> int:
    """Count the correctly classified tracks of a genre from its `per_genre` entry."""
    return round(genre["recall"] * genre["support"])


def compute_mean(values: Sequence[float]) -> float:
    """Compute the mean, as a plain float."""
    return float(np.mean(values))


def average_runs(runs: Sequence[Run], read: Callable[[dict[str, Any]], float]) -> float:
    """Average a value of `result.json` over the runs; `read` takes it from a result."""
    return compute_mean([read(run.result) for run in runs])
