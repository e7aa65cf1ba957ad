from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from genreclf.evaluation import differences, intervals
from genreclf.evaluation.bootstrap import Hits, draw_means
from genreclf.evaluation.intervals import Count, Estimate
from genreclf.evaluation.runs import Predictions, Run

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run that classified these tracks correctly (1) or not (0)."""

    def make(correct: Sequence[int], seed: int = 0, first: int = 0, split: Any = "") -> Run:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        ids = [str(first + number) for number in range(len(correct))]
        scores = np.stack([correct, 1 - np.asarray(correct)], axis=1).astype(float)
        Predictions(ids, np.zeros(len(ids), int), scores, ["a", "b"]).write(
            folder / "predictions.csv"
        )
        test = {"accuracy": float(np.mean(correct)), "n": len(correct)}
        config = {"seed": seed, "split": {"seed": split}}
        val = {"accuracy": 0.5, "n": 100}
        return Run(folder, {"test": test, "val": val, "tested_on": "test", "config": config})

    return make


def covers(wide: Estimate, narrow: tuple[float, float]) -> bool:
    assert wide.low is not None
    assert wide.high is not None
    return wide.low <= narrow[0] + 1e-9 and wide.high >= narrow[1] - 1e-9


def test_wilson_is_scipys() -> None:
    for correct, total in ((0, 10), (10, 10), (3, 7), (1082, 1700)):
        found = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
        assert intervals.compute_wilson_interval(correct, total) == pytest.approx(
            (found.low, found.high), abs=1e-12
        )


def test_seeds_that_agree_have_the_uncertainty_of_their_tracks_a4() -> None:
    """A4: an interval over seeds includes the choice of the tracks."""
    counts = [Count(correct, 800, seed) for seed, correct in enumerate((480, 481, 482))]
    found = intervals.estimate_share(counts)
    assert covers(found, intervals.compute_wilson_interval(481, 800))
    assert found == pytest.approx((0.60125, 0.5668, 0.6348), abs=1e-4)


@pytest.mark.parametrize("spread", [0, 1, 20, 100])
@pytest.mark.parametrize("split", ["", "own"])
def test_an_interval_is_never_narrower_than_wilsons_or_students_a4(spread: int, split: str) -> None:
    """A4: neither tracks nor seeds are left out."""
    shares = [400 - spread, 400, 400 + 2 * spread]
    counts = [
        Count(n, 800, seed, "", f"{split}{seed}" * bool(split)) for seed, n in enumerate(shares)
    ]
    found, mean = intervals.estimate_share(counts), float(np.mean(shares))
    assert found.value == pytest.approx(mean / 800)
    assert covers(found, intervals.compute_wilson_interval(mean, 800))
    half = stats.t.ppf(0.975, 2) * stats.sem(shares) / 800
    assert covers(found, (max(found.value - half, 0), min(found.value + half, 1)))


def test_one_run_has_wilsons_interval() -> None:
    assert intervals.estimate_share([Count(1082, 1700)]) == pytest.approx(
        (1082 / 1700, *intervals.compute_wilson_interval(1082, 1700))
    )
    assert intervals.estimate_share([Count(0, 0)]) == (0, None, None)


def test_folds_are_pooled_and_are_clusters() -> None:
    folds = [Count(90, 100, 0, "0"), Count(100, 300, 0, "1"), Count(60, 100, 0, "2")]
    found = intervals.estimate_share(folds)
    assert found.value == pytest.approx(250 / 500)
    half = stats.t.ppf(0.975, 2) * stats.sem([0.9, 1 / 3, 0.6])
    assert found[1:] == pytest.approx((max(0.5 - half, 0), min(0.5 + half, 1)))
    alike = [Count(50, 100, 0, str(fold)) for fold in range(5)]
    assert intervals.estimate_share(alike)[1:] == pytest.approx(
        intervals.compute_wilson_interval(250, 500)
    )
    assert intervals.find_fold_range(folds) == pytest.approx((1 / 3, 0.9))
    assert intervals.find_fold_range(folds[:1]) is None


def test_the_bootstrap_covers_tracks_and_seeds_a4(make_run: MakeRun) -> None:
    """A4: with predictions, a bootstrap over seeds and tracks, at least as wide as Wilson's."""
    rng = np.random.default_rng(0)
    same = rng.random(400) < 0.6
    alike = [make_run(same, seed) for seed in range(3)]
    mean = float(same.mean())
    found = intervals.estimate_accuracy(alike, "test")
    assert found[1:] == pytest.approx(intervals.compute_wilson_interval(400 * mean, 400))
    apart = [make_run(rng.random(400) < share, seed) for seed, share in enumerate((0.4, 0.6, 0.8))]
    wide, counted = (
        intervals.estimate_accuracy(apart, "test"),
        intervals.estimate_share([intervals.count_accuracy(run, "test") for run in apart]),
    )
    assert covers(wide, (0.3, 0.9))
    assert wide[1:] == pytest.approx(counted[1:], abs=0.05)
    assert intervals.estimate_accuracy(apart, "test") == wide, "always the same random numbers"


