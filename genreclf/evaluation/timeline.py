"""Smooths the timeline of a long file to a few segments that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # it imports PyTorch
    from genreclf.evaluation.prediction import TimelineEntry

MOST = 8  # segments
SHORTEST = 1 / 20  # of the whole timeline
LEAST = 1e-3  # probability, so that no window outweighs more than its neighbours


def find_segments(timeline: Sequence[TimelineEntry], classes: int = 0) -> list[tuple[float, str]]:
    """Divide a timeline into segments of one genre each: their start in seconds, and the genre.

    Args:
        timeline: the windows in order.
        classes: number of genres that the model knows, over which it spread the probability that is
            left; 0 for those of the timeline.

    Returns:
        The segments in order.

    The sequence of genres is the likeliest one (Viterbi) if each change costs a penalty. The
    penalty is the least that leaves at most 8 segments, none shorter than a twentieth of the whole;
    a timeline that has no more is not changed.
    """
    genres = list(dict.fromkeys(window.genre for window in timeline))
    own = np.array([genres.index(window.genre) for window in timeline])
    scores = np.array([window.score for window in timeline])
    others = np.minimum(scores, (1 - scores) / max(1, max(classes, len(genres)) - 1))
    levels = np.repeat(others[:, None], len(genres), axis=1)
    levels[np.arange(len(own)), own] = scores
    levels = np.log(np.maximum(levels, LEAST))
    starts = np.array([window.start for window in timeline])
    shortest = SHORTEST * (timeline[-1].end - starts[0])
    path, penalty = own, 0.25
    while True:
        first = np.flatnonzero(np.diff(path, prepend=-1))
        lengths = np.diff(starts[first], append=timeline[-1].end)
        if len(first) == 1 or (len(first) <= MOST and lengths.min() >= shortest):
            return [(float(starts[index]), genres[path[index]]) for index in first]
        path, penalty = _find_path(levels, penalty), 1.5 * penalty


def _find_path(levels: np.ndarray, penalty: float) -> np.ndarray:
    """Find the likeliest classes (windows,) of log probabilities (windows, classes)."""
    total = levels[0].copy()
    came_from = np.empty(levels.shape, int)
    stay = np.arange(levels.shape[1])
    for index, level in enumerate(levels[1:], 1):
        best = int(total.argmax())
        changes = total[best] - penalty > total
        came_from[index] = np.where(changes, best, stay)
        total = np.where(changes, total[best] - penalty, total) + level
    path = np.empty(len(levels), int)
    path[-1] = total.argmax()
    for index in range(len(levels) - 1, 0, -1):
        path[index - 1] = came_from[index, path[index]]
    return path
