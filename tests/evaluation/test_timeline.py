from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from genreclf.evaluation.prediction import TimelineEntry
from genreclf.evaluation.timeline import find_segments


def make_timeline(genres: Sequence[str], score: float = 0.8) -> list[TimelineEntry]:
    return [TimelineEntry(30 * at, 30 * at + 30, genre, score) for at, genre in enumerate(genres)]


def test_a_short_timeline_is_not_changed() -> None:
    assert find_segments(make_timeline("RRJ")) == [(0, "R"), (60, "J")]
    assert find_segments(make_timeline("R")) == [(0, "R")]


def test_the_timeline_of_a_mix_is_a_few_segments() -> None:
    """C10: hundreds of changes in a mix of hours become a few segments that can be read."""
    random = np.random.default_rng(0)
    true = "R" * 120 + "J" * 140 + "P" * 100  # 3 h
    wrong = random.choice(list("RJPHF"), len(true))
    heard = np.where(random.random(len(true)) < 0.7, list(true), wrong).tolist()
    assert sum(before != after for before, after in pairwise(heard)) > 100
    segments = find_segments(make_timeline(heard, 0.6))
    assert [genre for _, genre in segments] == ["R", "J", "P"]
    np.testing.assert_allclose([at for at, _ in segments], [0, 3600, 7800], atol=200)


def test_the_scores_of_tags_need_not_add_up() -> None:
    """The likeliest of 31 genres may have 20 %; the other of two in the timeline is less likely."""
    assert find_segments(make_timeline("RRRJRRR" * 8 + "J" * 20, 0.2), 31) == [
        (0, "R"),
        (1680, "J"),
    ]


def test_segments_are_neither_many_nor_short() -> None:
    """C10: whatever the windows say, there are at most 8 segments, each a twentieth or longer."""
    for seed in range(5):
        heard = "".join(np.random.default_rng(seed).choice(list("RJPHF"), 400))
        starts = [at for at, _ in find_segments(make_timeline(heard, 0.99))]
        assert len(starts) <= 8
        assert np.diff([*starts, 12000]).min() >= 600
