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

    def make(
        correct: Sequence[int], seed: int = 0, first: int = 0, split: Any = "", number: str = ""
    ) -> Run:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        ids = [str(first + number) for number in range(len(correct))]
        scores = np.stack([correct, 1 - np.asarray(correct)], axis=1).astype(float)
        Predictions(ids, np.zeros(len(ids), int), scores, ["a", "b"]).write(
            folder / "predictions.csv"
        )
        test = {"accuracy": float(np.mean(correct)), "n": len(correct)}
        config = {"seed": seed, "split": {"seed": split, "number": number}}
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
    nothing = intervals.estimate_share([Count(0, 0)])
    assert np.isnan(nothing.value)
    assert nothing[1:] == (None, None)


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
    first = [Count(10 * n, 1000, 0, str(fold)) for fold, n in enumerate((50, 70, 90))]
    second = [Count(10 * n, 1000, 0, str(fold)) for fold, n in enumerate((45, 66, 84))]
    gap = differences.estimate_count_difference(first, second)
    half = stats.t.ppf(0.975, 2) * stats.sem([0.05, 0.04, 0.06])
    assert gap == pytest.approx((0.05, 0.05 - half, 0.05 + half))
    own = [
        [c._replace(fold="", seed=n, split=str(n)) for n, c in enumerate(s)]
        for s in (first, second)
    ]
    assert differences.estimate_count_difference(*own) == pytest.approx(gap)


@pytest.mark.parametrize("name", ["fold", "split"])
def test_no_difference_is_certain(name: str) -> None:
    """Blocks that happen to agree leave the uncertainty of their tracks: McNemar's, at least."""
    counts: list[list[Count]] = [
        [Count(correct, 100, n * (name == "split"), **{name: str(n)}) for n in range(2)]
        for correct in (60, 58)
    ]
    gap = differences.estimate_count_difference(*counts)
    tracks = 200 if name == "fold" else 100
    assert gap.low is not None
    assert gap.high is not None
    half = 1.96 * np.sqrt((0.02 - 0.02**2) / tracks)
    assert half <= gap.high - 0.02 < half + 1.5 / tracks
    assert gap.high - gap.value == pytest.approx(gap.value - gap.low)
    same = differences.estimate_count_difference(counts[0], counts[0])
    assert same.value == 0
    assert same.low == pytest.approx(-1.96 / (tracks + 1), abs=1e-4)


def test_the_least_width_is_that_of_paired_tracks(make_run: MakeRun) -> None:
    """Where no track speaks for the worse side, counts and predictions give the same interval."""
    folds = [[Count(n, 200, 0, str(fold)) for fold in range(2)] for n in (120, 100)]
    runs = [[make_run(np.arange(400) < correct)] for correct in (240, 200)]
    counted = differences.estimate_count_difference(*folds)
    assert counted == pytest.approx(differences.estimate_difference(*runs, "test"), abs=0.004)


def test_only_folds_that_every_seed_has_count(make_run: MakeRun) -> None:
    """A seed that lacks the hard fold does not look better than it is."""
    counts = [Count(90, 100, 0, "0"), Count(30, 100, 0, "1"), Count(88, 100, 1, "0")]
    assert intervals.estimate_share(counts) == intervals.estimate_share([counts[0], counts[2]])
    runs = [
        make_run(np.arange(100) < c.correct, c.seed, number=c.fold, first=100 * int(c.fold))
        for c in counts
    ]
    found = intervals.estimate_accuracy(runs, "test")
    assert found == intervals.estimate_accuracy([runs[0], runs[2]], "test")
    apart = [Count(90, 100, 0, "0"), Count(30, 100, 1, "1")]
    assert intervals.estimate_share(apart).value == pytest.approx(0.6), "no fold in common"


def test_one_fold_in_common_is_compared_with_itself(make_run: MakeRun) -> None:
    """Also where only one fold is shared, other folds are not mixed into the difference."""
    first = [Count(90, 100, 0, "0"), Count(30, 100, 0, "1"), Count(50, 100, 0, "2")]
    second = [Count(29, 100, 0, "1"), Count(70, 100, 0, "3")]
    gap = differences.estimate_count_difference(first, second)
    assert gap == differences.estimate_count_difference([first[1]], [second[0]])
    assert gap.value == pytest.approx(0.01)
    sides = [
        [make_run(np.arange(100) < c.correct, number=c.fold, first=100 * int(c.fold)) for c in side]
        for side in (first, second)
    ]
    found = differences.estimate_difference(*sides, "test")
    assert found == differences.estimate_difference([sides[0][1]], [sides[1][0]], "test")
    assert found.value == pytest.approx(0.01)


def test_folds_of_different_splits_are_not_the_same_fold() -> None:
    """Fold 0 of five is not fold 0 of ten; the folds of each seed's own split stay apart."""
    five, ten = (
        [Count(n, 100, 0, str(fold), split) for fold, n in enumerate((50, 70, 90))]
        for split in ("5", "10")
    )
    assert not differences.have_common_tracks(five, ten)
    unpaired = differences.estimate_count_difference(five, ten)
    assert unpaired.low is not None
    assert unpaired.low < -0.2, "not Student's of three differences that are 0"
    own = [
        [Count(50 + step * fold * (-1) ** seed, 100, seed, str(fold), str(seed))
         for seed in range(2) for fold in range(5)]
        for step in (5, 0)
    ]  # fmt: skip
    gap = differences.estimate_count_difference(*own)
    half = stats.t.ppf(0.975, 4) * stats.sem([0.05 * fold for fold in range(5)])
    assert gap.low is not None
    assert gap.value - gap.low >= half, "opposite trends of two splits do not cancel out"


def test_a_genre_without_tracks_is_not_one_that_is_never_recognised() -> None:
    """Folds and seeds without a track of a genre do not count; without any, there is no value."""
    counts = [Count(8, 10, 0, "0"), Count(0, 0, 0, "1"), Count(6, 10, 1, "0"), Count(0, 0, 1, "1")]
    assert intervals.estimate_share(counts) == intervals.estimate_share(counts[::2])
    assert intervals.estimate_share(counts).value == pytest.approx(0.7)
    seeds = [Count(8, 10, 0), Count(0, 0, 1, split="own")]
    assert intervals.estimate_share(seeds).value == pytest.approx(0.8)


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