def test_the_bootstrap_counts_a_track_once_whatever_the_splits(make_run: MakeRun) -> None:
    rng = np.random.default_rng(0)
    runs = [
        make_run(rng.random(200) < 0.6, seed, first=100 * seed, split=seed) for seed in range(4)
    ]
    found = intervals.estimate_accuracy(runs, "test")
    assert found.low is not None
    assert covers(found, intervals.compute_wilson_interval(500 * found.value, 500))
    assert found.value - found.low < 0.08


def test_differences_on_the_same_tracks_are_paired_a4(make_run: MakeRun) -> None:
    """A4: a small but consistent difference is found where the separate intervals overlap."""
    rng = np.random.default_rng(0)
    before = (rng.random(1000) < 0.6).astype(int)
    after = before.copy()
    after[np.flatnonzero(before == 0)[:30]] = 1
    gap = differences.estimate_difference([make_run(after)], [make_run(before)], "test")
    assert gap.value == pytest.approx(0.03)
    half = 1.96 * np.sqrt(0.03 * 0.97 / 1000)
    assert gap[1:] == pytest.approx((0.03 - half, 0.03 + half), abs=0.003)
    counts = [[Count(int(sum(each)), 1000)] for each in (after, before)]
    unpaired = differences.estimate_count_difference(*counts)
    assert unpaired.low is not None
    assert unpaired.low < 0, "counts alone cannot be paired"
    reverse = differences.estimate_difference([make_run(before)], [make_run(after)], "test")
    assert reverse == pytest.approx((-gap[0], -gap[2], -gap[1]), abs=2e-3)  # type: ignore[index]


def test_runs_that_agree_on_all_tracks_do_not_differ_with_certainty(make_run: MakeRun) -> None:
    runs = [make_run([1, 0] * 20) for _ in range(2)]
    gap = differences.estimate_difference(runs[:1], runs[1:], "test")
    assert gap.value == 0
    assert gap.low is not None
    assert -0.06 < gap.low < 0


def test_the_seeds_of_both_sides_widen_a_difference(make_run: MakeRun) -> None:
    rng = np.random.default_rng(0)
    sides = [
        [make_run(rng.random(500) < share, seed) for seed, share in enumerate(shares)]
        for shares in ((0.4, 0.6, 0.8), (0.3, 0.7, 0.5))
    ]
    low, high = differences.estimate_difference(*sides, "test")[1:]
    assert low is not None
    assert high is not None
    paired = [
        a.result["test"]["accuracy"] - b.result["test"]["accuracy"]
        for a, b in zip(*sides, strict=True)
    ]
    half = stats.t.ppf(0.975, 2) * stats.sem(paired)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    other = differences.estimate_difference(sides[0], sides[1][:2], "test")  # other seeds
    assert other.low is not None
    assert other.low < other.value


def test_folds_are_compared_with_each_other() -> None:
    first = [Count(n, 100, 0, str(fold)) for fold, n in enumerate((50, 70, 90))]
    second = [Count(n, 100, 0, str(fold)) for fold, n in enumerate((45, 66, 84))]
    gap = differences.estimate_count_difference(first, second)
    half = stats.t.ppf(0.975, 2) * stats.sem([0.05, 0.04, 0.06])
    assert gap == pytest.approx((0.05, 0.05 - half, 0.05 + half))
    own = [
        [c._replace(fold="", seed=n, split=str(n)) for n, c in enumerate(s)]
        for s in (first, second)
    ]
    assert differences.estimate_count_difference(*own) == pytest.approx(gap)


def test_the_validation_part_of_a_tested_run_has_counts_only(make_run: MakeRun) -> None:
    runs = [make_run([1, 0], seed) for seed in range(2)]
    found = intervals.estimate_accuracy(runs, "val")
    assert found[1:] == pytest.approx(intervals.compute_wilson_interval(50, 100))
    gap = differences.estimate_difference(runs, runs, "val")
    assert gap.value == 0
    assert gap.low == pytest.approx(-0.1336, abs=0.01)


def test_the_bootstrap_covers_the_truth() -> None:
    """Of simulated experiments (three seeds, 400 tracks of different difficulty), 95 % or more."""
    rng, covered, count = np.random.default_rng(0), 0, 60
    truth = float(expit(rng.normal(0, 2, 10**5) + 0.4).mean())
    for _ in range(count):
        difficulty = rng.normal(0, 2, 400)
        values = (rng.random((3, 400)) < expit(difficulty + 0.4)).astype(float)
        draws = draw_means(Hits(values, [0, 1, 2], [0, 0, 0]))
        low, high = np.quantile(draws, [0.025, 0.975])
        covered += low <= truth <= high
    assert 0.9 * count <= covered <= count
