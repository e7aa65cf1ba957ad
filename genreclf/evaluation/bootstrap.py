"""A bootstrap over the tested tracks and the seeds of runs.

Tracks with the same results in all runs are interchangeable, so the bootstrap draws how often each
pattern of results occurs instead of drawing tracks. Its cost does not depend on the number of
tracks. It always uses the same random numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genreclf.evaluation.runs import Run

DRAWS = 10_000
AT_ONCE = 5_000_000  # numbers drawn at a time, to bound the memory


@dataclass(frozen=True)
class Hits:
    """Which tracks were classified correctly by the runs of one or two configurations.

    Args:
        values: float (seeds, tracks): 1 correct, 0 wrong, NaN not tested. The tracks are those
            that any run was tested on; the folds of a seed are one row.
        seeds: seed of each row.
        sides: number of the configuration of each row, from 0.
    """

    values: np.ndarray
    seeds: list[int]
    sides: list[int]

    @classmethod
    def read(cls, sides: Sequence[Sequence[Run]]) -> "Hits":
        """Read the predictions of the runs of each configuration."""
        rows: dict[tuple[int, int], dict[str, bool]] = {}
        for side, runs in enumerate(sides):
            for run in runs:
                row = rows.setdefault((side, run.result["config"]["seed"]), {})
                row.update(run.read_correct())
        names = dict.fromkeys(name for row in rows.values() for name in row)
        numbers = {name: number for number, name in enumerate(names)}
        values = np.full((len(rows), len(numbers)), np.nan)
        for row, found in zip(values, rows.values(), strict=True):
            row[[numbers[name] for name in found]] = list(found.values())
        return cls(values, [seed for _, seed in rows], [side for side, _ in rows])

    @property
    def accuracies(self) -> np.ndarray:
        """Accuracy of each row, float (seeds,)."""
        return np.nanmean(self.values, axis=1)


def draw_means(hits: Hits) -> np.ndarray:
    """Draw the mean accuracy of one configuration over its seeds, float (draws,)."""
    rng = np.random.default_rng(0)
    drawn = _draw_accuracies(hits.values, np.ones(hits.values.shape[1]), rng)
    return drawn.mean(axis=1) + _draw_seed_effect(hits.accuracies, drawn, rng)


def draw_differences(hits: Hits) -> np.ndarray:
    """Draw the mean accuracy of the first of two configurations minus the second's, (draws,).

    Half a track that only the first classifies correctly and half a track that only the second
    does are added (Agresti and Min, 2005): without them, two configurations that happen to agree
    on all tracks would seem to agree with certainty.
    """
    rng = np.random.default_rng(0)
    first = np.array(hits.sides) == 0
    values = np.column_stack([hits.values, first, ~first])
    times = np.append(np.ones(hits.values.shape[1]), [0.5, 0.5])
    drawn, found = _draw_accuracies(values, times, rng), hits.accuracies
    gap = drawn[:, first].mean(axis=1) - drawn[:, ~first].mean(axis=1)
    seeds = np.array(hits.seeds)
    orders = [np.argsort(seeds[side], kind="stable") for side in (first, ~first)]
    if sorted(seeds[first]) == sorted(seeds[~first]):  # pair the seeds as well
        own, other = (
            (found[side][order], drawn[:, side][:, order])
            for side, order in zip((first, ~first), orders, strict=True)
        )
        return gap + _draw_seed_effect(own[0] - other[0], own[1] - other[1], rng)
    effects = (_draw_seed_effect(found[side], drawn[:, side], rng) for side in (first, ~first))
    return gap + sum(effects)


def _draw_accuracies(values: np.ndarray, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw tracks with replacement; return each row's accuracy on them, float (draws, rows).

    Args:
        values: float (rows, tracks), see `Hits`.
        times: how often each track counts, float (tracks,).
        rng: random numbers.
    """
    codes = np.where(np.isnan(values), -1, values).astype(np.int8)
    patterns, members = np.unique(codes, axis=1, return_inverse=True)
    weights = np.bincount(members.ravel(), weights=times)
    tested, correct = (patterns >= 0).T.astype(float), (patterns == 1).T.astype(float)
    parts, usual = [], np.nanmean(values, axis=1)
    step = max(AT_ONCE // len(weights), 1)
    for start in range(0, DRAWS, step):
        size = min(step, DRAWS - start)
        drawn = rng.multinomial(round(weights.sum()), weights / weights.sum(), size=size)
        with np.errstate(invalid="ignore"):  # no tested track was drawn
            parts.append(np.where(drawn @ tested > 0, (drawn @ correct) / (drawn @ tested), usual))
    return np.concatenate(parts)


def _draw_seed_effect(
    values: np.ndarray, drawn: np.ndarray, rng: np.random.Generator
) -> np.ndarray | float:
    """Draw how far the mean over the seeds is from that over all possible seeds, (draws,).

    Args:
        values: what was measured with each seed, float (seeds,).
        drawn: the same on resampled tracks, float (draws, seeds). Their additional variance shows
            how much of the seeds' variance is due to the tracks, which is not counted twice.
        rng: random numbers.
    """
    count = len(values)
    if count < 2:
        return 0.0
    total = values.var(ddof=1)
    from_tracks = drawn.var(axis=1, ddof=1).mean() - total
    rest = max(total - from_tracks, 0.0)
    return rng.standard_t(count - 1, len(drawn)) * np.sqrt(rest / count)
